"""Test the HTTP server of the webhook and the local services, with good, slow and hostile clients on real sockets."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from sidecar.local.services import HTTP_LIMITS
from sidecar.serving import http_server as server
from sidecar.serving.http_message import Request, Response
from sidecar.serving.http_server import Limits, Server
from sidecar.webhook.certificate.issue import renewed
from sidecar.webhook.tls import Tls
from tests.unit.serving.running_http_server import LARGE, POST, Served, all_of, echo, serving, until


async def test_connection_carries_several_requests() -> None:
    async with serving() as served, await served.connect() as stream:
        for byte in POST:
            await stream.send_all(bytes([byte]))
        await until(stream, b"POST /inject 3")
        await stream.send_all(POST + POST)
        received = await until(stream, b"POST /inject 3", times=2)
        assert received.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("method", [b"HEAD", b"OPTIONS", b"TRACE", b"PURGE", b"DELETE"])
async def test_every_method_gets_a_response(method: bytes) -> None:
    """The response to HEAD has the length of a body that is not sent (RFC 9110, section 9.3.2)."""
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(method + b" /inject HTTP/1.1\r\nHost: x\r\n\r\n" + POST)
        received = await until(stream, b"POST /inject 3")
        body = method + b" /inject 0"
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert f"Content-Length: {len(body)}".encode() in head
        assert rest.startswith(b"HTTP/1.1" if method == b"HEAD" else body)
        assert not served.reported


async def test_client_that_expects_100_continue_gets_100() -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        assert (await until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"a")
        await until(stream, b"POST / 1")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000, b"431"),
    ],
)
async def test_invalid_request_ends_its_connection(sent: bytes, status: bytes) -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(sent)
        assert (await all_of(stream)).startswith(b"HTTP/1.1 " + status)
        assert not served.reported


async def test_body_over_the_limit_is_rejected_before_it_arrives() -> None:
    async with serving(limits=Limits(max_body_bytes=1000)) as served, await served.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 2000)
        assert (await until(stream, b"too long.\n")).startswith(b"HTTP/1.1 413")


async def test_unexpected_exception_ends_only_its_connection() -> None:
    async with serving() as served:
        async with await served.connect() as stream:
            await stream.send_all(b"GET /raise HTTP/1.1\r\nHost: x\r\n\r\n")
            response = await all_of(stream)
            assert response.startswith(b"HTTP/1.1 500 ")
            assert b"Connection: close" in response
        async with await served.connect() as stream:
            await stream.send_all(POST)
            await until(stream, b"POST /inject 3")
        assert [type(exc) for exc in served.reported] == [ValueError]


async def test_socket_without_tcp_options_ends_only_its_connection(tmp_path: Path) -> None:
    """
    On macOS, the kernel rejects TCP_NODELAY for a connection that the client has already reset.

    A socket of another family rejects this option on every system.
    """
    reported: list[Exception] = []
    server = Server(echo, reported.append)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    listener.settimeout(0)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, [listener])
        for _ in range(2):
            async with await trio.open_unix_socket(tmp_path / "socket") as client:
                assert await client.receive_some() == b""
        server.stop.set()
    assert reported == []


async def test_response_that_cannot_be_sent_is_reported() -> None:
    async with serving() as served:
        async with await served.connect() as stream:
            await stream.send_all(b"GET /unsendable HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await all_of(stream) == b""
        async with await served.connect() as stream:
            await stream.send_all(POST)
            await until(stream, b"POST /inject 3")
        assert [type(exc) for exc in served.reported] == [ValueError]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"])
async def test_client_that_disconnects_is_not_reported(sent: bytes) -> None:
    async with serving() as served:
        async with await served.connect() as stream:
            await stream.send_all(sent)
        async with await served.connect() as stream:
            await stream.send_all(POST)
            await until(stream, b"POST /inject 3")
        assert served.reported == []


async def test_handler_gets_query_and_headers() -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(b"GET /echo?b=c HTTP/1.1\r\nHost: x\r\nX-Name: y\r\n\r\n")
        head, _, body = (await until(stream, b"b=c y")).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/json",
        b"Content-Length: 5",
        b"X-Reply: 1",
    ]
    assert body == b"b=c y"


async def test_local_services_close_after_each_response() -> None:
    async with serving(limits=HTTP_LIMITS) as served, await served.connect() as stream:
        await stream.send_all(POST + POST)
        response = await all_of(stream)
    assert response.count(b"HTTP/1.1 200 OK") == 1
    assert b"Connection: close" in response


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n", b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + b"x" * 262_145, b"413"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", b"400"),
    ],
    ids=["no request line", "no Host", "long target", "too long target", "too long body", "incomplete body"],
)
async def test_local_services_have_limits_for_requests(sent: bytes, status: bytes) -> None:
    """Let the client close its side of the stream after the request, so that an incomplete request ends."""
    async with serving(limits=HTTP_LIMITS) as served:
        async with await served.connect() as stream:
            await stream.send_all(sent)
            await stream.send_eof()
            assert (await all_of(stream)).startswith(b"HTTP/1.1 " + status)
        async with await served.connect() as stream:
            await stream.send_all(POST)
            assert (await all_of(stream)).startswith(b"HTTP/1.1 200 ")
        assert served.reported == []


async def test_response_after_the_deadline_is_abandoned(autojump_clock: MockClock) -> None:
    async with serving(limits=HTTP_LIMITS) as served, await served.connect() as stream:
        began_at = trio.current_time()
        await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await all_of(stream) == b""
        assert trio.current_time() - began_at == pytest.approx(HTTP_LIMITS.respond_seconds, abs=1)


def test_repr_of_messages_contains_no_secret() -> None:
    request = Request("POST", "/?X-Amz-Security-Token=s3cret", (("authorization", "s3cret"),), b"s3cret")
    assert "s3cret" not in repr(request) + repr(Response(200, b"s3cret", "text/xml"))


async def test_slow_or_idle_client_is_disconnected(autojump_clock: MockClock) -> None:
    async with serving() as served:
        for sent, seconds in ((b"POST / HTTP/1.1\r\n", server.READ_SECONDS), (b"", server.IDLE_SECONDS)):
            async with await served.connect() as stream:
                began_at = trio.current_time()
                await stream.send_all(sent) if sent else None
                assert await all_of(stream) == b""
                assert trio.current_time() - began_at == pytest.approx(seconds, abs=1)


async def test_client_that_does_not_read_is_disconnected(autojump_clock: MockClock) -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.sleep(server.WRITE_SECONDS + server.CLOSE_SECONDS + 1)
        received = 0
        with suppress(trio.BrokenResourceError):
            async for piece in stream:
                received += len(piece)
        assert 0 < received < len(LARGE)


async def test_client_without_a_handshake_is_disconnected(autojump_clock: MockClock) -> None:
    tls = Tls()
    tls.use(renewed(None, ["127.0.0.1"], datetime.now(UTC)).serving)
    async with serving(lambda: tls.context) as served, await served.connect() as stream:
        began_at = trio.current_time()
        assert await all_of(stream) == b""
        assert trio.current_time() - began_at == pytest.approx(server.HANDSHAKE_SECONDS, abs=1)


@asynccontextmanager
async def serving_tls() -> AsyncIterator[tuple[Served, trio.SSLStream[trio.SocketStream]]]:
    """Serve over TLS, and yield a client that uses trio's TLS streams instead of ours."""
    tls = Tls()
    pair = renewed(None, ["127.0.0.1"], datetime.now(UTC)).serving
    tls.use(pair)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with serving(lambda: tls.context) as served, await served.connect() as stream:
        yield served, trio.SSLStream(stream, trusting, server_hostname="127.0.0.1", https_compatible=False)


