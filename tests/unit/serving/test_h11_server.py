"""Test the HTTP server of the webhook and the local services, with good, slow and hostile clients on real sockets."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime

import h11
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from sidecar.local.services import HTTP_LIMITS
from sidecar.serving import connection_budget
from sidecar.serving import h11_server as server
from sidecar.serving.connection_budget import Budget
from sidecar.serving.h11_server import Limits, Request, Response, Server, TlsContext
from sidecar.serving.listen import listen
from sidecar.webhook.certificate.issue import renewed
from sidecar.webhook.tls import Tls


class Served:
    def __init__(self, port: int) -> None:
        self.port = port
        self.reported: list[Exception] = []
        self.stop = trio.Event()
        self.is_draining = False

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


LARGE = b"a" * 32 * 1024 * 1024
"""A body that is larger than the buffers of both ends of a socket."""


async def echo(request: Request) -> Response:
    if request.path == "/large":
        return Response(200, LARGE)
    if request.path == "/raise":
        raise ValueError("a bug")
    if request.path == "/unsendable":
        return Response(200, b"", headers=(("X-Reply", "two\r\nlines"),))
    if request.path == "/slow":
        await trio.sleep(3600)
    await trio.lowlevel.checkpoint()
    if request.path == "/echo":
        return Response(200, f"{request.query} {request.header('x-name')}".encode(), headers=(("X-Reply", "1"),))
    return Response(200, f"{request.method} {request.path} {len(request.body)}".encode(), "text/plain")


@asynccontextmanager
async def serving(
    tls: TlsContext | None = None, budget: Budget | None = None, limits: Limits | None = None
) -> AsyncIterator[Served]:
    listeners = listen("--listen", ("127.0.0.1", 0))
    served = Served(listeners[0].getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(
            Server(
                echo,
                served.reported.append,
                budget=budget or Budget(),
                limits=limits or Limits(),
                tls=tls,
                is_draining=lambda: served.is_draining,
                stop=served.stop,
            ).serve,
            listeners,
        )
        yield served
        served.stop.set()


async def all_of(stream: trio.SocketStream) -> bytes:
    received = b""
    async for piece in stream:
        received += piece
    return received


async def until(stream: trio.SocketStream, end: bytes, times: int = 1) -> bytes:
    """Receive until the bytes end with `end`, which must occur `times` times."""
    received = b""
    while not received.endswith(end) or received.count(end) < times:
        piece = await stream.receive_some()
        assert piece, received
        received += piece
    return received


POST = b"POST /inject?timeout=10s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


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


async def test_too_long_body_is_rejected_before_it_arrives() -> None:
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


async def test_response_that_cannot_be_sent_is_reported() -> None:
    async with serving() as served:
        async with await served.connect() as stream:
            await stream.send_all(b"GET /unsendable HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await all_of(stream) == b""
        async with await served.connect() as stream:
            await stream.send_all(POST)
            await until(stream, b"POST /inject 3")
        assert [type(exc) for exc in served.reported] == [h11.LocalProtocolError]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"])
async def test_client_that_leaves_is_not_reported(sent: bytes) -> None:
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
    """An incomplete request ends when the client closes its side of the stream."""
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


async def test_oldest_unread_response_gives_way_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is empty at the end."""
    monkeypatch.setattr(connection_budget, "MAX_WAITING_BYTES", 2 * server.RESPONSE_COPIES * len(LARGE))
    budget = Budget()
    async with serving(budget=budget) as served, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await served.connect()) for _ in range(3)]
        for count, stream in enumerate(streams):
            await stream.send_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            while len(budget.writing) < min(count + 1, 2):
                await trio.testing.wait_all_tasks_blocked(0.001)
        with suppress(trio.BrokenResourceError):
            assert len(await all_of(streams[0])) < len(LARGE)
        received = 0
        while received < len(LARGE):
            received += len(await streams[1].receive_some())
        await streams[2].aclose()
        while budget.writing:
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert budget.waiting_bytes == 0


async def test_client_without_a_handshake_is_disconnected(autojump_clock: MockClock) -> None:
    tls = Tls()
    tls.use(renewed(None, ["127.0.0.1"], datetime.now(UTC)).serving)
    async with serving(lambda: tls.context) as served, await served.connect() as stream:
        began_at = trio.current_time()
        assert await all_of(stream) == b""
        assert trio.current_time() - began_at == pytest.approx(server.HANDSHAKE_SECONDS, abs=1)


