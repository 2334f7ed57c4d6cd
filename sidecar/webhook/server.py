"""
HTTP/1.1, over TLS or plain: one request after the other on each connection, all of them bounded in size and time.

h11 comes with httpx anyway. hypercorn 0.18 does as many reviews a second, of which the review itself takes the most,
but in a Pod it is 4 MiB larger, and of what its connections raise it catches OSError alone: anything else ends the
listener. It also waits without end for a client that does not read (its send is shielded). What is missed is HTTP/2,
which the API server goes without. No exception of one connection reaches another here.

The API server cannot be told from others before it has asked, so whoever reaches the port may connect. Where there are
too many connections, or too much of unfinished bodies, those give way that have been silent or unfinished longest: an
honest client is through within milliseconds.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

import h11
import trio

MAX_BODY_BYTES = 4 * 1024 * 1024
"""The API server takes objects of 3 MiB, and a review of a creation holds one, and is many times that once read."""

MAX_UNFINISHED_BYTES = 32 * 1024 * 1024
"""Of all bodies that are not there yet: the manifests give the process 256 MiB."""

HANDSHAKE_SECONDS = READ_SECONDS = WRITE_SECONDS = 10.0

IDLE_SECONDS = 120.0
"""Longer than Go's client keeps a connection that nobody uses, 90 s, so that it never sends into one that we close."""

CLOSE_SECONDS = 1.0

MAX_CONNECTIONS = 1000

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


async def serve(
    listeners: Sequence[socket.socket],
    respond: Respond,
    *,
    report: Callable[[Exception], None],
    stop: trio.Event,
    is_draining: Callable[[], bool] = lambda: False,
    tls: Context | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Until `stop` is set and the answers under way are sent. `tls` None: plain. `report` gets what nobody foresaw.

    While `is_draining` holds, every answer is the last of its connection. The client goes elsewhere with the next
    request, and has no connection left that is closed just as it sends one: Go's client does not send a POST again.
    """
    shared = _Shared(respond, report, stop, is_draining, tls)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            for listener in listeners:
                taken = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
                accepting.start_soon(partial(trio.serve_listeners, shared.keep, taken, handler_nursery=connections))
            task_status.started()
            await stop.wait()
            accepting.cancel_scope.cancel()
        shared.end_idle()


class _Shared:
    """What the connections of one server have in common."""

    def __init__(
        self,
        respond: Respond,
        report: Callable[[Exception], None],
        stop: trio.Event,
        is_draining: Callable[[], bool],
        tls: Context | None,
    ) -> None:
        self.respond = respond
        self.stop = stop
        self._is_draining = is_draining
        self._report = report
        self._tls = tls
        self._limit = trio.CapacityLimiter(MAX_CONNECTIONS)
        self.silent: Waits = {}
        self.reading: Waits = {}
        self.unfinished_bytes = 0

    @property
    def is_ending(self) -> bool:
        """Whether an answer now is its connection's last."""
        return self.stop.is_set() or self._is_draining()

    async def keep(self, stream: trio.SocketStream) -> None:
        """One connection, whatever happens on it."""
        secured: _Stream | None = None
        try:
            if not self._limit.available_tokens:
                _give_up_oldest(self.silent or self.reading)
            async with self._limit:
                secured = await self._secured(stream)
                if secured is not None:
                    await _Connection(secured, self).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.ProtocolError):
            pass  # the client's
        except Exception as exc:  # noqa: BLE001  whatever it is, it is this connection's
            self._report(exc)
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True), suppress(OSError, trio.BrokenResourceError):
                await (secured or stream).aclose()
            await trio.aclose_forcefully(stream)

    def take(self, count: int) -> None:
        """So many bytes more of a body have come."""
        self.unfinished_bytes += count
        if self.unfinished_bytes > MAX_UNFINISHED_BYTES:
            _give_up_oldest(self.reading)

    def end_idle(self) -> None:
        for scope in self.silent:
            scope.cancel()

    async def _secured(self, stream: trio.SocketStream) -> _Stream | None:
        """The stream within TLS; None where there is no certificate yet, or no handshake in time."""
        if self._tls is None:
            return stream
        context = self._tls()
        if context is None:
            return None
        secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        with _waiting(self.silent, HANDSHAKE_SECONDS) as scope:
            await secured.do_handshake()
        return None if scope.cancelled_caught else secured


Waits = dict[trio.CancelScope, None]
"""What is waited for from clients, longest first. Cancelling one gives its connection up."""


@contextmanager
def _waiting(among: Waits, seconds: float) -> Iterator[trio.CancelScope]:
    """At most so long for a client, or until the wait is given up."""
    with trio.move_on_after(seconds) as scope:
        among[scope] = None
        try:
            yield scope
        finally:
            among.pop(scope, None)


def _give_up_oldest(waits: Waits) -> None:
    oldest = next(iter(waits), None)
    if oldest is not None:
        del waits[oldest]
        oldest.cancel()


class _Connection:
    """HTTP on one stream."""

    def __init__(self, stream: _Stream, shared: _Shared) -> None:
        self._stream = stream
        self._shared = shared
        self._http = h11.Connection(h11.SERVER)
        self._is_head = False

    async def run(self) -> None:
        """Requests and answers until either side has had enough."""
        while await self._wait_for_bytes():
            request = None
            with _waiting(self._shared.reading, READ_SECONDS):
                request = await self._read()
            if request is None:
                return
            answer = request if isinstance(request, Response) else await self._shared.respond(request)
            with trio.fail_after(WRITE_SECONDS):
                await self._write(answer, is_last=isinstance(request, Response) or self._shared.is_ending)
            if self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                return
            self._http.start_next_cycle()

    async def _wait_for_bytes(self) -> bool:
        """Whether a request has begun, before the connection was idle for too long or all is to stop."""
        if self._http.trailing_data[0]:
            return True
        data = b""
        with _waiting(self._shared.silent, 0 if self._shared.stop.is_set() else IDLE_SECONDS):
            data = bytes(await self._stream.receive_some(_PIECE_BYTES))
            self._http.receive_data(data)
        return bool(data)

    async def _read(self) -> Request | Response | None:
        """The request, or what it is answered with unread; None at the connection's end."""
        body = bytearray()
        try:
            return await self._read_into(body)
        finally:
            self._shared.unfinished_bytes -= len(body)

    async def _read_into(self, body: bytearray) -> Request | Response | None:
        head: h11.Request | None = None
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as exc:
                return Response(exc.error_status_hint, b"This is no HTTP/1.1 request.\n", "text/plain")
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(bytes(await self._stream.receive_some(_PIECE_BYTES)))
            elif isinstance(event, h11.Request):
                head = event
                self._is_head = event.method == b"HEAD"
            elif isinstance(event, h11.Data):
                body += event.data
                self._shared.take(len(event.data))
                if len(body) > MAX_BODY_BYTES:
                    return Response(413, b"The body is too long.\n", "text/plain")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                path = head.target.decode("ascii", "replace").partition("?")[0]
                return Request(head.method.decode("ascii"), path, bytes(body))
            else:
                return None

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
