"""
Accept connections on the listeners, and send one response on each.

Rule: whatever a client does, it takes bounded time, bounded memory and one file descriptor. No client can prevent the
response to another one. There is one request per connection.

If a request has arrived when its connection is accepted, the accept loop responds, without a task. Only a slow,
rejected or held client gets a task, and the number of tasks is limited. The code therefore has two paths for a request,
in the loop and in a task. The path in the loop exists because of its measured gain: a prototype served 52,242 requests
a second with it, and 31,755 with a task for every connection. To measure this, see
docs/decisions/0005-answer-in-the-accept-loop.md.

The kernel holds a connection until its request has arrived (connection.py), so few clients need a task. Identical
requests that arrive together get one decision (`_Decided`).
"""

import errno
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from sidecar.clock import Instant
from sidecar.serving import http
from sidecar.serving.connection import Accept, Connection, acceptor, defer_accept
from sidecar.serving.container_credentials import Response
from sidecar.serving.http import Rejection, Request
from sidecar.serving.limits import Limits
from sidecar.serving.listen import BACKLOG

if TYPE_CHECKING:  # only types
    from sidecar.serving.listener import Handler

_READ_BYTES = 4096
"""Maximum size of one read. It is below the limit for a head, so a single read cannot exceed that limit. SDKs send
under 1 KiB."""

_NO_CAPACITY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of accept when this process or machine has no free resources. The connection stays in the queue."""

_PAUSE_SECONDS = 0.05
"""Pause after a failed accept when no connection can be evicted, so that the loop does not spin."""

STOP_HEAD_SECONDS = 0.2
"""Time for a request to arrive after the server begins to stop. The kernel may still hold the request's connection."""

_MAX_HOLDS = 2
"""Maximum number of times that one request is held: for a newer secret, and then for the client's user."""

CLIENT_GONE = 499
"""The observed status for a client that did not read its whole response. It is never sent; nginx also logs 499."""

_GONE = Response(CLIENT_GONE, b"")
_FAULT = Response(500, http.error_response(500, "An internal error of the sidecar: its log has the details."))
_TOO_SLOW = Rejection(408, "The request did not arrive completely in time.")
_CLOSED_EARLY = Rejection(400, "The connection was closed before the request was complete.")
_EVICTED = Rejection(503, "There are too many connections, and this one was idle longest.")
_SHED = Response(503, http.error_response(503, "There are too many connections."))