HALF = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\n", HALF + b"a"])
async def test_oldest_waiting_connection_is_closed_for_a_new_one(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connection_budget, "MAX_CONNECTIONS", 2)
    async with serving() as served, await served.connect() as oldest, await served.connect() as newer:
        for stream in (oldest, newer):
            await stream.send_all(sent) if sent else None
            await trio.testing.wait_all_tasks_blocked(0.01)
        async with await served.connect() as honest:
            await honest.send_all(POST)
            await until(honest, b"POST /inject 3")
            assert await all_of(oldest) == b""
        assert served.reported == []


async def test_connection_in_its_handshake_is_closed_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_budget, "MAX_CONNECTIONS", 1)
    tls = Tls()
    tls.use(renewed(None, ["127.0.0.1"], datetime.now(UTC)).serving)
    async with serving(lambda: tls.context) as served, await served.connect() as silent:
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with await served.connect() as newer:
            assert await all_of(silent) == b""
            await trio.testing.wait_all_tasks_blocked(0.01)
            await newer.send_all(b"GET / HTTP/1.1\r\n\r\n")
            assert b"HTTP" not in await all_of(newer)
        assert served.reported == []


async def test_oldest_incomplete_body_is_closed_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_budget, "MAX_WAITING_BYTES", 1500)
    async with serving() as served, await served.connect() as one, await served.connect() as other:
        for stream in (one, other):
            await stream.send_all(HALF + b"a" * 800)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await all_of(one) == b""
        await other.send_all(b"a" * 200)
        await until(other, b"POST / 1000")
        async with await served.connect() as next_one:
            await next_one.send_all(HALF + b"a" * 1000)
            await until(next_one, b"POST / 1000")


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
async def test_server_without_bodies_rejects_after_the_head(head: bytes) -> None:
    async with serving(limits=Limits(max_body_bytes=0)) as served, await served.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        assert (await all_of(stream)).startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 411 "))
        async with await served.connect() as honest:
            await honest.send_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(honest, b"GET /livez 0")


@pytest.mark.parametrize("sent", [b"a" * 4000, b"POST / HTTP/1.1\r\nX: " + b"a" * 4000], ids=["body", "head"])
async def test_request_in_too_many_pieces_is_rejected(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """Each piece has one byte, in the head or in the body. The number of pieces limits the work per request."""
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


async def test_listeners_share_one_budget_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_budget, "MAX_WAITING_BYTES", 1500)
    budget = Budget()
    async with (
        serving(budget=budget) as one,
        serving(budget=budget) as other,
        await one.connect() as first,
        await other.connect() as second,
    ):
        await first.send_all(HALF + b"a" * 800)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await second.send_all(HALF + b"a" * 800)
        assert await all_of(first) == b""
        await second.send_all(b"a" * 200)
        await until(second, b"POST / 1000")
    assert budget.waiting_bytes == 0


async def test_listeners_share_one_budget_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_budget, "MAX_CONNECTIONS", 1)
    budget = Budget()
    async with serving(budget=budget) as one, serving(budget=budget) as other, await one.connect() as silent:
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with await other.connect() as newer:
            assert await all_of(silent) == b""
            await newer.send_all(POST)
            await until(newer, b"POST /inject 3")


async def test_client_that_completed_a_request_gives_way_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server keeps connections, and its client does not repeat a POST when one is closed."""
    monkeypatch.setattr(connection_budget, "MAX_CONNECTIONS", 2)
    async with serving() as served, await served.connect() as known:
        await known.send_all(POST)
        await until(known, b"POST /inject 3")
        async with await served.connect() as stranger:
            await trio.testing.wait_all_tasks_blocked(0.01)
            async with await served.connect() as newer:
                assert await all_of(stranger) == b""
                await newer.send_all(POST)
                await until(newer, b"POST /inject 3")
        await known.send_all(POST)
        await until(known, b"POST /inject 3")


async def test_stop_waits_for_responses_and_closes_idle_connections() -> None:
    async with serving() as served, await served.connect() as idle, await served.connect() as busy:
        await busy.send_all(POST[:-1])
        await trio.testing.wait_all_tasks_blocked(0.01)
        served.stop.set()
        assert await all_of(idle) == b""
        await busy.send_all(POST[-1:])
        assert b"Connection: close" in await all_of(busy)


async def test_each_response_is_the_last_while_draining() -> None:
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
