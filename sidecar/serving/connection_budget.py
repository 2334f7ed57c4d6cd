"""
Limit the connections and the waiting bytes of all HTTP servers together, by closing connections above the limits.

Rules:

- No connection keeps its place because it is busy. While others wait for a place, a connection closes after its
  response, and the budget can end a wait for a client. Only a response without an end continues.
- Before its first request, no client can be distinguished from the API server, so every client may connect.
- If others need places, at most half of them belong to clients that completed a request. The rest is for new clients,
  and the one that began first is closed first. Otherwise clients that completed a request could keep all places but
  one, and new clients would replace each other in that place.
- Among clients that completed a request, an idle one is closed first. Go's client does not repeat a POST.
"""

from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Literal

import trio

MAX_CONNECTIONS = 500
"""
Maximum number of connections of all listeners together.

A connection in its handshake takes 120 KiB. An API server opens one connection for each pending review.
"""

MAX_QUEUED = 128
"""
While this many accepted connections wait for a place, no more are accepted. The kernel's queue holds further ones.
"""

MAX_WAITING_BYTES = 32 * 1024 * 1024
"""
Maximum size of all incomplete or unparsed request bodies and unsent responses together.

The manifests set a memory limit of 256 MiB.
"""

Reason = Literal["connections", "bytes", "tls"]
"""The limit for which a connection was closed: of connections, of waiting bytes, or of the work for its TLS."""


class Phase(Enum):
    """The state of a connection that waits for its client."""

    IDLE = "idle"
    """In the TLS handshake, or before the first byte of a request."""
    READING = "reading"
    WRITING = "writing"
    LINGERING = "lingering"
    """After the last response."""
    STREAMING = "streaming"
    """During a response without an end, which only the stop of the server closes."""


@dataclass(eq=False, slots=True)
class Place:
    """
    The place of one connection.

    `scope` is the current wait for the client, or None while the server works for the connection. Its cancellation
    closes the connection. `size` is the number of waiting bytes. `is_known` is True after the first complete request.
    `is_leaving` is True if the budget has closed the connection.
    """

    scope: trio.CancelScope | None = None
    phase: Phase = Phase.IDLE
    is_known: bool = False
    is_leaving: bool = False
    size: int = 0


class Budget:
    """The connections and bytes that all listeners of a process share."""

    def __init__(self, max_connections: int | None = None) -> None:
        self._limit = self._free = max_connections or MAX_CONNECTIONS
        self._places: dict[Place, None] = {}
        """All places. The connection whose current request began first comes first."""
        self._known = self._leaving = self._leaving_bytes = 0
        self._queue: deque[trio.Event] = deque()
        self._shorter = trio.lowlevel.ParkingLot()
        self.waiting_bytes = 0
        self.closed: Counter[Reason] = Counter()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """Wait for a place, and hold it for the block. Connections get places in the order of their arrival."""
        await self._wait_for_place()
        place = Place()
        self._places[place] = None
        try:
            yield place
        finally:
            self.resize(place, 0)
            del self._places[place]
            self._known -= place.is_known
            self._leaving -= place.is_leaving
            self._release()

    async def wait_for_short_queue(self) -> None:
        """Wait until fewer than MAX_QUEUED connections wait for a place."""
        while len(self._queue) >= MAX_QUEUED:
            await self._shorter.park()

    def complete(self, place: Place) -> None:
        """Note that the client completed a request."""
        self._known += not place.is_known
        place.is_known = True
        self._move_to_end(place)

    def begin(self, place: Place) -> None:
        """Note that a request begins. A new client's first request began with its connection."""
        if place.is_known:
            self._move_to_end(place)

    def gives_up(self, place: Place) -> bool:
        """Return whether the connection closes after its response, because others wait for a place."""
        if self._is_short and not place.is_leaving:
            self.closed["connections"] += 1
            return True
        return place.is_leaving

    def make_room(self) -> None:
        """Close a connection if others wait for a place, and not enough connections are closing."""
        if self._is_short and (victim := self._next_to_close()):
            self._close(victim, "connections")

    def resize(self, place: Place, size: int) -> None:
        """
        Set the number of bytes that wait for this connection: of a body that was received, or of a response.

        Above the limit, close the connections that have waited longest to send a response, then those that have waited
        longest for the rest of a body. Bytes of closing connections do not count.
        """
        added = size - place.size
        place.size = size
        self.waiting_bytes += added
        self._leaving_bytes += added * place.is_leaving
        while added > 0 and self.waiting_bytes - self._leaving_bytes > MAX_WAITING_BYTES:
            victim = self._oldest_in(Phase.WRITING) or self._oldest_in(Phase.READING)
            if victim is None:
                return
            self._close(victim, "bytes")

    @property
    def _is_short(self) -> bool:
        return len(self._queue) > self._leaving

    async def _wait_for_place(self) -> None:
        if self._free:
            self._free -= 1
            return
        called = trio.Event()
        self._queue.append(called)
        self.make_room()
        try:
            await called.wait()
        except trio.Cancelled:
            if called.is_set():
                self._release()
            else:
                self._queue.remove(called)
            raise

    def _release(self) -> None:
        if self._queue:
            self._queue.popleft().set()
        else:
            self._free += 1
        if len(self._queue) < MAX_QUEUED:
            self._shorter.unpark_all()

    def _move_to_end(self, place: Place) -> None:
        del self._places[place]
        self._places[place] = None

    def _next_to_close(self) -> Place | None:
        waits = [place for place in self._places if _is_closable(place)]
        order = _ORDER_IF_MANY_KNOWN if self._known > self._limit // 2 else _ORDER
        return min(waits, key=lambda place: order.index(_kind(place)), default=None)

    def _oldest_in(self, phase: Phase) -> Place | None:
        waits = (place for place in self._places if place.phase is phase and place.size and _is_closable(place))
        return next(waits, None)

    def _close(self, place: Place, reason: Reason) -> None:
        assert place.scope is not None
        place.scope.cancel()
        place.is_leaving = True
        self._leaving += 1
        self._leaving_bytes += place.size
        self.closed[reason] += 1


_Kind = Literal["lingering", "new", "idle", "busy"]

_ORDER: tuple[_Kind, ...] = ("lingering", "new", "idle", "busy")
_ORDER_IF_MANY_KNOWN: tuple[_Kind, ...] = ("lingering", "idle", "busy", "new")
"""The kinds of connections, in the order in which they are closed."""


def _kind(place: Place) -> _Kind:
    if place.phase is Phase.LINGERING:
        return "lingering"
    if not place.is_known:
        return "new"
    return "idle" if place.phase is Phase.IDLE else "busy"


def _is_closable(place: Place) -> bool:
    return place.scope is not None and not place.is_leaving and place.phase is not Phase.STREAMING


class waiting:  # noqa: N801  it is used as a function, as in contextlib
    """
    A wait for a client, which ends after `seconds`, or when the budget closes the connection.

    A class needs half of the CPU time of a generator with contextlib.
    """

    __slots__ = ("_before", "_budget", "_phase", "_place", "_scope")

    def __init__(self, budget: Budget, place: Place, phase: Phase, seconds: float) -> None:
        self._scope = trio.CancelScope(deadline=trio.current_time() + seconds)
        self._budget, self._place, self._phase = budget, place, phase

    def __enter__(self) -> trio.CancelScope:
        place = self._place
        self._before = place.scope, place.phase
        place.scope, place.phase = self._scope, self._phase
        if place.is_leaving:
            self._scope.cancel()
        self._budget.make_room()
        return self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._place.scope, self._place.phase = self._before
        return self._scope.__exit__(kind, exc, trace)
