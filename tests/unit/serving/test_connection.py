"""Test that accepted connections behave as those of the standard library, and that the kernel holds silent clients."""

import socket
from collections.abc import Iterator

import pytest
import trio

import sidecar.serving.connection as connection_module
from sidecar.serving.connection import acceptor, defer_accept
from sidecar.serving.limits import Limits
from sidecar.serving.listen import listen
from tests.unit.serving.running_server import GET, OK, read_all, running, status_of

DEFERRED = Limits(defer_seconds=1, head_seconds=0.05)


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    listeners = listen("LISTEN", (request.param, 0))
    try:
        yield listeners[0]
    finally:
        for each in listeners:
            each.close()


def test_accepted_connection_has_the_addresses_of_both_ends(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        accepted, address = acceptor(listener)()
        with accepted:
            assert address == accepted.getpeername() == client.getsockname()
            assert accepted.getsockname() == client.getpeername()
        assert accepted.fileno() == -1


def test_accept_raises_as_the_standard_library_does(listener: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        acceptor(listener)()
    listener.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        acceptor(listener)()


def test_kernel_holds_a_silent_client(listener: socket.socket) -> None:
    defer_accept(listener, 1)
    with socket.create_connection(listener.getsockname()[:2]) as client:
        with pytest.raises(BlockingIOError):
            acceptor(listener)()
        client.sendall(GET)
        accepted, _ = acceptor(listener)()
        with accepted:
            assert accepted.recv(4096) == GET


def test_listener_without_defer_accept_accepts_at_once(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_DEFER_ACCEPT", None)
    defer_accept(listener, 1)
    with socket.create_connection(listener.getsockname()[:2]):
        acceptor(listener)()[0].close()


async def test_silent_client_gets_408_although_the_kernel_holds_it() -> None:
    async with running(limits=DEFERRED) as server, await server.connect() as silent:
        assert status_of(await read_all(silent)) == 408


async def test_late_request_of_a_held_client_gets_its_response() -> None:
    async with running(limits=DEFERRED) as server, await server.connect() as client:
        await trio.lowlevel.checkpoint()
        await client.send_all(GET)
        assert await read_all(client) == OK.content


async def test_stop_responds_to_a_client_that_the_kernel_holds() -> None:
    async with running(limits=DEFERRED) as server, await server.connect() as client:
        server.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        await client.send_all(GET)
        assert await read_all(client) == OK.content
        await server.stopped.wait()
