"""Run the server on real loopback sockets, with a handler that records its calls."""

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing

from sidecar.clock import Instant
from sidecar.serving.connection import Connection
from sidecar.serving.container_credentials import Hold, Response
from sidecar.serving.http import Request, error_response, parse, response
from sidecar.serving.limits import Limits
from sidecar.serving.listen import listen
from sidecar.serving.server import serve

GET = b"GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
OK = Response(200, response(200, b"{}"))
NOT_YET = Response(503, error_response(503, "not yet"), hold=Hold.CREDENTIALS)
HEAD_SECONDS = Limits().head_seconds


@dataclass
class Server:
    """A running server with a handler (listener.Handler) that a test configures, and that records its calls."""

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

    def respond(self, request: Request, now: Instant, sock: Connection) -> Response:
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

    async def send_at_once(self, request: bytes) -> bytes:
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


async def settle() -> None:
    """Wait until the server has read all sent bytes."""
    await trio.testing.wait_all_tasks_blocked(0.01)


async def reset(client: trio.SocketStream) -> None:
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.aclose()
