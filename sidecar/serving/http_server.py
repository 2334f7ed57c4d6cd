"""
Serve HTTP/1.1 over TLS or plain TCP, for the webhook and the local services. `run` never imports this module.

hypercorn 0.18 takes 4 MiB more memory in a Pod, and catches only OSError from a connection: any other exception ends
the listener. hypercorn also waits forever for a client that does not read, because its send is shielded. This server
has no HTTP/2, which the API server does not need. A usual request arrives in one piece, and its response is sent at
once. Such a request needs one wait and one deadline, because each costs as much CPU as the parser.

Rules:

- An exception in one connection ends only that connection.
- Each wait for a client has a deadline, except during a response without an end. The memory of a connection is bounded.
  connection_budget.py decides which connections are closed when all together exceed the limits.
- The work per received byte is bounded. A body must have a Content-Length, because chunks could have one byte each. The
  number of pieces of a request is limited by its length. A checkpoint follows each piece, so that other connections run
  too.
"""

import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field

import trio

from sidecar.serving.accepting import accepted
from sidecar.serving.connection_budget import Budget, Phase, Place, waiting
from sidecar.serving.http_message import (
    CONTINUE,
    Head,
    RejectedError,
    Request,
    Response,
    WriteBody,
    head_end,
    parse_head,
    response_bytes,
    text_response,
)
from sidecar.serving.stream import ExcessError, Stream

MAX_PIECES, BYTES_PER_PIECE = 100, 512
"""Limits of the number of pieces: a request of n bytes may arrive in 100 + n / 512 pieces. Go's client sends records
and segments of 1 KiB or more."""

HANDSHAKE_SECONDS = READ_SECONDS = WRITE_SECONDS = 10.0

IDLE_SECONDS = 120.0
"""Time until an idle connection is closed. Go's client closes it earlier, after 90 s, so it never sends a request on a
connection that we close."""

CLOSE_SECONDS = 1.0

RESPONSE_COPIES = 2
"""Number of copies of a body in memory during the send: the original, and in the HTTP message. TLS adds one record."""

LINGER_BYTES = 256 * 1024
"""Maximum number of bytes of an unread body that are discarded before a connection is closed."""

BACKLOG = 128
"""
Maximum length of the kernel's queue of connections that are not yet accepted.

An honest client waits behind all earlier connections in this queue. With a length of 4,096, a client waited 7 s while
another client opened connections as fast as possible. When the queue is full, the kernel drops the packet that opens a
connection, and the client repeats the packet after 1 s.
"""

_NO_BODY = "Send the request without a body."

Respond = Callable[[Request], Awaitable[Response]]

TlsContext = Callable[[], ssl.SSLContext | None]
"""The type of a function that returns the TLS context for a new connection, or None without a certificate."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    The limits for requests. If `max_body_bytes` is 0, no body is read.

    The API server accepts objects of 3 MiB. A review of a creation contains one object, and takes many times that size
    when parsed.
    """

    max_head_bytes: int = 16 * 1024
    max_body_bytes: int = 4 * 1024 * 1024
    respond_seconds: float = math.inf
    """Deadline for `respond`. After the deadline the connection is closed without a response."""
    keeps_connections: bool = True
    """True if a connection may carry more than one request."""


