"""
HTTP/1.1, over TLS or plain: one request after the other on each connection, all of them bounded in size and time.

h11 comes with httpx anyway. hypercorn 0.18 does as many reviews a second, of which the review itself takes the most,
but in a Pod it is 4 MiB larger, and of what its connections raise it catches OSError alone: anything else ends the
listener. It also waits without end for a client that does not read (its send is shielded). What is missed is HTTP/2,
which the API server goes without. No exception of one connection reaches another here.

The API server cannot be distinguished from others before it has sent a review, so everybody who reaches the port may
connect. All listeners share one budget of connections and of bytes that wait. When it is used up, the connections give
way that have been silent or unfinished longest, and of these first the ones that never completed a request.

Rule: work per received byte is bounded. A body has a length that is known in advance, because chunks could be of one
byte each; a request comes in few pieces for its length; and each piece is followed by a checkpoint, so that other
connections take their turn.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import h11
import trio

from sidecar.webhook.accepting import accepted

MAX_BODY_BYTES = 4 * 1024 * 1024
"""The API server takes objects of 3 MiB, and a review of a creation holds one, and is many times that once read."""

MAX_WAITING_BYTES = 32 * 1024 * 1024
"""
Of all bodies that are unfinished, or finished and not yet parsed, and of all answers that are not sent yet.

The manifests give the process 256 MiB.
"""

MAX_PIECES, BYTES_PER_PIECE = 100, 512
"""A request of n bytes may come in 100 + n / 512 pieces. Go's client sends records and segments of a KiB and more."""

HANDSHAKE_SECONDS = READ_SECONDS = WRITE_SECONDS = 10.0

IDLE_SECONDS = 120.0
"""Longer than Go's client keeps a connection that nobody uses, 90 s, so that it never sends into one that we close."""

CLOSE_SECONDS = 1.0

ANSWER_COPIES = 4
"""How often an answer is in memory while it is sent: as it was made, as HTTP, and as TLS, which has two buffers."""

LINGER_BYTES = 256 * 1024
"""How much of an unread body is discarded at most before a connection is closed."""

MAX_CONNECTIONS = 500
"""Of all listeners together. One in its handshake takes 120 KiB. An API server has one for each review under way."""

BACKLOG = 128
"""
Connections that the kernel keeps until they are accepted, in the order of arrival.

An honest one waits behind them. With 4,096 it waited 7 s while a client opened connections as fast as it could. Beyond
the queue the kernel drops what opens a connection, and clients send that again after 1 s.
"""

_PIECE_BYTES = 65_536


class Request(NamedTuple):
    method: str
    path: str
    body: bytes


class Response(NamedTuple):
    status: int
    body: bytes
    content_type: str = "application/json"
    allow: str = ""
    """Of a 405: the methods that there are (RFC 9110, 15.5.6)."""


Respond = Callable[[Request], Awaitable[Response]]
_Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

Context = Callable[[], ssl.SSLContext | None]
"""The TLS context of a connection that begins now; None while there is none."""


class Budget:
    """Connections and bytes that all listeners of a process share."""

    def __init__(self) -> None:
        self.connections = trio.CapacityLimiter(MAX_CONNECTIONS)
        self.silent: Waits = {}
        self.reading: Waits = {}
        self.writing: Waits = {}
        self.waiting_bytes = 0

    def make_room(self) -> None:
        """Give up a connection if there are as many as there may be."""
        if not self.connections.available_tokens:
            _give_up(self.silent, self.reading, self.writing)

    def take(self, count: int) -> None:
        """
        Count bytes of a body that arrived or of an answer.

        If there are too many, the answer that is unsent longest gives way, or else the body that is unfinished longest.
        """
        self.waiting_bytes += count
        if self.waiting_bytes > MAX_WAITING_BYTES:
            _give_up(self.writing, self.reading)


