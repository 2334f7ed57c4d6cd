"""
The only listener code: connections in, one answer each, out.

Rule: whatever a client does costs a bounded time, a bounded memory and one file descriptor, and never another
client's answer. One request a connection. When it is already there as the connection is accepted, it is answered in
the accept loop itself, because starting a task costs as much again; only a client that is slow, refused or held gets
a task, and those are counted.

TCP_DEFER_ACCEPT would let the kernel keep a connection until its request is there. Measured on Linux 6, it serves 4
to 17% more requests a second with 32 clients and no fewer microseconds each at 200 a second, but a silent client
then hears its 408 after 6.4 s instead of 5, on the kernel's own timer: so it stays off.
"""

import errno
import resource
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import trio

from sidecar.clock import Instant
from sidecar.serving import http
from sidecar.serving.container_credentials import Answer
from sidecar.serving.http import Refusal, Request
from sidecar.serving.listen import BACKLOG

_READ_BYTES = 4096
"""Below the head's cap, so that no single read can exceed it; SDK requests are under 1 KiB."""

_NO_CAPACITY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept says when this process or machine has nothing left; the connection stays in the queue."""

_PAUSE_SECONDS = 0.05
"""Between accepts that fail while there is nothing to give up, so that the loop never spins."""

_LAST_WORDS_SECONDS = 0.2
"""When the server stops, for a request whose bytes are on their way."""

_MAX_HOLDS = 2
"""How often one request may be held: a client with a new secret may also have to wait for its user to be known."""

CLIENT_GONE = 499
"""The status observed for a client that left before its whole answer; never sent. nginx logs the same number."""

_GONE = Answer(CLIENT_GONE, b"")
_FAULT = Answer(500, http.error_response(500, "A fault of the sidecar itself: its log has the details."))
_TOO_SLOW = Refusal(408, "No whole request arrived in time.")
_ENDED_EARLY = Refusal(400, "The connection ended before the request did.")
_EVICTED = Refusal(503, "There are too many connections, and this one was idle longest.")
_SHED = Answer(503, http.error_response(503, "There are too many connections."))


Respond = Callable[[Request, Instant, socket.socket], Answer]
"""
How a listener answers what came on this accepted socket: quick, without waiting, and without raising.

The socket is there to be asked about, and not to be read, written or kept.
"""


class Limits(NamedTuple):
    """What one client, and all of them together, may take."""

    head_seconds: float = 5.0
    """From accept to the whole head; then 408."""
    write_seconds: float = 5.0
    """For a client to take its answer, which normally fits the socket's buffer at once."""
    linger_seconds: float = 1.0
    linger_bytes: int = 64 * 1024
    """How long and how much is still read and thrown away after a refusal; see `_linger`."""
    hold_seconds: float = 0.8
    """
    Deadline for what a held request waits for: the first credentials, or a check of the secret's file. Most SDKs give
    up at 1 s, and Java retries without a pause.
    """
    stop_seconds: float = 3.0
    """For answers under way when the server is told to stop."""
    connections: int = 256
    """
    How many may be slow, held or lingering at once. Clients answered in the accept loop do not count.

    Each costs a task and up to 32 KiB of receive buffer: 256 and their process stay below 48 MiB, and the manifests'
    memory limit is 64 (`python -m benchmarks.socket_memory`).
    """
    accepts_per_pass: int = 64
    """Then every other task has its turn."""


def connection_limit(most: int = Limits().connections) -> int:
    """At most this many, and never over half of the file descriptors that the process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, soft // 2)


async def serve(
    listeners: Sequence[socket.socket],
    respond: Respond,
    *,
    now: Callable[[], Instant],
    observe: Callable[[Answer, Any], None],
    report: Callable[[Exception], None],
    wait: Callable[[Answer], Awaitable[object]] | None = None,
    parse: http.Parse = http.parse,
    limits: Limits = Limits(),  # noqa: B008  an immutable value
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Answer on these non-blocking listeners until `stop` is set; then close them and let answers end.

    `parse` is the grammar of a request, and `respond` decides its answer. `wait` waits for what a held answer lacks;
    the server brings the deadline and asks `respond` again. `observe` sees one answer for each client that said
    anything, with the peer's address, once the answer is on its way; it may be called very often. `report` gets what
    the other callbacks raise: the client gets a 500 if it has no answer yet, and the server goes on.

    When `stop` is set: what waits in the kernel's queue is still accepted, then nothing more; clients without a whole
    request have 0.2 s for it; answers have `stop_seconds`. Cancellation instead closes everything at once. The
    listeners are closed in the end either way.
    """
    try:
        async with trio.open_nursery() as connections:
            server = _Server(connections, respond, now, observe, report, wait, parse, limits)
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(server.accept_forever, listener)
                task_status.started()
                await (trio.Event() if stop is None else stop).wait()
                accepting.cancel_scope.cancel()
            server.accept_last(listeners)
            _close(listeners)  # before the wait, so that whoever comes now is refused at once
            connections.cancel_scope.deadline = trio.current_time() + limits.stop_seconds
    finally:
        _close(listeners)


