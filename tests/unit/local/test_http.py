"""The small HTTP server, byte by byte over real sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from sidecar.local import http
from sidecar.local.http import MAX_BODY_BYTES, Reply, Request


async def echo(request: Request) -> Reply:
    if request.path == "/fault":
        raise RuntimeError("a bug")
    if request.path == "/unsendable":
        return Reply(200, b"", "text/plain", (("X-Reply", "two\r\nlines"),))
    text = f"{request.method} {request.path} {request.query} {request.header('x-name')} {len(request.body)}"
    return Reply(200, text.encode(), "text/plain", (("X-Reply", "1"),))


class Server:
    def __init__(self, listener: trio.SocketListener) -> None:
        self.port = listener.socket.getsockname()[1]
        self.faults: list[Exception] = []

    async def say(self, data: bytes, *, ends: bool = False) -> bytes:
        """Everything that comes back for these bytes."""
        with trio.fail_after(60):
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                await stream.send_all(data)
                if ends:
                    await stream.send_eof()
                return b"".join([part async for part in stream])


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    server = Server(listener)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(partial(http.serve, listener, echo, report=server.faults.append))
        yield server
        nursery.cancel_scope.cancel()


async def test_a_request_is_read_whole_and_answered_once() -> None:
    async with serving() as server:
        answer = await server.say(b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Name: y\r\nContent-Length: 3\r\n\r\nabc")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/plain",
        b"Content-Length: 15",
        b"Connection: close",
        b"X-Reply: 1",
    ]
    assert body == b"POST /a b=c y 3"


async def test_the_answer_to_head_has_no_body() -> None:
    async with serving() as server:
        answer = await server.say(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 15" in answer


async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with serving() as server:
        with trio.fail_after(20):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                await stream.send_all(head)
                assert await stream.receive_some() == b"HTTP/1.1 100 \r\n\r\n"
                await stream.send_all(b"abc")
                assert b"200 OK" in await stream.receive_some()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n", b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + b"x" * (MAX_BODY_BYTES + 1), b"413"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", b"400"),
    ],
)
async def test_what_is_no_request_is_refused_and_the_next_is_answered(data: bytes, status: bytes) -> None:
    async with serving() as server:
        assert (await server.say(data, ends=True)).startswith(b"HTTP/1.1 " + status)
        assert b"200 OK" in await server.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not server.faults


async def test_a_fault_ends_its_connection_only_and_is_reported() -> None:
    async with serving() as server:
        assert (await server.say(b"GET /fault HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 500")
        assert b"200 OK" in await server.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [type(fault) for fault in server.faults] == [RuntimeError]


async def test_an_answer_that_cannot_be_sent_ends_its_connection_only() -> None:
    async with serving() as server:
        assert await server.say(b"GET /unsendable HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        assert b"200 OK" in await server.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert len(server.faults) == 1


async def test_clients_that_leave_are_no_fault() -> None:
    async with serving() as server:
        for data in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                await stream.send_all(data)
        assert b"200 OK" in await server.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not server.faults


async def test_a_silent_connection_is_closed_in_the_end(autojump_clock: object) -> None:
    async with serving() as server:
        assert await server.say(b"GET / HTTP/1.1\r\n") == b""


def test_what_may_hold_secrets_is_not_in_a_repr() -> None:
    request = Request("POST", "/?X-Amz-Security-Token=s3cret", (("authorization", "s3cret"),), b"s3cret")
    assert "s3cret" not in repr(request) + repr(Reply(200, b"s3cret", "text/xml"))