async def serve(
    listeners: Sequence[socket.socket],
    handler: "Handler",
    *,
    limits: Limits = Limits(),  # noqa: B008  an immutable value
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve on these non-blocking listeners until `stop` is set, then close them and finish the responses.

    When `stop` is set, clients have 0.2 s to complete their requests, and `stop_seconds` to read their responses. The
    server accepts new connections in these 0.2 s too. Cancellation closes all connections at once instead. The
    listeners are closed in both cases.
    """
    for listener in listeners:
        defer_accept(listener, limits.defer_seconds)
    try:
        async with trio.open_nursery() as connections:
            server = _Server(connections, handler, limits)
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(server.accept_forever, listener)
                task_status.started()
                await (trio.Event() if stop is None else stop).wait()
                stop_at = trio.current_time() + limits.stop_seconds
                server.shorten_deadlines()
                await trio.sleep(STOP_HEAD_SECONDS)
                accepting.cancel_scope.cancel()
            server.accept_last(listeners)
            _close(listeners)  # before this block waits for its tasks, so that the kernel refuses later clients at once
            connections.cancel_scope.deadline = stop_at
    finally:
        _close(listeners)


def _close(listeners: Iterable[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


class _Decided(NamedTuple):
    """
    The bytes of a request, and the response that identical requests get in the same pass.

    Within a pass, neither the time nor the state changes. The value ends with the pass, because the request contains a
    secret.
    """

    request: bytes
    response: Response


@dataclass(eq=False, slots=True)
class _Server:
    """The state that the connections of one `serve` share: the number of tasks, and the idle connections."""

    nursery: trio.Nursery
    handler: "Handler"
    limits: Limits
    tasks: int = 0
    idle: dict[trio.CancelScope, None] = field(default_factory=dict)
    """The cancel scopes of the waits for clients, oldest first. The server cancels a scope to end its wait."""

    async def accept_forever(self, listener: socket.socket) -> None:
        accept = acceptor(listener)
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                self._accept_ready(accept)
            except OSError as error:
                await self._recover(error)
            except Exception as error:  # noqa: BLE001  whatever it is, the listener must go on
                self._report_error(error)
                await trio.sleep(_PAUSE_SECONDS)

    def shorten_deadlines(self) -> None:
        """Shorten the time for requests that are not complete, because the server stops."""
        self.limits = self.limits._replace(head_seconds=STOP_HEAD_SECONDS, accepts_per_pass=BACKLOG)
        deadline = trio.current_time() + STOP_HEAD_SECONDS
        for scope in self.idle:
            scope.deadline = min(scope.deadline, deadline)

    def accept_last(self, listeners: Iterable[socket.socket]) -> None:
        """Accept all connections in the kernel's queue."""
        for listener in listeners:
            with suppress(OSError):
                self._accept_ready(acceptor(listener))

    def _accept_ready(self, accept: Accept) -> None:
        now = self.handler.now()  # one reading of the clocks per pass, which takes a few milliseconds at most
        decided = None
        for _ in range(self.limits.accepts_per_pass):
            try:
                sock, address = accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # the client disconnected in the queue
            try:
                decided = self._handle_accepted(sock, address, now, decided)
            except Exception as error:  # noqa: BLE001  an error of one connection must not reach the listener
                sock.close()
                self._report_error(error)

    async def _recover(self, error: OSError) -> None:
        """After a failed accept, evict the oldest idle connection if resources are exhausted. Otherwise pause."""
        if error.errno in _NO_CAPACITY and self._evict():
            await trio.lowlevel.checkpoint()  # the evicted connection's task closes its socket
            return
        if error.errno not in _NO_CAPACITY:
            self._report_error(error)
        await trio.sleep(_PAUSE_SECONDS)

    def _evict(self) -> bool:
        """End the wait of the connection that has been idle longest. Return whether there was such a connection."""
        scope = next(iter(self.idle), None)
        if scope is None:
            return False
        del self.idle[scope]
        scope.cancel()
        return True

    def _handle_accepted(
        self, sock: Connection, address: Any, now: Instant, decided: "_Decided | None"
    ) -> "_Decided | None":
        """
        Respond at once if exactly one complete request has arrived. Otherwise start a task for the connection.

        Return the decision that the next identical request of this pass gets too, or None.
        """
        try:
            buffer = sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._start_reading(sock, address, b"")
            return decided
        except OSError:
            sock.close()  # the client reset the connection without a byte, as some port probes do
            return decided
        if decided is not None and compare_digest(buffer, decided.request):
            self._send_now(sock, address, decided.response)
            return decided
        return self._decide(sock, address, now, buffer)

    def _decide(self, sock: Connection, address: Any, now: Instant, buffer: bytes) -> "_Decided | None":
        """Respond to the request in the buffer, or start a task. Return the decision if others may get it too."""
        request = self.handler.parse(buffer)
        if not isinstance(request, Request) or request.size != len(buffer):
            self._start_reading(sock, address, buffer)
            return None
        response = self._respond(request, now, sock)
        if response.hold and self._has_room():
            self._start(self._serve_connection, sock, address, buffer, trio.CancelScope())
            return None
        self._send_now(sock, address, response)
        return _Decided(buffer, response) if response.is_for_all and response.peer is None else None

    def _respond(self, request: Request, now: Instant, sock: Connection) -> Response:
        try:
            return self.handler.respond(request, now, sock)
        except Exception as error:  # noqa: BLE001  our bug is a 500 for one client, and serving goes on
            self._report_error(error)
            return _FAULT

    def _record(self, response: Response, address: Any) -> None:
        try:
            self.handler.observe(response, address)
        except Exception as error:  # noqa: BLE001  a failure to count must not cost a client its response
            self._report_error(error)

    def _report_error(self, error: Exception) -> None:
        with suppress(Exception):  # if the log fails, there is no other place to report it
            self.handler.report(error)

    def _send_now(self, sock: Connection, address: Any, response: Response) -> None:
        try:
            sent = sock.send(response.content, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            sock.close()
            self._record(_GONE, address)
            return
        if sent == len(response.content):
            sock.close()
            self._record(response, address)
        else:
            self._start(self._send_rest, sock, address, response, sent)

    def _has_room(self) -> bool:
        return self.tasks < self.limits.connections or bool(self.idle)

    def _start_reading(self, sock: Connection, address: Any, buffer: bytes) -> None:
        """
        Start a task that reads the rest of the request.

        The connection counts as idle at once, so a later connection can evict it.
        """
        waiting = trio.CancelScope(deadline=trio.current_time() + self.limits.head_seconds)
        if self._start(self._serve_connection, sock, address, buffer, waiting):
            self.idle[waiting] = None

    def _start(self, task: Callable[..., Awaitable[None]], sock: Connection, address: Any, *state: object) -> bool:
        """
        Start a task for the connection. Return False if the connection was dropped instead.

        Above the limit, the oldest idle connection is evicted. If none is idle, this connection is dropped.
        """
        if self.tasks >= self.limits.connections and not self._evict():
            with suppress(OSError):
                sock.send(_SHED.content, socket.MSG_DONTWAIT)
            sock.close()
            self._record(_SHED, address)
            return False
        self.tasks += 1
        self.nursery.start_soon(self._run_connection_task, task, sock, address, *state)
        return True

    async def _run_connection_task(
        self, task: Callable[..., Awaitable[None]], sock: Connection, address: Any, *state: object
    ) -> None:
        """Run a connection's task. Report its exceptions instead of raising them, and always close the socket."""
        try:
            with sock:
                await task(sock, address, *state)
        except OSError:
            self._record(_GONE, address)
        except Exception as error:  # noqa: BLE001  an exception here would end every listener
            self._report_error(error)
        finally:
            self.tasks -= 1

    async def _serve_connection(self, sock: Connection, address: Any, buffer: bytes, waiting: trio.CancelScope) -> None:
        """Read a request, send the response or a rejection, and linger if the client may still be sending."""
        request, received = await self._read(sock, buffer, waiting)
        if request is None:
            return
        if isinstance(request, Request):
            await self._send_rest(sock, address, await self._respond_or_hold(request, sock), 0)
            has_more = received > request.size
        else:
            await self._send_rest(sock, address, Response(request.status, request.content), 0)
            has_more = request is not _EVICTED  # another client needs this connection's descriptor
        if has_more:
            await self._linger(sock)

    async def _read(
        self, sock: Connection, buffer: bytes, waiting: trio.CancelScope
    ) -> tuple[Request | Rejection | None, int]:
        """Return the request, its rejection, or None if the client sent nothing, and the number of received bytes."""
        with self._evictable(waiting):
            while (request := self.handler.parse(buffer)) is None:
                chunk = await _receive(sock)
                if not chunk:
                    return _CLOSED_EARLY if buffer else None, len(buffer)
                buffer += chunk
            return request, len(buffer)
        return _TOO_SLOW if trio.current_time() >= waiting.deadline else _EVICTED, len(buffer)

    @contextmanager
    def _evictable(self, waiting: trio.CancelScope) -> Iterator[None]:
        """Limit the time of a wait for the client's next bytes. An eviction ends the wait early."""
        with waiting:
            try:
                yield
            finally:
                self.idle.pop(waiting, None)

    async def _respond_or_hold(self, request: Request, sock: Connection) -> Response:
        response = self._respond(request, self.handler.now(), sock)
        deadline = trio.current_time() + self.limits.hold_seconds
        for _ in range(_MAX_HOLDS):
            if not response.hold:
                return response
            try:
                with trio.move_on_at(deadline):
                    await self.handler.wait(response)
            except Exception as error:  # noqa: BLE001  as in `_respond`
                self._report_error(error)
                return _FAULT
            request = request._replace(has_waited=True)
            response = self._respond(request, self.handler.now(), sock)
        return response

    async def _send_rest(self, sock: Connection, address: Any, response: Response, sent: int) -> None:
        """Send the rest of the response within `write_seconds`."""
        with trio.move_on_after(self.limits.write_seconds):
            while sent < len(response.content):
                try:
                    sent += sock.send(response.content[sent:], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(sock)
        self._record(response if sent == len(response.content) else _GONE, address)

    async def _linger(self, sock: Connection) -> None:
        """
        Close the sending side, then read and discard input for a while (RFC 9112 section 9.6).

        If a socket is closed with unread input, the kernel sends a reset, which can destroy the response at the client.
        """
        waiting = trio.CancelScope(deadline=trio.current_time() + self.limits.linger_seconds)
        self.idle[waiting] = None
        with suppress(OSError), self._evictable(waiting):
            sock.shutdown(socket.SHUT_WR)
            left = self.limits.linger_bytes
            while left > 0 and (chunk := await _receive(sock)):
                left -= len(chunk)


async def _receive(sock: Connection) -> bytes:
    """Return the next bytes. Empty bytes mean the end of the input or a reset."""
    while True:
        try:
            return sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
        except OSError:
            return b""