@dataclass(eq=False)
class Server:
    """
    An HTTP server. Servers of one process may share a budget.

    `report` receives unexpected exceptions. Without `tls` the server speaks plain HTTP.

    While `is_draining` returns true, every response is the last one on its connection, so the client sends its next
    request elsewhere. Otherwise the stop would close a connection during a request, and Go's client does not repeat a
    POST.
    """

    respond: Respond
    report: Callable[[Exception], None]
    budget: Budget = field(default_factory=Budget)
    limits: Limits = field(default_factory=Limits)
    tls: TlsContext | None = None
    is_draining: Callable[[], bool] = lambda: False
    stop: trio.Event = field(default_factory=trio.Event)
    places: set[Place] = field(default_factory=set, init=False)

    async def serve(
        self, listeners: Sequence[socket.socket], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until `stop` is set and the pending responses are sent. Close the listeners (non-blocking sockets)."""
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(self._accept, listener, connections)
                task_status.started()
                await self.stop.wait()
                accepting.cancel_scope.cancel()
            for place in self.places:
                if place.scope is not None and place.phase in (Phase.IDLE, Phase.STREAMING):
                    place.scope.cancel()

    @property
    def is_ending(self) -> bool:
        """Return whether the next response is the last one on its connection."""
        return self.stop.is_set() or self.is_draining() or not self.limits.keeps_connections

    async def _accept(self, listener: socket.socket, connections: trio.Nursery) -> None:
        with listener:
            while True:
                for connection in await accepted(listener):
                    connections.start_soon(self._run_connection, connection)
                await trio.lowlevel.checkpoint()
                await self.budget.wait_for_short_queue()

    async def _run_connection(self, connection: socket.socket) -> None:
        try:
            with connection, closing(Stream(connection)) as stream:
                async with self.budget.place() as place:
                    await self._serve(stream, place)
        except ExcessError:
            self.budget.closed["tls"] += 1
        except (OSError, trio.TooSlowError):
            pass  # the client's error, also in the first call on its socket
        except Exception as exc:  # noqa: BLE001  it must not end the other connections
            self.report(exc)

    async def _serve(self, stream: Stream, place: Place) -> None:
        self.places.add(place)
        try:
            if await self._is_open(stream, place):
                await _Connection(stream, self, place).run()
        finally:
            self.places.discard(place)

    async def _is_open(self, stream: Stream, place: Place) -> bool:
        """Return whether requests can follow. With TLS, that needs a certificate and a handshake in time."""
        if self.tls is None:
            return True
        context = self.tls()
        if context is None:
            return False
        with waiting(self.budget, place, Phase.IDLE, HANDSHAKE_SECONDS) as scope:
            await stream.handshake(context)
        return not scope.cancelled_caught


_INTERNAL_ERROR = text_response(500, "Internal error of irsa-sidecar.")


class _Connection:
    """HTTP on one stream. The buffer has the received bytes that are not part of a complete request yet."""

    def __init__(self, stream: Stream, server: Server, place: Place) -> None:
        self._stream = stream
        self._server = server
        self._budget = server.budget
        self._place = place
        self._buffer = bytearray()
        self._head: Head | None = None
        self._begin_next()

    async def run(self) -> None:
        """Respond to requests until the client or the server ends the connection."""
        while await self._wait_for_bytes():
            response, is_last = await self._respond()
            if response is None:
                return
            self._budget.resize(self._place, 0)
            is_last = is_last or self._server.is_ending or response.write_body is not None
            is_last = is_last or self._budget.gives_up(self._place)
            await self._send(response, is_last=is_last)
            if is_last:
                await self._linger()
                return
            self._budget.complete(self._place)
            self._begin_next()

    def _begin_next(self) -> None:
        self._head = None
        self._received = self._searched = 0
        self._pieces_before = self._stream.pieces

    def _waiting(self, phase: Phase, seconds: float) -> waiting:
        return waiting(self._budget, self._place, phase, seconds)

    async def _wait_for_bytes(self) -> bool:
        """Return whether a request begins before the idle deadline, and before the server stops."""
        if self._buffer:
            await trio.lowlevel.checkpoint()
            return True
        with self._waiting(Phase.IDLE, 0 if self._server.stop.is_set() else IDLE_SECONDS):
            return await self._receive()
        return False

    async def _respond(self) -> tuple[Response | None, bool]:
        """Return the response, or None at the end of the connection, and whether the response must be the last one."""
        try:
            request = self._complete() or await self._read_rest()
        except RejectedError as exc:
            return exc.response, True
        return (None, True) if request is None else await self._respond_to(request)

    async def _respond_to(self, request: Request) -> tuple[Response | None, bool]:
        is_last = self._head is None or self._head.is_last
        try:
            with _deadline(self._server.limits.respond_seconds):
                return await self._server.respond(request), is_last
        except Exception as exc:  # noqa: BLE001  the client gets a response to any error of ours
            self._server.report(exc)
            return _INTERNAL_ERROR, True
        return None, True

    async def _read_rest(self) -> Request | None:
        """
        Return the request when it is complete, or None after the deadline.

        Raises RejectedError if it is invalid, or the client closes the connection before it is complete.
        """
        self._budget.begin(self._place)
        with self._waiting(Phase.READING, READ_SECONDS):
            while (request := self._complete()) is None:
                await self._receive_more()
            return request
        return None

    async def _receive_more(self) -> None:
        if self._stream.pieces - self._pieces_before > MAX_PIECES + self._received / BYTES_PER_PIECE:
            raise RejectedError(400, "The request arrives in too many small pieces.")
        if self._head is not None and self._head.is_waiting and not self._buffer:
            self._head = self._head._replace(is_waiting=False)
            if not self._stream.send_now(CONTINUE):
                await self._stream.send_rest()
        if not await self._receive():
            raise RejectedError(400, "The request is not complete.")

    async def _receive(self) -> bool:
        """Receive the next piece. Return False at the end of the connection."""
        data = await self._stream.receive()
        self._buffer += data
        self._received += len(data)
        return bool(data)

    def _complete(self) -> Request | None:
        """
        Return the request in the buffer, or None if more bytes are needed.

        Raises RejectedError if the request is invalid or too long.
        """
        if self._head is None:
            self._head = self._complete_head()
        if self._head is None:
            return None
        self._budget.resize(self._place, len(self._buffer))
        if len(self._buffer) < self._head.length:
            return None
        with memoryview(self._buffer) as view:
            body = bytes(view[: self._head.length])
        del self._buffer[: self._head.length]
        return Request(self._head.method, self._head.target, self._head.headers, body)

    def _complete_head(self) -> Head | None:
        limits = self._server.limits
        end = head_end(self._buffer, self._searched, limits.max_head_bytes)
        self._searched = len(self._buffer)
        if end is None:
            return None
        head = parse_head(bytes(self._buffer[:end]))
        del self._buffer[:end]
        if head.length > limits.max_body_bytes:
            raise RejectedError(413, "The body is too long." if limits.max_body_bytes else _NO_BODY)
        return head

    async def _send(self, response: Response, *, is_last: bool) -> None:
        """
        Send the response, and then the pieces of `write_body`.

        Raises TooSlowError if the client does not read, or if other connections need the memory.
        """
        has_body = self._head is None or self._head.method != "HEAD"
        data = response_bytes(response, has_body=has_body, is_last=is_last)
        if not self._stream.send_now(data):
            await self._send_rest(RESPONSE_COPIES * len(response.body))
        if response.write_body is not None and has_body:
            await self._send_body(response.write_body)

    async def _send_body(self, write: WriteBody) -> None:
        """Send a body in pieces until it ends, the client leaves or the server stops."""
        try:
            with self._waiting(Phase.STREAMING, math.inf):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._cancel_at_the_end, nursery.cancel_scope)
                    await write(self._send_piece)
                    nursery.cancel_scope.cancel()
        except* (OSError, trio.TooSlowError):
            pass  # the client's error

    async def _cancel_at_the_end(self, scope: trio.CancelScope) -> None:
        """Discard what the client sends, and cancel the scope when the client closes the connection."""
        with suppress(OSError):
            while await self._stream.receive():
                pass
        scope.cancel()

    async def _send_piece(self, piece: bytes) -> None:
        if not self._stream.send_now(piece):
            await self._send_rest(RESPONSE_COPIES * len(piece))

    async def _send_rest(self, size: int) -> None:
        self._budget.resize(self._place, size)
        try:
            with self._waiting(Phase.WRITING, WRITE_SECONDS) as scope:
                await self._stream.send_rest()
        finally:
            self._budget.resize(self._place, 0)
        if scope.cancelled_caught:
            raise trio.TooSlowError

    async def _linger(self) -> None:
        """
        Read and discard bytes for a moment, so that a client that still sends gets its response (RFC 9112, 9.6).

        Closing with unread input makes the kernel send a reset. The bytes are discarded without decryption.
        """
        left = LINGER_BYTES
        with self._waiting(Phase.LINGERING, CLOSE_SECONDS):
            self._stream.end_sending()
            while left > 0 and (data := await self._stream.receive()):
                left -= len(data)


def _deadline(seconds: float) -> AbstractContextManager[object]:
    """Return a scope with this deadline. Without a deadline, no scope is necessary."""
    return nullcontext() if seconds == math.inf else trio.move_on_after(seconds)
