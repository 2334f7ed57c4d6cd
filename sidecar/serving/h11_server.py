"""
Serve HTTP/1.1 over TLS or plain TCP, for the webhook and the local services. `run` never imports this module.

h11 is installed anyway, because httpx needs it. hypercorn 0.18 serves as many reviews per second, because the review
itself takes most of the time. But hypercorn takes 4 MiB more memory in a Pod, and catches only OSError from a
connection: any other exception ends the listener. hypercorn also waits forever for a client that does not read, because
its send is shielded. This server has no HTTP/2, which the API server does not need.

Rules:

- An exception in one connection ends only that connection.
- Each connection takes bounded time and memory. connection_budget.py decides which connections are closed when all
  together exceed the limits.
- The work per received byte is bounded. A body must have a Content-Length, because chunks could have one byte each. The
  number of pieces of a request is limited by its length. A checkpoint follows each piece, so that other connections run
  too.
"""

import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

import h11
import trio

from sidecar.serving.accepting import accepted
from sidecar.serving.connection_budget import Budget, Waits, waiting

MAX_PIECES, BYTES_PER_PIECE = 100, 512
"""Limits of the number of pieces: a request of n bytes may arrive in 100 + n / 512 pieces. Go's client sends records
and segments of 1 KiB or more."""

HANDSHAKE_SECONDS = READ_SECONDS = WRITE_SECONDS = 10.0

IDLE_SECONDS = 120.0
"""Time until an idle connection is closed. Go's client closes it earlier, after 90 s, so it never sends a request on a
connection that we close."""

CLOSE_SECONDS = 1.0

RESPONSE_COPIES = 4
"""Number of copies of a response in memory during the send: the original, as HTTP, and in the two buffers of TLS."""

LINGER_BYTES = 256 * 1024
"""Maximum number of bytes of an unread body that are discarded before a connection is closed."""

BACKLOG = 128
"""
Maximum length of the kernel's queue of connections that are not yet accepted.

An honest client waits behind all earlier connections in this queue. With a length of 4,096, a client waited 7 s while
another client opened connections as fast as possible. When the queue is full, the kernel drops the packet that opens a
connection, and the client repeats the packet after 1 s.
"""

TEXT = "text/plain; charset=utf-8"

_PIECE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Request:
    """
    A complete request. Every part except the method may contain secrets.

    Header names are in lower case, in the order of arrival, and may repeat.
    """

    method: str
    target: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False, default=())
    body: bytes = field(repr=False, default=b"")

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """Return the first value of the header `name`, which is in lower case."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response. Its body may contain credentials, so `repr` does not show the body."""

    status: int
    body: bytes = field(repr=False)
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def text_response(status: int, message: str, *headers: tuple[str, str]) -> Response:
    """Return a response whose body is a sentence for a person."""
    return Response(status, f"{message}\n".encode(), TEXT, headers)