async def test_tls_carries_large_requests_and_responses() -> None:
    """Each record of TLS has at most 16 KiB, and the kernel accepts only a part of a large response at once."""
    async with serving_tls() as (served, stream):
        await stream.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"a" * 3_000_000 + POST
        )
        await until(stream, b"POST /inject 3")
        await stream.send_all(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        response = bytearray()
        async for piece in stream:  # trio raises an exception if the server does not end TLS
            response += piece
        assert response.endswith(LARGE)
        assert served.reported == []


async def test_tls_request_in_pieces_gets_its_response() -> None:
    async with serving_tls() as (served, stream):
        for byte in POST:
            await stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        await until(stream, b"POST /inject 3")
        served.stop.set()
        assert await stream.receive_some() == b""


CHUNKED = b"POST /inject HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("encoding", [b"chunked", b"CHUNKED", b"identity", b"gzip, chunked"])
async def test_transfer_encoding_is_rejected_before_any_chunk_is_read(encoding: bytes) -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(CHUNKED.replace(b"chunked", encoding) + b"1\r\na\r\n" * 5_000)
        response = await all_of(stream)
        assert response.startswith((b"HTTP/1.1 411 ", b"HTTP/1.1 501 ", b"HTTP/1.1 400 "))
        assert b"Connection: close" in response
    assert served.reported == []


@pytest.mark.parametrize("head", [b"Content-Length: 1", b"Content-Length: 4000000", b"Transfer-Encoding: chunked"])
async def test_request_with_a_forbidden_body_is_rejected_at_once(head: bytes) -> None:
    async with serving(limits=Limits(max_body_bytes=0)) as served, await served.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        assert (await all_of(stream)).startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 411 "))
        async with await served.connect() as honest:
            await honest.send_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(honest, b"GET /livez 0")


@pytest.mark.parametrize("sent", [b"a" * 4000, b"POST / HTTP/1.1\r\nX: " + b"a" * 4000], ids=["body", "head"])
async def test_request_in_too_many_pieces_is_rejected(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """Each piece has one byte, in the head or in the body. A limit for pieces also limits the work per request."""
    head = b"" if sent.startswith(b"POST") else b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n"
    monkeypatch.setattr(server, "CLOSE_SECONDS", 0.0)
    count = 0
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(head)
        with suppress(trio.BrokenResourceError):
            for byte in sent:
                await stream.send_all(bytes([byte]))
                count += 1
                await trio.testing.wait_all_tasks_blocked()
        assert count <= server.MAX_PIECES + 20
    assert served.reported == []


async def test_request_in_segments_of_1_kib_is_read() -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1024000\r\n\r\n")
        for _ in range(1000):
            await stream.send_all(b"a" * 1024)
            await trio.testing.wait_all_tasks_blocked()
        await until(stream, b"POST / 1024000")


async def test_stop_waits_for_responses_and_closes_idle_connections() -> None:
    async with serving() as served, await served.connect() as idle, await served.connect() as busy:
        await busy.send_all(POST[:-1])
        await trio.testing.wait_all_tasks_blocked(0.01)
        served.stop.set()
        assert await all_of(idle) == b""
        await busy.send_all(POST[-1:])
        assert b"Connection: close" in await all_of(busy)


async def test_draining_server_closes_after_each_response() -> None:
    async with serving() as served, await served.connect() as before:
        await before.send_all(POST)
        assert b"Connection: close" not in await until(before, b"POST /inject 3")
        served.is_draining = True
        for stream in (before, await served.connect()):
            async with stream:
                await stream.send_all(POST)
                response = await all_of(stream)
                assert b"Connection: close" in response
                assert response.endswith(b"POST /inject 3")
