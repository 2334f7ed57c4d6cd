"""Test the server with exhausted connections, descriptors and socket buffers."""

import errno
import resource
import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

import sidecar.serving.server as server_module
from sidecar.serving.connection import Accept, Connection, acceptor
from sidecar.serving.limits import Limits, connection_limit
from sidecar.serving.server import CLIENT_GONE
from tests.unit.serving.running_server import (
    GET,
    NOT_YET,
    OK,
    read_all,
    running,
    settle,
    status_of,
)


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


async def test_connection_over_the_limit_of_held_requests_gets_503(clock: MockClock) -> None:
    async with running(decide=lambda _request, _now: NOT_YET, limits=Limits(connections=1)) as server:
        held = await server.connect()
        await held.send_all(GET)
        await settle()
        start = trio.current_time()
        assert await server.send_at_once(GET) == NOT_YET.content
        assert status_of(await server.send()) == 503
        assert trio.current_time() == start
        assert await read_all(held) == NOT_YET.content


class Exhausted:
    """A source of acceptors whose first calls raise `errors`, or that allow only `descriptors` open connections."""

    def __init__(self, *errors: int, descriptors: int | None = None) -> None:
        self.errors = list(errors)
        self.descriptors = descriptors
        self.accepted: list[Connection] = []

    def acceptor(self, listener: socket.socket) -> Accept:
        real = acceptor(listener)

        def accept() -> tuple[Connection, Any]:
            if self.errors:
                raise OSError(self.errors.pop(0), "from the kernel")
            if self.descriptors is not None and self.descriptors <= sum(sock.fileno() >= 0 for sock in self.accepted):
                raise OSError(errno.EMFILE, "Too many open files")
            sock, address = real()
            self.accepted.append(sock)
            return sock, address

        return accept


class FailingSend(Connection):
    """A connection whose first send raises `error`."""

    error: OSError | None = None

    def send(self, *args: Any) -> int:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().send(*args)


def failing_sends(error: OSError) -> Callable[[socket.socket], Accept]:
    """Return an acceptor whose connections raise this error at their first send."""

    def failing_acceptor(listener: socket.socket) -> Accept:
        real = acceptor(listener)

        def accept() -> tuple[Connection, Any]:
            sock, address = real()
            failing = FailingSend(fileno=sock.detach())
            failing.error = error
            return failing, address

        return accept

    return failing_acceptor


@pytest.mark.parametrize(
    ("error", "received", "status"),
    [
        (BlockingIOError(errno.EAGAIN, "full"), OK.content, 200),
        (BrokenPipeError(errno.EPIPE, "gone"), b"", CLIENT_GONE),
    ],
)
async def test_failed_send_is_retried_or_counted(
    clock: MockClock, monkeypatch: pytest.MonkeyPatch, error: OSError, received: bytes, status: int
) -> None:
    monkeypatch.setattr(server_module, "acceptor", failing_sends(error))
    async with running() as server:
        assert await server.send_at_once(GET) == received
        assert await server.send(GET) == received
        assert server.statuses == [status, status]


async def test_client_that_disconnects_early_does_not_delay_others(
    clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "acceptor", Exhausted(errno.ECONNABORTED).acceptor)
    async with running() as server:
        start = trio.current_time()
        assert await server.send(GET) == OK.content
        assert trio.current_time() == start


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENETDOWN])
async def test_failing_accept_is_retried_without_spinning(
    clock: MockClock, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    monkeypatch.setattr(server_module, "acceptor", Exhausted(error, error, error).acceptor)
    async with running() as server:
        start = trio.current_time()
        assert await server.send(GET) == OK.content
        assert trio.current_time() > start
        assert len(server.failures) == (3 if error == errno.ENETDOWN else 0)


async def test_oldest_idle_client_is_evicted_without_descriptors(
    clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "acceptor", Exhausted(descriptors=2).acceptor)
    async with running() as server:
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
