"""Test the server with exhausted connections, descriptors and socket buffers."""

import errno
import resource
import socket
from functools import cached_property
from typing import Any, TypeVar

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from sidecar.serving.listen import listen
from sidecar.serving.server import CLIENT_GONE, Limits, connection_limit
from tests.unit.serving.running_server import (
    GET,
    NOT_YET,
    OK,
    read_all,
    running,
    settle,
    status_of,
)

Listener = TypeVar("Listener", bound=socket.socket)


async def test_oldest_idle_client_is_evicted_over_the_limit(clock: MockClock) -> None:
    async with running(limits=Limits(connections=2)) as server:
        first, second, third = [await server.connect() for _ in range(3)]
        assert status_of(await read_all(first)) == 503
        assert await server.send_at_once(GET) == OK.content
        for client in (second, third):
            await client.send_all(GET)
            assert await read_all(client) == OK.content


async def test_newest_silent_clients_are_kept(clock: MockClock) -> None:
    async with running(limits=Limits(connections=2)) as server:
        *early, late, last = [server.connect_at_once() for _ in range(8)]  # one pass of the server accepts all of them
        for client in early:
            assert status_of(await read_all(client)) == 503
            await client.aclose()
        for client in (late, last):
            await client.send_all(GET)
            assert await read_all(client) == OK.content
            await client.aclose()


async def test_rejected_client_that_stays_connected_is_evicted(clock: MockClock) -> None:
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
        assert await server.send_at_once(GET) == NOT_YET.content
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
    """A connection whose first send raises `error`."""

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
        assert await server.send_at_once(GET) == received
        assert await server.send(GET) == received
        assert server.statuses == [status, status]


async def test_client_that_disconnects_early_does_not_delay_others(clock: MockClock) -> None:
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
        assert await server.send_at_once(GET) == OK.content
        assert status_of(await read_all(first)) == 503
        assert trio.current_time() == start
        await second.send_all(GET)
        assert await read_all(second) == OK.content


def test_connection_limit_leaves_half_of_the_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        assert connection_limit() == 128
        assert connection_limit(64) == 64
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