async def serve(
    listeners: Sequence[socket.socket],
    respond: Respond,
    *,
    budget: Budget,
    max_body_bytes: int = MAX_BODY_BYTES,
    report: Callable[[Exception], None],
    stop: trio.Event,
    is_draining: Callable[[], bool] = lambda: False,
    tls: Context | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Until `stop` is set and the answers under way are sent. `tls` None: plain. `report` gets what nobody foresaw. With
    `max_body_bytes` 0 no body is read at all.

    While `is_draining` holds, every answer is the last of its connection. The client goes elsewhere with the next
    request, and has no connection left that is closed just as it sends one: Go's client does not send a POST again.
    """
    shared = _Shared(respond, report, stop, is_draining, tls, budget, max_body_bytes)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            for listener in listeners:
                accepting.start_soon(shared.accept, listener, connections)
            task_status.started()
            await stop.wait()
            accepting.cancel_scope.cancel()
        shared.end_idle()


@dataclass(eq=False)
class _Shared:
    """What the connections of one server have in common."""

    respond: Respond
    report: Callable[[Exception], None]
    stop: trio.Event
    is_draining: Callable[[], bool]
    tls: Context | None
    budget: Budget
    max_body_bytes: int
    idle: "Waits" = field(default_factory=dict)

    @property
    def is_ending(self) -> bool:
        """Whether an answer now is its connection's last."""
        return self.stop.is_set() or self.is_draining()

    async def accept(self, listener: socket.socket, connections: trio.Nursery) -> None:
        """Start a task for each connection, until cancelled."""
        with listener:
            while True:
                for stream in await accepted(listener):
                    connections.start_soon(self.keep, stream)
                await trio.lowlevel.checkpoint()

    async def keep(self, stream: trio.SocketStream) -> None:
        """One connection, whatever happens on it."""
        secured: _Stream | None = None
        try:
            self.budget.make_room()
            async with self.budget.connections:
                secured = await self._secured(stream)
                if secured is not None:
                    await _Connection(secured, self).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.ProtocolError):
            pass  # the client's
        except Exception as exc:  # noqa: BLE001  whatever it is, it is this connection's
            self.report(exc)
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True), suppress(OSError, trio.BrokenResourceError):
                await (secured or stream).aclose()
            await trio.aclose_forcefully(stream)

    def end_idle(self) -> None:
        for scope in self.idle:
            scope.cancel()

    async def _secured(self, stream: trio.SocketStream) -> _Stream | None:
        """The stream within TLS; None where there is no certificate yet, or no handshake in time."""
        if self.tls is None:
            return stream
        context = self.tls()
        if context is None:
            return None
        secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        with _waiting(HANDSHAKE_SECONDS, self.budget.silent, self.idle) as scope:
            await secured.do_handshake()
        return None if scope.cancelled_caught else secured


Waits = dict[trio.CancelScope, bool]
"""Waits for clients, longest first, and whether the client completed a request before. Cancelling one gives it up."""


@contextmanager
def _waiting(seconds: float, *among: Waits, is_known: bool = False) -> Iterator[trio.CancelScope]:
    """At most so long for a client, or until the wait is given up."""
    with trio.move_on_after(seconds) as scope:
        for waits in among:
            waits[scope] = is_known
        try:
            yield scope
        finally:
            for waits in among:
                waits.pop(scope, None)


def _give_up(*among: Waits) -> None:
    """Cancel the oldest wait: of clients that never completed a request if there is one, from the first table on."""
    candidates = [scope for waits in among for scope, is_known in waits.items() if not is_known]
    candidates += [scope for waits in among for scope in waits]
    if candidates:
        for waits in among:
            waits.pop(candidates[0], None)
        candidates[0].cancel()


_CRUMBLED = Response(400, b"The request comes in too many small pieces.\n", "text/plain")
_NO_LENGTH = Response(411, b"Send a Content-Length, not a Transfer-Encoding.\n", "text/plain")
_TOO_LONG = Response(413, b"The body is too long.\n", "text/plain")
_NO_BODY = Response(413, b"Requests here have no body.\n", "text/plain")


def _refusal(head: h11.Request, max_body_bytes: int) -> Response | None:
    """Return the answer to a request whose body is not read, by its head. h11 has checked that a length is a number."""
    headers = dict(head.headers)
    if b"transfer-encoding" in headers:
        return _NO_LENGTH
    if int(headers.get(b"content-length", b"0")) > max_body_bytes:
        return _TOO_LONG if max_body_bytes else _NO_BODY
    return None


