"""Test the orderly stop of the server: the last responses, and clients that delay them."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from sidecar.serving.container_credentials import Response
from sidecar.serving.limits import Limits
from sidecar.serving.server import STOP_HEAD_SECONDS
from tests.unit.serving.running_server import GET, NOT_YET, OK, Server, read_all, running, settle, status_of


async def test_stop_completes_held_requests_and_accepts_no_more(clock: MockClock) -> None:
    async with running(decide=lambda _request, _now: NOT_YET) as server:
        held = await server.connect()
        await held.send_all(GET)
        await settle()
        server.stop.set()
        await trio.sleep(STOP_HEAD_SECONDS)
        await settle()
        with pytest.raises(OSError, match="all attempts to connect"):
            await server.connect()
        assert await read_all(held) == NOT_YET.content
        await held.aclose()
        await server.stopped.wait()


async def test_stop_responds_to_requests_in_the_queue(clock: MockClock) -> None:
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