def _close(listeners: Iterable[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


@dataclass(eq=False, slots=True)
class _Server:
    """What the connections of one `serve` share: its callbacks, how many have a task, and which of those are idle."""

    nursery: trio.Nursery
    respond: Respond
    now: Callable[[], Instant]
    observe: Callable[[Answer, Any], None]
    report: Callable[[Exception], None]
    wait: Callable[[Answer], Awaitable[object]] | None
    parse: http.Parse
    limits: Limits
    tasks: int = 0
    idle: dict[trio.CancelScope, None] = field(default_factory=dict)
    """Oldest first. Cancelling one ends its wait for the client."""

    async def accept_forever(self, listener: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                self._accept_ready(listener)
            except OSError as error:
                await self._recover(error)
            except Exception as error:  # noqa: BLE001  whatever it is, the listener must go on
                self._complain(error)
                await trio.sleep(_PAUSE_SECONDS)

    def accept_last(self, listeners: Iterable[socket.socket]) -> None:
        """Take all that the kernel has queued, and let nobody be slow with a request any more."""
        self.limits = self.limits._replace(head_seconds=_LAST_WORDS_SECONDS, accepts_per_pass=BACKLOG)
        deadline = trio.current_time() + _LAST_WORDS_SECONDS
        for scope in self.idle:
            scope.deadline = min(scope.deadline, deadline)
        for listener in listeners:
            with suppress(OSError):
                self._accept_ready(listener)

    def _accept_ready(self, listener: socket.socket) -> None:
        now = self.now()  # one reading serves the pass, which lasts a few milliseconds at most
        for _ in range(self.limits.accepts_per_pass):
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # the client left the queue
            try:
                self._welcome(sock, peer, now)
            except Exception as error:  # noqa: BLE001  one connection's failure must not reach the listener
                sock.close()
                self._complain(error)

    async def _recover(self, error: OSError) -> None:
        """After a failed accept: for lack of capacity give up the oldest idle connection; else pause."""
        if error.errno in _NO_CAPACITY and self._evict():
            await trio.lowlevel.checkpoint()  # in which its task closes it
            return
        if error.errno not in _NO_CAPACITY:
            self._complain(error)
        await trio.sleep(_PAUSE_SECONDS)

    def _evict(self) -> bool:
        """End the wait of the connection that has been idle longest; says whether there was one."""
        scope = next(iter(self.idle), None)
        if scope is None:
            return False
        del self.idle[scope]
        scope.cancel()
        return True

    def _welcome(self, sock: socket.socket, peer: Any, now: Instant) -> None:
        """Answer now if the request is here, whole and alone; else give the connection a task."""
        try:
            buffer = sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._start_reading(sock, peer, b"")
            return
        except OSError:
            sock.close()  # a reset without a byte: how some port probes end
            return
        request = self.parse(buffer)
        if not isinstance(request, Request) or request.size != len(buffer):
            self._start_reading(sock, peer, buffer)
            return
        answer = self._ask(request, now, sock)
        if answer.hold and self.wait is not None and self._has_room():
            self._start(self._converse, sock, peer, buffer, trio.CancelScope())
        else:
            self._send_now(sock, peer, answer)

    def _ask(self, request: Request, now: Instant, sock: socket.socket) -> Answer:
        try:
            return self.respond(request, now, sock)
        except Exception as error:  # noqa: BLE001  a fault of ours is one client's 500, not everybody's end
            self._complain(error)
            return _FAULT

    def _note(self, answer: Answer, peer: Any) -> None:
        try:
            self.observe(answer, peer)
        except Exception as error:  # noqa: BLE001  counting must not cost anybody an answer
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        with suppress(Exception):  # a log that fails has nobody left to tell
            self.report(error)

    def _send_now(self, sock: socket.socket, peer: Any, answer: Answer) -> None:
        try:
            sent = sock.send(answer.response, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose(sock, peer)
            return
        if sent == len(answer.response):
            sock.close()
            self._note(answer, peer)
        else:
            self._start(self._deliver, sock, peer, answer, sent)

    def _lose(self, sock: socket.socket, peer: Any) -> None:
        sock.close()
        self._note(_GONE, peer)

    def _has_room(self) -> bool:
        return self.tasks < self.limits.connections or bool(self.idle)

    def _start_reading(self, sock: socket.socket, peer: Any, buffer: bytes) -> None:
        """A task that waits for the rest of the request, idle from now on: of many in a pass the newest stay."""
        waiting = trio.CancelScope(deadline=trio.current_time() + self.limits.head_seconds)
        if self._start(self._converse, sock, peer, buffer, waiting):
            self.idle[waiting] = None

    def _start(self, task: Callable[..., Awaitable[None]], sock: socket.socket, peer: Any, *state: object) -> bool:
        """Give the connection a task, in place of the oldest idle one when there are too many; else shed it."""
        if self.tasks >= self.limits.connections and not self._evict():
            with suppress(OSError):
                sock.send(_SHED.response, socket.MSG_DONTWAIT)
            sock.close()
            self._note(_SHED, peer)
            return False
        self.tasks += 1
        self.nursery.start_soon(self._contain, task, sock, peer, *state)
        return True

    async def _contain(
        self, task: Callable[..., Awaitable[None]], sock: socket.socket, peer: Any, *state: object
    ) -> None:
        """Run a connection's task so that nothing it raises goes further, and its socket is always closed."""
        try:
            with sock:
                await task(sock, peer, *state)
        except OSError:
            self._note(_GONE, peer)
        except Exception as error:  # noqa: BLE001  an exception here would end every listener
            self._complain(error)
        finally:
            self.tasks -= 1

    async def _converse(self, sock: socket.socket, peer: Any, buffer: bytes, waiting: trio.CancelScope) -> None:
        """Read until there is a request or a reason against one, answer, and leave politely."""
        request, received = await self._read(sock, buffer, waiting)
        if request is None:
            return
        if isinstance(request, Request):
            await self._deliver(sock, peer, await self._ask_or_hold(request, sock), 0)
            has_more = received > request.size
        else:
            await self._deliver(sock, peer, Answer(request.status, request.response), 0)
            has_more = request is not _EVICTED  # whose descriptor somebody is waiting for
        if has_more:
            await self._linger(sock)

    async def _read(
        self, sock: socket.socket, buffer: bytes, waiting: trio.CancelScope
    ) -> tuple[Request | Refusal | None, int]:
        """The request, or why there is none, and how much came; None if the client never said anything."""
        with self._evictable(waiting):
            while (request := self.parse(buffer)) is None:
                chunk = await _receive(sock)
                if not chunk:
                    return _ENDED_EARLY if buffer else None, len(buffer)
                buffer += chunk
            return request, len(buffer)
        return _TOO_SLOW if trio.current_time() >= waiting.deadline else _EVICTED, len(buffer)

    @contextmanager
    def _evictable(self, waiting: trio.CancelScope) -> Iterator[None]:
        """A wait for the client's next bytes, bounded, and cut short when somebody else needs the place."""
        with waiting:
            try:
                yield
            finally:
                self.idle.pop(waiting, None)

    async def _ask_or_hold(self, request: Request, sock: socket.socket) -> Answer:
        answer = self._ask(request, self.now(), sock)
        deadline = trio.current_time() + self.limits.hold_seconds
        for _ in range(_MAX_HOLDS):
            if not answer.hold or self.wait is None:
                return answer
            try:
                with trio.move_on_at(deadline):
                    await self.wait(answer)
            except Exception as error:  # noqa: BLE001  as in `_ask`
                self._complain(error)
                return _FAULT
            request = request._replace(has_waited=True)
            answer = self._ask(request, self.now(), sock)
        return answer

    async def _deliver(self, sock: socket.socket, peer: Any, answer: Answer, sent: int) -> None:
        """Send the rest of the answer, for as long as the client takes it."""
        with trio.move_on_after(self.limits.write_seconds):
            while sent < len(answer.response):
                try:
                    sent += sock.send(answer.response[sent:], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(sock)
        self._note(answer if sent == len(answer.response) else _GONE, peer)

    async def _linger(self, sock: socket.socket) -> None:
        """
        Say that this was all, and throw away what still comes, for a while (RFC 9112 section 9.6).

        Closing with unread input makes the kernel send a reset, which may take the answer from the client's hands.
        """
        waiting = trio.CancelScope(deadline=trio.current_time() + self.limits.linger_seconds)
        self.idle[waiting] = None
        with suppress(OSError), self._evictable(waiting):
            sock.shutdown(socket.SHUT_WR)
            left = self.limits.linger_bytes
            while left > 0 and (chunk := await _receive(sock)):
                left -= len(chunk)


async def _receive(sock: socket.socket) -> bytes:
    """The next bytes, or none at the end; a reset is an end as well."""
    while True:
        try:
            return sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
        except OSError:
            return b""
