"""
Test faults that clients, browsers and attackers cause at the credentials endpoint, one test for each fault.

The tests run the whole daemon on a real socket in virtual time, or as a process if the fault needs a process.
"""

import json
import struct
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import trio
from trio.testing import MockClock

from sidecar.serving.server import CLIENT_GONE
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange
from tests.support.fakes.kubelet import FakeVolume
from tests.support.processes import get, low_on_descriptors, pod_environment, run_daemon, scripted_sts
from tests.support.served import GET, SECRET, Served, read_to_the_end, serving, settle, status_of

LINE, HOST, REST = GET.partition(b"Host: 127.0.0.1\r\n")
AUTHORIZATION = f"Authorization: {SECRET}\r\n".encode()


def with_header(header: bytes) -> bytes:
    """Return a valid request with one more header line."""
    return LINE + HOST + header + REST


async def test_client_with_slow_headers_gets_a_408(autojump_clock: MockClock, served: Served) -> None:
    """
    A client is slow or silent before or during its headers.

    The client gets a 408 within five seconds after it connects, even if it continues to send bytes.
    """
    start = trio.current_time()
    assert status_of(await served.send(b"")) == 408
    assert 4 <= trio.current_time() - start < 5
    slow = await served.connect()
    await slow.send_all(GET[:20])
    with trio.move_on_after(3):
        while True:
            await trio.sleep(1)
            await slow.send_all(b"a")
    assert status_of(await read_to_the_end(slow)) == 408


async def test_request_above_the_size_limit_gets_a_431(autojump_clock: MockClock, served: Served) -> None:
    """
    A client sends a very long line, 100,000 headers, or a target of 10 MiB.

    The client gets a 431 as soon as the request exceeds the size limit. The daemon does not wait for the whole request.
    """
    for flood in (LINE + b"A: b\r\n" * 100_000, LINE + b"A: " + b"b" * 20_000, b"GET /" + b"a" * 10 * 1024 * 1024):
        assert status_of(await served.send(flood)) == 431
    assert status_of(await served.send(GET)) == 200


async def test_smuggled_request_gets_no_response(autojump_clock: MockClock, served: Served) -> None:
    """
    A client smuggles a request through framing, a bare LF, folded headers or chunks.

    The client gets one 400. The daemon reads nothing after the ambiguous request as another request.
    """
    chunked = b"Transfer-Encoding: chunked\r\n"
    shapes = [
        with_header(b"Content-Length: 6\r\n" + chunked) + b"0\r\n\r\nG",
        with_header(chunked) + b"zz\r\n\r\n" + GET,
        with_header(b"A: b\n"),
        with_header(b"A: b\r\n c\r\n"),
    ]
    for shape in shapes:
        assert status_of(await served.send(shape)) == 400
    assert served.statuses == {400: len(shapes)}


async def test_foreign_host_or_absolute_target_is_denied(autojump_clock: MockClock, served: Served) -> None:
    """
    A request has a foreign Host (DNS rebinding) or an absolute target.

    A foreign Host gets a 403 even with the right secret. An absolute target gets a 400.
    """
    for host in (b"attacker.example", b"127.0.0.1.attacker.example", b"169.254.170.2"):
        assert status_of(await served.send(LINE + b"Host: " + host + b"\r\n" + REST)) == 403
    absolute = GET.replace(b"GET /", b"GET http://127.0.0.1/")
    assert status_of(await served.send(absolute)) == 400


async def test_request_of_a_proxy_or_a_web_page_gets_a_403(autojump_clock: MockClock, served: Served) -> None:
    """
    A proxy forwards a request, or a web page sends a request.

    The client gets a 403 even with the right secret. The daemon rejects headers that only proxies or browsers send.
    """
    for header in (b"X-Forwarded-For: 10.0.0.1", b"Origin: http://evil.example", b"Sec-Fetch-Mode: no-cors"):
        assert status_of(await served.send(with_header(header + b"\r\n"))) == 403


