"""Run the HTTP server of the webhook and the local services on loopback, and send requests to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from sidecar.serving.connection_budget import Budget
from sidecar.serving.http_message import Request, Response, Send
from sidecar.serving.http_server import Limits, Server, TlsContext
from sidecar.serving.listen import listen


class Served:
    def __init__(self, port: int) -> None:
        self.port = port
        self.reported: list[Exception] = []
        self.stop = trio.Event()
        self.go_on = trio.Event()
        """Requests of `/held` get their responses after this event."""
        self.is_draining = False

    async def respond(self, request: Request) -> Response:
        if request.path == "/held":
            await self.go_on.wait()
        return await echo(request)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


LARGE = b"a" * 32 * 1024 * 1024
"""A body that is larger than the buffers of both ends of a socket."""


async def write_two_pieces(send: Send) -> None:
    await send(b"1")
    await send(b"2")


async def write_without_end(send: Send) -> None:
    await send(b"begun")
    await trio.sleep_forever()


async def echo(request: Request) -> Response:
    if request.path == "/large":
        return Response(200, LARGE)
    if request.path == "/raise":
        raise ValueError("a bug")
    if request.path == "/unsendable":
        return Response(200, b"", headers=(("X-Reply", "two\r\nlines"),))
    if request.path == "/pieces":
        return Response(200, b"0", "text/plain", write_body=write_two_pieces)
    if request.path == "/endless":
        return Response(200, b"", "text/plain", write_body=write_without_end)
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
                served.respond,
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


async def until(stream: trio.abc.ReceiveStream, end: bytes, times: int = 1) -> bytes:
    """Receive until the bytes end with `end`, which must occur `times` times."""
    received = b""
    while not received.endswith(end) or received.count(end) < times:
        piece = await stream.receive_some()
        assert piece, received
        received += piece
    return received


POST = b"POST /inject?timeout=10s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
HALF = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