Respond = Callable[[Request], Awaitable[Response]]
_Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

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
    idle: Waits = field(default_factory=dict, init=False)

    async def serve(
        self, listeners: Sequence[socket.socket], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until `stop` is set and the pending responses are sent. Close the listeners, which must not block."""
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(self._accept, listener, connections)
                task_status.started()
                await self.stop.wait()
                accepting.cancel_scope.cancel()
            for scope in self.idle:
                scope.cancel()

    @property
    def is_ending(self) -> bool:
        """Return whether the next response is the last one on its connection."""
        return self.stop.is_set() or self.is_draining() or not self.limits.keeps_connections

    async def _accept(self, listener: socket.socket, connections: trio.Nursery) -> None:
        with listener:
            while True:
                for stream in await accepted(listener):
                    connections.start_soon(self._run_connection, stream)
                await trio.lowlevel.checkpoint()

    async def _run_connection(self, stream: trio.SocketStream) -> None:
        secured: _Stream | None = None
        try:
            self.budget.make_room()
            async with self.budget.connections:
                secured = await self._secured(stream)
                if secured is not None:
                    await _Connection(secured, self).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.RemoteProtocolError):
            pass  # the client's error
        except Exception as exc:  # noqa: BLE001  it must not end the other connections
            self.report(exc)
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True), suppress(OSError, trio.BrokenResourceError):
                await (secured or stream).aclose()
            await trio.aclose_forcefully(stream)

    async def _secured(self, stream: trio.SocketStream) -> _Stream | None:
        """Return the stream within TLS. Return None without a certificate, or if the handshake takes too long."""
        if self.tls is None:
            return stream
        context = self.tls()
        if context is None:
            return None
        secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        with waiting(HANDSHAKE_SECONDS, self.budget.silent, self.idle) as scope:
            await secured.do_handshake()
        return None if scope.cancelled_caught else secured


_TOO_MANY_PIECES = text_response(400, "The request arrives in too many small pieces.")
_NO_LENGTH = text_response(411, "Send a Content-Length, not a Transfer-Encoding.")
_TOO_LONG = text_response(413, "The body is too long.")
_NO_BODY = text_response(413, "Send the request without a body.")
_INTERNAL_ERROR = text_response(500, "Internal error of irsa-sidecar.")


class _RejectedError(Exception):
    """An error for a request that the server does not read completely, with the response to it."""

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response


def _check_head(head: h11.Request, max_body_bytes: int) -> None:
    """Raise _RejectedError if the body must not be read. h11 has checked that the length is a number."""
    headers = dict(head.headers)
    if b"transfer-encoding" in headers:
        raise _RejectedError(_NO_LENGTH)
    if int(headers.get(b"content-length", b"0")) > max_body_bytes:
        raise _RejectedError(_TOO_LONG if max_body_bytes else _NO_BODY)


def _request(head: h11.Request, body: bytes) -> Request:
    """Return the request. h11 has checked that its method and the names of its headers are ASCII."""
    return Request(
        method=head.method.decode("ascii"),
        target=head.target.decode("ascii", "replace"),
        headers=tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers),
        body=body,
    )


class _Connection:
    """HTTP on one stream."""

    def __init__(self, stream: _Stream, server: Server) -> None:
        self._stream = stream
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=server.limits.max_head_bytes)
        self._is_head = False
        self._is_known = False
        self._received = self._pieces = 0

    async def run(self) -> None:
        """Respond to requests until the client or the server ends the connection."""
        while await self._wait_for_bytes():
            body = bytearray()
            try:
                response, is_last = await self._respond(body)
            finally:
                self._server.budget.waiting_bytes -= len(body)
            if response is None:
                return
            await self._write_in_time(response, is_last=is_last or self._server.is_ending)
            if self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                await self._linger()
                return
            self._http.start_next_cycle()
            self._is_known = True

    async def _respond(self, body: bytearray) -> tuple[Response | None, bool]:
        """Return the response, or None at the end of the connection, and whether the response must be the last one."""
        request = None
        try:
            with waiting(READ_SECONDS, self._server.budget.reading, is_known=self._is_known):
                request = await self._read_into(body)
        except _RejectedError as exc:
            return exc.response, True
        except h11.RemoteProtocolError as exc:
            return text_response(exc.error_status_hint, "The request is not valid HTTP/1.1."), True
        return (None, True) if request is None else await self._respond_to(request)

    async def _respond_to(self, request: Request) -> tuple[Response | None, bool]:
        try:
            with trio.move_on_after(self._server.limits.respond_seconds):
                return await self._server.respond(request), False
        except Exception as exc:  # noqa: BLE001  the client gets a response to any error of ours
            self._server.report(exc)
            return _INTERNAL_ERROR, True
        return None, True

    async def _wait_for_bytes(self) -> bool:
        """Return whether a request begins before the idle deadline, and before the server stops."""
        self._received = self._pieces = 0
        if self._http.trailing_data[0]:
            await trio.lowlevel.checkpoint()
            return True
        seconds = 0 if self._server.stop.is_set() else IDLE_SECONDS
        with waiting(seconds, self._server.budget.silent, self._server.idle, is_known=self._is_known):
            return await self._receive()
        return False

    async def _linger(self) -> None:
        """
        Read and discard bytes for a moment, so that a client that still sends gets its response (RFC 9112, 9.6).

        Closing with unread input makes the kernel send a reset. The bytes are discarded without decryption.
        """
        stream = self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        left = LINGER_BYTES
        with trio.move_on_after(CLOSE_SECONDS):
            await stream.send_eof()
            while left > 0 and (data := await stream.receive_some(_PIECE_BYTES)):
                left -= len(data)

    async def _receive(self) -> bool:
        """Receive the next piece. Return False at the end of the connection."""
        data = bytes(await self._stream.receive_some(_PIECE_BYTES))
        self._http.receive_data(data)
        self._received += len(data)
        self._pieces += 1
        return bool(data)

    async def _read_into(self, body: bytearray) -> Request | None:
        """
        Return the request, or None at the end of the connection.

        Raises _RejectedError for a request that is not read completely, and h11.RemoteProtocolError for an invalid one.
        """
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None
        self._is_head = head.method == b"HEAD"
        _check_head(head, self._server.limits.max_body_bytes)
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            self._server.budget.add(len(event.data))
        return _request(head, bytes(body)) if isinstance(event, h11.EndOfMessage) else None

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._pieces > MAX_PIECES + self._received / BYTES_PER_PIECE:
                raise _RejectedError(_TOO_MANY_PIECES)
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            await self._receive()
        return event

    async def _write_in_time(self, response: Response, *, is_last: bool) -> None:
        """Raise TooSlowError if the client does not read, or if other connections need the memory."""
        budget, size = self._server.budget, RESPONSE_COPIES * len(response.body)
        budget.add(size)
        try:
            with waiting(WRITE_SECONDS, budget.writing, is_known=self._is_known) as scope:
                await self._write(response, is_last=is_last)
        finally:
            budget.waiting_bytes -= size
        if scope.cancelled_caught:
            raise trio.TooSlowError

    async def _write(self, response: Response, *, is_last: bool) -> None:
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *([("Connection", "close")] if is_last else []),
            *response.headers,
        ]
        reason = HTTPStatus(response.status).phrase.encode("ascii")
        head = h11.Response(status_code=response.status, headers=headers, reason=reason)
        # RFC 9110, 9.3.2: a response to HEAD has the length of a body that is not sent.
        body = b"" if self._is_head else response.body
        await self._send(head, h11.Data(data=body), h11.EndOfMessage())

    async def _send(self, *events: h11.Event) -> None:
        pieces = [self._http.send(event) or b"" for event in events]
        await self._stream.send_all(b"".join(pieces))
