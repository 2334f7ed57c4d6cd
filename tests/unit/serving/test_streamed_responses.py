"""Test responses whose bodies are sent in pieces until the connection ends."""

import socket

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from sidecar.serving.connection_budget import Budget
from sidecar.serving.http_message import Request, Response, Send
from sidecar.serving.http_server import Server
from sidecar.serving.listen import listen
from tests.unit.serving.running_http_server import LARGE, all_of, serving, until

GET = b"%s %s HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_pieces_follow_the_head_without_a_length() -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(GET % (b"GET", b"/pieces"))
        head, _, body = (await all_of(stream)).partition(b"\r\n\r\n")
        assert b"Content-Length" not in head
        assert b"Connection: close" in head
        assert body == b"012"


async def test_response_to_head_has_no_pieces() -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(GET % (b"HEAD", b"/endless"))
        assert (await all_of(stream)).endswith(b"\r\n\r\n")


async def test_stop_ends_an_endless_response() -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send_all(GET % (b"GET", b"/endless"))
        await until(stream, b"begun")
        served.stop.set()
        assert await all_of(stream) == b""


async def test_client_that_disconnects_ends_the_response() -> None:
    """The function that writes the body is cancelled at once."""
    ended = trio.Event()

    async def write(send: Send) -> None:
        try:
            await send(b"begun")
            await trio.sleep_forever()
        finally:
            ended.set()

    async def respond(_request: Request) -> Response:
        return Response(200, b"", write_body=write)

    reported: list[Exception] = []
    listeners = listen("--listen", ("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(respond, reported.append).serve, listeners)
        stream = await trio.open_tcp_stream(*listeners[0].getsockname())
        await stream.send_all(GET % (b"GET", b"/"))
        await until(stream, b"begun")
        await stream.aclose()
        await ended.wait()
        nursery.cancel_scope.cancel()
    assert reported == []


async def test_client_that_does_not_read_pieces_is_disconnected(autojump_clock: MockClock) -> None:
    reported: list[Exception] = []
    ended = trio.Event()

    async def write(send: Send) -> None:
        try:
            await send(LARGE)
        finally:
            ended.set()

    async def respond(_request: Request) -> Response:
        return Response(200, b"", write_body=write)

    budget = Budget()
    listeners = listen("--listen", ("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(respond, reported.append, budget).serve, listeners)
        stream = await trio.open_tcp_stream(*listeners[0].getsockname())
        await stream.send_all(GET % (b"GET", b"/"))
        await ended.wait()
        await stream.aclose()
        nursery.cancel_scope.cancel()
    assert reported == []
    assert budget.waiting_bytes == 0


async def test_error_in_a_body_is_reported_and_ends_the_body() -> None:
    reported: list[Exception] = []

    async def write(send: Send) -> None:
        await send(b"begun")
        raise ValueError("a bug")

    async def respond(_request: Request) -> Response:
        return Response(200, b"", write_body=write)

    listeners = listen("--listen", ("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(respond, reported.append).serve, listeners)
        stream = await trio.open_tcp_stream(*listeners[0].getsockname())
        await stream.send_all(GET % (b"GET", b"/"))
        assert (await all_of(stream)).endswith(b"begun")
        await stream.aclose()
        nursery.cancel_scope.cancel()
    assert [type(each) for each in reported] == [ExceptionGroup]


async def test_burst_of_silent_connections_does_not_block_a_client() -> None:
    """All connections are accepted in one turn, so none of them counts as silent when the others arrive."""
    async with serving(budget=Budget(2)) as served:
        sockets = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(50)]
        client = await served.connect()
        await client.send_all(GET % (b"GET", b"/pieces"))
        with trio.fail_after(30):
            assert (await all_of(client)).endswith(b"012")
        await client.aclose()
        for each in sockets:
            each.close()


async def test_client_takes_the_place_of_an_ended_response() -> None:
    """The client waits while another response has no end. That response continues until its own client leaves."""
    budget = Budget(1)
    async with serving(budget=budget) as served:
        async with await served.connect() as reader:
            await reader.send_all(GET % (b"GET", b"/endless"))
            await until(reader, b"begun")
            client = await served.connect()
            await client.send_all(GET % (b"GET", b"/pieces"))
            while not budget._queue and not budget.closed:
                await trio.testing.wait_all_tasks_blocked(0.001)
            assert budget.closed == {}
        async with client:
            with trio.fail_after(30):
                assert (await all_of(client)).endswith(b"012")


@pytest.mark.parametrize("count", [1, 3])
async def test_budget_limits_the_connections(count: int) -> None:
    """Each connection above the limit closes the connection that has waited longest."""
    async with serving(budget=Budget(count)) as served:
        streams = [await served.connect() for _ in range(count + 1)]
        assert await streams[0].receive_some() == b""
        await streams[-1].send_all(GET % (b"GET", b"/pieces"))
        assert (await all_of(streams[-1])).endswith(b"012")
        for stream in streams:
            await stream.aclose()