class _Connection:
    """HTTP on one stream."""

    def __init__(self, stream: _Stream, shared: _Shared) -> None:
        self._stream = stream
        self._shared = shared
        self._http = h11.Connection(h11.SERVER)
        self._is_head = False
        self._is_known = False
        self._received = self._pieces = 0

    async def run(self) -> None:
        """Requests and answers until either side has had enough."""
        while await self._wait_for_bytes():
            body = bytearray()
            try:
                answer, is_last = await self._answer(body)
            finally:
                self._shared.budget.waiting_bytes -= len(body)
            if answer is None:
                return
            await self._write_in_time(answer, is_last=is_last or self._shared.is_ending)
            if self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                await self._linger()
                return
            self._http.start_next_cycle()
            self._is_known = True

    async def _answer(self, body: bytearray) -> tuple[Response | None, bool]:
        """Return the answer, None at the connection's end, and whether it has to be the last one."""
        request: Request | Response | None = None
        with _waiting(READ_SECONDS, self._shared.budget.reading, is_known=self._is_known):
            request = await self._read_into(body)
        if not isinstance(request, Request):
            return request, True
        return await self._shared.respond(request), False

    async def _wait_for_bytes(self) -> bool:
        """Whether a request has begun, before the connection was idle for too long or all is to stop."""
        self._received = self._pieces = 0
        if self._http.trailing_data[0]:
            await trio.lowlevel.checkpoint()
            return True
        seconds = 0 if self._shared.stop.is_set() else IDLE_SECONDS
        with _waiting(seconds, self._shared.budget.silent, self._shared.idle, is_known=self._is_known):
            return await self._receive()
        return False

    async def _linger(self) -> None:
        """
        Read on for a moment and discard it, so that a client that is still sending gets its answer (RFC 9112, 9.6).

        Closing with unread input makes the kernel send a reset. The bytes are discarded as they are, encrypted or not.
        """
        stream = self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        left = LINGER_BYTES
        with trio.move_on_after(CLOSE_SECONDS):
            await stream.send_eof()
            while left > 0 and (data := await stream.receive_some(_PIECE_BYTES)):
                left -= len(data)

    async def _receive(self) -> bool:
        """Take in the next piece. Returns False at the connection's end."""
        data = bytes(await self._stream.receive_some(_PIECE_BYTES))
        self._http.receive_data(data)
        self._received += len(data)
        self._pieces += 1
        return bool(data)

    @property
    def _is_crumbled(self) -> bool:
        return self._pieces > MAX_PIECES + self._received / BYTES_PER_PIECE

    async def _read_into(self, body: bytearray) -> Request | Response | None:
        """Return the request, or the answer to one that is not read to its end; None at the connection's end."""
        head: h11.Request | None = None
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as exc:
                return Response(exc.error_status_hint, b"This is no HTTP/1.1 request.\n", "text/plain")
            if event is h11.NEED_DATA:
                if self._is_crumbled:
                    return _CRUMBLED
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                await self._receive()
            elif isinstance(event, h11.Request):
                head = event
                self._is_head = event.method == b"HEAD"
                if refusal := _refusal(event, self._shared.max_body_bytes):
                    return refusal
            elif isinstance(event, h11.Data):
                body += event.data
                self._shared.budget.take(len(event.data))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                path = head.target.decode("ascii", "replace").partition("?")[0]
                return Request(head.method.decode("ascii"), path, bytes(body))
            else:
                return None

    async def _write_in_time(self, answer: Response, *, is_last: bool) -> None:
        """Raises TooSlowError if the client does not read, or if others need the memory."""
        budget, size = self._shared.budget, ANSWER_COPIES * len(answer.body)
        budget.take(size)
        try:
            with _waiting(WRITE_SECONDS, budget.writing, is_known=self._is_known) as scope:
                await self._write(answer, is_last=is_last)
        finally:
            budget.waiting_bytes -= size
        if scope.cancelled_caught:
            raise trio.TooSlowError

    async def _write(self, answer: Response, *, is_last: bool) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            *([("Allow", answer.allow)] if answer.allow else []),
            *([("Connection", "close")] if is_last else []),
        ]
        body = b"" if self._is_head else answer.body  # RFC 9110, 9.3.2: the length of a body that is not sent
        await self._send(
            h11.Response(status_code=answer.status, headers=headers), h11.Data(data=body), h11.EndOfMessage()
        )

    async def _send(self, *events: h11.Event) -> None:
        pieces = [self._http.send(event) or b"" for event in events]
        await self._stream.send_all(b"".join(pieces))
