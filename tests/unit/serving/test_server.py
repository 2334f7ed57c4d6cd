"""
Test the server on real loopback sockets, with slow, broken and hostile clients.

Time is virtual. The clock jumps when nothing has happened on any socket for a moment, so deadlines take no real time.
"""

import errno
import resource
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from sidecar.clock import Instant
from sidecar.serving.container_credentials import Hold, Response
from sidecar.serving.http import MAX_HEAD_BYTES, Request, error_response, parse, response
from sidecar.serving.listen import listen
from sidecar.serving.server import CLIENT_GONE, Limits, connection_limit, serve

GET = b"GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
OK = Response(200, response(200, b"{}"))
NOT_YET = Response(503, error_response(503, "not yet"), hold=Hold.CREDENTIALS)
Listener = TypeVar("Listener", bound=socket.socket)
HEAD_SECONDS = Limits().head_seconds


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Return a clock that jumps after a moment in which the kernel delivers the sent bytes."""
    autojump_clock.autojump_threshold = 0.02
    return autojump_clock


@dataclass
class Server:
    """A running server with a handler (server.Handler) that a test configures, and that records its calls."""

    decide: Callable[[Request, Instant], Response] = lambda _request, _now: OK
    on_observe: Callable[[], object] = lambda: None
    arrival: Callable[[], Awaitable[None]] | None = None
    on_report: Callable[[Exception], object] | None = None
    limits: Limits = field(default_factory=Limits)
    listeners: list[socket.socket] = field(default_factory=lambda: listen("LISTEN", ("127.0.0.1", 0)))
    requests: list[Request] = field(default_factory=list)
    client_addresses: list[Any] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    addresses: list[Any] = field(default_factory=list)
    clients: list[trio.SocketStream] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    ready: trio.Event = field(default_factory=trio.Event)
    stop: trio.Event = field(default_factory=trio.Event)
    stopped: trio.Event = field(default_factory=trio.Event)

    parse = staticmethod(parse)

    def now(self) -> Instant:
        return Instant(0.0, trio.current_time())

    def respond(self, request: Request, now: Instant, sock: socket.socket) -> Response:
        self.requests.append(request)
        with suppress(OSError):  # the client may have disconnected
            self.client_addresses.append(sock.getpeername())
        return self.decide(request, now)

    def observe(self, response: Response, address: Any) -> None:
        self.statuses.append(response.status)
        self.addresses.append(address)
        self.on_observe()

    def report(self, error: Exception) -> None:
        (self.on_report or self.failures.append)(error)

    async def wait(self, _response: Response) -> None:
        await (self.arrival or self.ready.wait)()

    def __post_init__(self) -> None:
        self.address = self.listeners[0].getsockname()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await serve(self.listeners, self, limits=self.limits, stop=self.stop, task_status=task_status)
        self.stopped.set()

    async def connect(self) -> trio.SocketStream:
        client = await trio.open_tcp_stream(*self.address)
        self.clients.append(client)
        return client

    async def send(self, *pieces: bytes) -> bytes:
        """Send the pieces one by one, and read until the end."""
        async with await self.connect() as client:
            for piece in pieces:
                await client.send_all(piece)
                await trio.testing.wait_all_tasks_blocked(0.001)
            return await read_all(client)

    def connect_at_once(self, request: bytes = b"") -> trio.SocketStream:
        """Connect and send, so that the request arrives before the accept, as with most clients."""
        client = socket.create_connection(self.address)
        client.sendall(request)
        return trio.SocketStream(trio.socket.from_stdlib_socket(client))

    async def ask_at_once(self, request: bytes) -> bytes:
        async with self.connect_at_once(request) as client:
            return await read_all(client)


async def read_all(client: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in client])


def status_of(whole: bytes) -> int:
    return int(whole.split(b" ", 2)[1])


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Server]:
    server = Server(**options)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            yield server
            nursery.cancel_scope.cancel()
    finally:
        for client in server.clients:
            client.socket.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as server:
        yield server
        assert server.failures == []


async def settle() -> None:
    """Wait until the server has read all sent bytes."""
    await trio.testing.wait_all_tasks_blocked(0.01)


async def test_request_is_answered_and_observed_with_its_address(clock: MockClock, server: Server) -> None:
    async with await server.connect() as client:
        await client.send_all(GET)
        assert await read_all(client) == OK.content
        assert server.addresses == server.client_addresses == [client.socket.getsockname()]
    assert await server.ask_at_once(GET) == OK.content
    assert server.client_addresses == server.addresses
    assert server.statuses == [200, 200]


async def test_handler_gets_the_parsed_request(clock: MockClock, server: Server) -> None:
    await server.send(GET)
    assert [request.path for request in server.requests] == [b"/v1/credentials"]


async def test_request_in_single_bytes_gets_the_same_response(clock: MockClock, server: Server) -> None:
    assert await server.send(*[GET[i : i + 1] for i in range(len(GET))]) == OK.content


async def test_many_concurrent_clients_are_all_answered(clock: MockClock, server: Server) -> None:
    responses: list[bytes] = []

    async def one() -> None:
        responses.append(await server.send(GET))

    async with trio.open_nursery() as clients:
        for _ in range(200):
            clients.start_soon(one)
    assert responses == [OK.content] * 200


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost"], ids=["silent", "mid-header"])
async def test_slow_request_gets_408(clock: MockClock, server: Server, sent: bytes) -> None:
    start = trio.current_time()
    async with await server.connect() as client:
        await client.send_all(sent)
        assert status_of(await read_all(client)) == 408
    assert trio.current_time() - start >= HEAD_SECONDS


async def test_single_bytes_do_not_extend_the_deadline(clock: MockClock, server: Server) -> None:
    async with await server.connect() as client:
        await client.send_all(b"GET / HTTP/1.1\r\nA: ")
        for _ in range(int(HEAD_SECONDS)):
            await client.send_all(b"a")
            await trio.sleep(1)
        assert status_of(await read_all(client)) == 408


async def test_client_gets_its_rejection_while_it_still_sends(clock: MockClock, server: Server) -> None:
    body = b"x" * 50_000
    denied = await server.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n", body)
    assert status_of(denied) == 405
    assert server.statuses == [405]


async def test_head_over_the_limit_is_rejected_while_it_is_sent(clock: MockClock, server: Server) -> None:
    assert status_of(await server.send(b"GET /" + b"a" * 3 * MAX_HEAD_BYTES)) == 431


async def test_client_that_never_stops_sending_is_disconnected(clock: MockClock, server: Server) -> None:
    async with await server.connect() as client:
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"\x16" * 64 * 1024 * 1024)


async def test_half_closed_request_is_answered(clock: MockClock, server: Server) -> None:
    async with await server.connect() as client:
        await client.send_all(GET)
        await client.send_eof()
        assert await read_all(client) == OK.content


async def test_request_that_ends_early_is_rejected(clock: MockClock, server: Server) -> None:
    async with await server.connect() as client:
        await client.send_all(GET[:-2])
        await client.send_eof()
        assert status_of(await read_all(client)) == 400


async def test_second_request_on_a_connection_is_not_read(clock: MockClock, server: Server) -> None:
    assert await server.send(GET + GET) == OK.content
    assert await server.ask_at_once(GET + GET) == OK.content
    assert server.statuses == [200, 200]


async def test_client_that_sends_too_much_gets_no_reset(clock: MockClock, server: Server) -> None:
    assert await server.ask_at_once(GET + b"x" * 8192) == OK.content


async def test_port_probe_is_not_observed(clock: MockClock, server: Server) -> None:
    await (await server.connect()).aclose()
    await reset(server.connect_at_once())
    silent = await server.connect()
    await settle()
    await reset(silent)
    await settle()
    assert await server.send(GET) == OK.content
    assert server.statuses == [200]


async def reset(client: trio.SocketStream) -> None:
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.aclose()


async def test_client_that_resets_during_its_request_is_counted(clock: MockClock, server: Server) -> None:
    client = await server.connect()
    await client.send_all(GET[:10])
    await settle()
    await reset(client)
    await settle()
    assert server.statuses == [CLIENT_GONE]
    assert await server.send(GET) == OK.content


async def test_client_that_resets_after_its_request_is_counted(clock: MockClock, server: Server) -> None:
    await reset(server.connect_at_once(GET))
    await settle()
    assert server.statuses == [CLIENT_GONE]


async def test_client_that_resets_while_held_is_counted(clock: MockClock, server: Server) -> None:
    server.decide = lambda _request, _now: OK if server.ready.is_set() else NOT_YET
    client = await server.connect()
    await client.send_all(GET)
    await settle()
    await reset(client)
    server.ready.set()
    await settle()
    assert server.statuses == [CLIENT_GONE]


async def test_client_that_never_reads_is_counted_at_the_deadline(clock: MockClock, server: Server) -> None:
    server.decide = lambda _request, _now: Response(200, b"x" * 32 * 1024 * 1024)
    async with await server.connect() as client:
        await client.send_all(GET)
        await trio.sleep(Limits().write_seconds + 1)
        assert server.statuses == [CLIENT_GONE]


async def test_response_larger_than_the_buffer_arrives_whole(clock: MockClock, server: Server) -> None:
    large = Response(200, b"0123456789" * 800_000)
    server.decide = lambda _request, _now: large
    assert await server.send(GET) == large.content
    assert await server.ask_at_once(GET) == large.content


async def test_early_request_is_answered_when_credentials_arrive(clock: MockClock, server: Server) -> None:
    server.decide = lambda _request, _now: OK if server.ready.is_set() else NOT_YET
    start = trio.current_time()
    async with await server.connect() as client:
        await client.send_all(GET)
        await settle()
        assert server.statuses == []
        server.ready.set()
        assert await read_all(client) == OK.content
        assert server.client_addresses == [client.socket.getsockname()] * 2
    assert trio.current_time() == start


async def test_credentials_before_the_held_task_starts_are_served(clock: MockClock, server: Server) -> None:
    server.decide = lambda _request, _now: OK if len(server.requests) > 1 else NOT_YET
    start = trio.current_time()
    assert await server.ask_at_once(GET) == OK.content
    assert trio.current_time() == start


async def test_held_request_gets_503_at_the_deadline(clock: MockClock, server: Server) -> None:
    server.decide = lambda _request, _now: NOT_YET
    start = trio.current_time()
    assert await server.send(GET) == NOT_YET.content
    assert trio.current_time() - start >= Limits().hold_seconds
    assert server.statuses == [503]


async def test_oldest_idle_client_is_evicted_over_the_limit(clock: MockClock) -> None:
    async with running(limits=Limits(connections=2)) as server:
        first, second, third = [await server.connect() for _ in range(3)]
        assert status_of(await read_all(first)) == 503
        assert await server.ask_at_once(GET) == OK.content
        for client in (second, third):
            await client.send_all(GET)
            assert await read_all(client) == OK.content


async def test_newest_silent_clients_of_a_pass_are_kept(clock: MockClock) -> None:
    async with running(limits=Limits(connections=2)) as server:
        *early, late, last = [server.connect_at_once() for _ in range(8)]  # accepted in one pass
        for client in early:
            assert status_of(await read_all(client)) == 503
            await client.aclose()
        for client in (late, last):
            await client.send_all(GET)
            assert await read_all(client) == OK.content
            await client.aclose()


async def test_lingering_client_is_evicted_over_the_limit(clock: MockClock) -> None:
    async with running(limits=Limits(connections=1)) as server:
        denied = await server.connect()
        await denied.send_all(b"\x16")
        assert status_of(await read_all(denied)) == 400
        late = await server.connect()
        await settle()
        await late.send_all(GET)
        assert await read_all(late) == OK.content


async def test_connection_over_the_limit_of_held_requests_is_dropped(clock: MockClock) -> None:
    async with running(decide=lambda _request, _now: NOT_YET, limits=Limits(connections=1)) as server:
        held = await server.connect()
        await held.send_all(GET)
        await settle()
        start = trio.current_time()
        assert await server.ask_at_once(GET) == NOT_YET.content
        assert status_of(await server.send()) == 503
        assert trio.current_time() == start
        assert await read_all(held) == NOT_YET.content


class Exhausted(socket.socket):
    """A listener whose next accepts fail, or that has only `descriptors` free for open connections."""

    errors: tuple[int, ...] = ()
    descriptors: int | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        if self.errors:
            error, *rest = self.errors
            self.errors = tuple(rest)
            raise OSError(error, "from the kernel")
        if self.descriptors is not None and self.descriptors <= sum(sock.fileno() >= 0 for sock in self.accepted):
            raise OSError(errno.EMFILE, "Too many open files")
        sock, peer = super().accept()
        self.accepted.append(sock)
        return sock, peer

    @cached_property
    def accepted(self) -> list[socket.socket]:
        return []


class FailingSend(socket.socket):
    """A connection whose first send raises this error."""

    error: OSError | None = None

    def send(self, *args: Any) -> int:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().send(*args)


class FailingSends(socket.socket):
    """A listener whose connections are FailingSend."""

    error: OSError

    def accept(self) -> tuple[socket.socket, Any]:
        sock, peer = super().accept()
        failing = FailingSend(fileno=sock.detach())
        failing.error = self.error
        return failing, peer


def fake(kind: type[Listener]) -> Listener:
    (real,) = listen("LISTEN", ("127.0.0.2", 0))
    return kind(fileno=real.detach())


@pytest.mark.parametrize(
    ("error", "received", "status"),
    [
        (BlockingIOError(errno.EAGAIN, "full"), OK.content, 200),
        (BrokenPipeError(errno.EPIPE, "gone"), b"", CLIENT_GONE),
    ],
)
async def test_failed_send_is_retried_or_counted(
    clock: MockClock, error: OSError, received: bytes, status: int
) -> None:
    listener = fake(FailingSends)
    listener.error = error
    async with running(listeners=[listener]) as server:
        assert await server.ask_at_once(GET) == received
        assert await server.send(GET) == received
        assert server.statuses == [status, status]


async def test_client_that_left_the_queue_does_not_delay_others(clock: MockClock) -> None:
    listener = fake(Exhausted)
    listener.errors = (errno.ECONNABORTED,)
    async with running(listeners=[listener]) as server:
        start = trio.current_time()
        assert await server.send(GET) == OK.content
        assert trio.current_time() == start


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENETDOWN])
async def test_failing_accept_is_retried_without_spinning(clock: MockClock, error: int) -> None:
    listener = fake(Exhausted)
    listener.errors = (error,) * 3
    async with running(listeners=[listener]) as server:
        start = trio.current_time()
        assert await server.send(GET) == OK.content
        assert trio.current_time() > start
        assert len(server.failures) == (3 if error == errno.ENETDOWN else 0)


async def test_oldest_idle_client_is_evicted_without_descriptors(clock: MockClock) -> None:
    listener = fake(Exhausted)
    listener.descriptors = 2
    async with running(listeners=[listener]) as server:
        first, second = await server.connect(), await server.connect()
        await settle()
        start = trio.current_time()
        assert await server.ask_at_once(GET) == OK.content
        assert status_of(await read_all(first)) == 503
        assert trio.current_time() == start
        await second.send_all(GET)
        assert await read_all(second) == OK.content


class BrokenError(Exception):
    """An unexpected exception of a handler."""


def broken(*_: object) -> NoReturn:
    raise BrokenError


async def test_error_in_respond_causes_a_500_for_one_client(clock: MockClock, server: Server) -> None:
    server.decide = broken
    assert status_of(await server.ask_at_once(GET)) == 500
    assert status_of(await server.send(GET[:5], GET[5:])) == 500
    assert [type(failure) for failure in server.failures] == [BrokenError, BrokenError]
    server.failures.clear()
    server.decide = lambda _request, _now: OK
    assert await server.send(GET) == OK.content


def nothing(*_: object) -> Any:
    """Return None, which the type of a handler forbids."""


async def test_none_as_response_affects_only_its_own_client(clock: MockClock, server: Server) -> None:
    server.decide = nothing
    assert await server.ask_at_once(GET) == b""
    assert await server.send(GET) == b""
    assert [type(failure) for failure in server.failures] == [AttributeError, AttributeError]
    server.failures.clear()
    server.decide = lambda _request, _now: OK
    assert await server.send(GET) == OK.content


async def test_error_in_observe_is_reported_and_response_is_sent(clock: MockClock, server: Server) -> None:
    server.on_observe = broken
    assert await server.ask_at_once(GET) == OK.content
    assert await server.send(GET[:5], GET[5:]) == OK.content
    assert [type(failure) for failure in server.failures] == [BrokenError, BrokenError]
    server.failures.clear()


async def test_error_in_observe_of_a_lost_client_does_not_end_server(clock: MockClock, server: Server) -> None:
    server.on_observe = broken
    client = await server.connect()
    await client.send_all(GET[:10])
    await settle()
    await reset(client)
    await settle()
    assert [type(failure) for failure in server.failures] == [BrokenError]
    server.failures.clear()
    assert await server.send(GET) == OK.content
    server.failures.clear()


async def test_error_in_wait_causes_a_500_for_one_client(clock: MockClock, server: Server) -> None:
    async def broken_wait() -> None:
        raise BrokenError

    server.decide = lambda _request, _now: NOT_YET
    server.arrival = broken_wait
    assert status_of(await server.send(GET)) == 500
    assert [type(failure) for failure in server.failures] == [BrokenError]
    server.failures.clear()


async def test_error_in_report_does_not_end_the_server(clock: MockClock) -> None:
    async with running(decide=broken, on_report=broken) as server:
        assert status_of(await server.send(GET)) == 500
        assert status_of(await server.ask_at_once(GET)) == 500


async def test_stop_answers_held_requests_and_accepts_no_more(clock: MockClock) -> None:
    async with running(decide=lambda _request, _now: NOT_YET) as server:
        held = await server.connect()
        await held.send_all(GET)
        await settle()
        server.stop.set()
        await settle()
        with pytest.raises(OSError, match="all attempts to connect"):
            await server.connect()
        assert await read_all(held) == NOT_YET.content
        await held.aclose()
        await server.stopped.wait()


async def test_stop_answers_requests_in_the_queue(clock: MockClock) -> None:
    server = Server()
    server.stop.set()
    async with await server.connect() as client:
        await client.send_all(GET)
        await server.run()
        assert await read_all(client) == OK.content


async def test_stop_does_not_wait_for_silent_clients_in_the_queue(clock: MockClock) -> None:
    server = Server()
    server.stop.set()
    start = trio.current_time()
    async with server.connect_at_once() as silent, trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        assert status_of(await read_all(silent)) == 408
        await silent.aclose()
    assert trio.current_time() - start < 1


async def test_stop_does_not_wait_for_silent_clients(clock: MockClock) -> None:
    async with running() as server:
        silent = await server.connect()
        await settle()
        start = trio.current_time()
        server.stop.set()
        assert status_of(await read_all(silent)) == 408
        await silent.aclose()
        await server.stopped.wait()
        assert trio.current_time() - start < Limits().stop_seconds


async def test_stop_ends_in_time_if_a_client_never_reads(clock: MockClock) -> None:
    async with running(decide=lambda _request, _now: Response(200, b"x" * 32 * 1024 * 1024)) as server:
        client = await server.connect()
        await client.send_all(GET)
        await settle()
        start = trio.current_time()
        server.stop.set()
        await server.stopped.wait()
        assert trio.current_time() - start == Limits().stop_seconds


async def test_cancellation_closes_listeners_and_connections(clock: MockClock) -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        client = await server.connect()
        await settle()
        nursery.cancel_scope.cancel()
    assert all(listener.fileno() == -1 for listener in server.listeners)
    async with client:
        assert await client.receive_some() == b""


def test_connection_limit_leaves_half_of_the_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        assert connection_limit() == 128
        assert connection_limit(64) == 64
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