async def test_invalid_authorization_is_denied_without_the_secret(autojump_clock: MockClock, served: Served) -> None:
    """
    Authorization is missing, wrong, sent twice, or not ASCII.

    The client gets a 401, 403 or 400 with JSON that every SDK can read. The response does not contain the secret.
    """
    wrong = {
        b"": 401,
        b"Authorization: wrong\r\n": 403,
        AUTHORIZATION + AUTHORIZATION: 400,
        "Authorization: gehéim\r\n".encode(): 403,
    }
    for header, status in wrong.items():
        response = await served.send(GET.replace(AUTHORIZATION, header))
        assert status_of(response) == status
        assert b"\r\nContent-Type: application/json\r\n" in response
        body = json.loads(response.partition(b"\r\n\r\n")[2])
        assert set(body) == {"code", "message", "Code", "Message"}
        assert SECRET not in str(body)


async def test_other_method_version_or_tls_is_rejected(autojump_clock: MockClock, served: Served) -> None:
    """
    A client uses another method, another HTTP version, or TLS.

    The client gets a 405, 505 or 400, and the daemon closes the connection.
    """
    others = {
        GET.replace(b"GET", b"HEAD"): 405,
        GET.replace(b"GET", b"POST"): 405,
        b"CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n": 405,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500: 400,
    }
    for request, status in others.items():
        assert status_of(await served.send(request)) == status


async def test_only_the_first_pipelined_request_gets_a_response(autojump_clock: MockClock, served: Served) -> None:
    """
    A client pipelines requests, or sends `Connection: keep-alive`.

    The daemon responds to the first request, closes the connection, and does not read the rest as a request.
    """
    assert status_of(await served.send(GET * 20)) == 200
    assert status_of(await served.send(with_header(b"Connection: keep-alive\r\n"), GET)) == 200
    assert served.statuses == {200: 2}


async def test_failing_client_does_not_affect_other_clients(autojump_clock: MockClock, served: Served) -> None:
    """
    A client half-closes or resets its connection, or never reads.

    The daemon responds after a half-close. It counts clients that reset the connection or do not read for 5 s.
    """
    assert status_of(await served.send(GET, ends=True)) == 200
    await _leave_at_once(served)
    _grow_response(served)
    deaf = await served.connect()
    await deaf.send_all(GET)
    await trio.sleep(6)
    assert served.statuses == {200: 1, CLIENT_GONE: 2}


async def _leave_at_once(served: Served) -> None:
    client = await served.connect()
    await client.send_all(GET[:-2])
    await settle()
    # A close with a linger time of zero makes the kernel send RST (socket(7), SO_LINGER).
    client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.aclose()
    await settle()


def _grow_response(served: Served) -> None:
    """Make the credentials larger than every socket buffer."""
    store = served.daemon.role.store
    assert store.snapshot is not None
    now = store.snapshot.credentials
    later = now.expires_at + timedelta(seconds=1)
    large = now._replace(session_token="x" * 32 * 1024 * 1024, expires_at=later)
    store.replace(large, store.snapshot.expires, served.daemon.clock.now())


async def test_connection_flood_does_not_stop_service(tmp_path: Path) -> None:
    """
    Clients open more connections than the daemon has file descriptors.

    The daemon closes the connection with the longest idle time, serves honest clients, and continues to run.
    """
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url), prelude=low_on_descriptors(64)) as running,
        AsyncExitStack() as idle,
    ):
        await running.logged("credentials_refreshed")
        for _ in range(200):
            await idle.enter_async_context(await trio.open_tcp_stream(*running.address))
        assert [(await get(running.url))[0] for _ in range(5)] == [200] * 5


async def test_early_sdk_request_waits_and_then_gets_a_503(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    An SDK sends a request before the first credentials exist.

    The request waits up to 0.8 s for the credentials, and then gets a 503 with the reason.
    """
    sts = FakeExchange(wall.time)
    sts.latency_seconds = 1.5
    async with serving(autojump_clock, wall, volume, sts) as served:
        start = trio.current_time()
        assert status_of(await served.send(GET)) == 503
        assert 0.8 <= trio.current_time() - start < 1
        assert status_of(await served.send(GET)) == 200
        assert 1.5 <= trio.current_time() - start < 1.6


async def test_burst_of_requests_causes_no_call_to_sts(autojump_clock: MockClock, served: Served) -> None:
    """
    A thousand requests arrive in bursts.

    The daemon responds to each request from memory, without a call to STS.
    """
    for _ in range(10):  # a hundred in parallel, so that the test works with a low limit of open files
        async with trio.open_nursery() as burst:
            for _ in range(100):
                burst.start_soon(served.send, GET)
    assert served.statuses == {200: 1000}
    assert len(served.sts.called_at) == 1
