"""
Run one expensive task at a time, or a few, and share the queue fairly between namespaces.

Rule: the number of tasks that run at the same time has a limit, and so has the queue. The namespaces take turns, and
the number of their waiting tasks does not matter. When the queue is full, a task of a namespace with few waiting tasks
replaces a task of the namespace with the most.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio


class FullError(Exception):
    """An error for a full queue, or for a namespace with too many places in it."""


@dataclass(eq=False)
class _Place:
    """A place in the queue. `called` is set when the place's turn begins, or when another namespace replaced it."""

    called: trio.Event = field(default_factory=trio.Event)
    has_turn: bool = False


class Turns:
    """
    The queue of all namespaces. Each turn belongs to a namespace.

    `at_once` turns may be held at the same time. `max_waiting` and `max_waiting_of_one` limit the queue, for all
    namespaces and for one.
    """

    def __init__(self, *, at_once: int, max_waiting: int, max_waiting_of_one: int) -> None:
        self._free = at_once
        self._max_waiting, self._max_waiting_of_one = max_waiting, max_waiting_of_one
        self._waiting: dict[str, deque[_Place]] = {}
        """The places by namespace. The namespace with the next turn comes first."""

    def waiting(self, namespace: str) -> int:
        """Return how many places of the namespace are waiting."""
        return len(self._waiting.get(namespace, ()))

    @asynccontextmanager
    async def turn(self, namespace: str) -> AsyncIterator[None]:
        """
        Wait for a turn and hold it for the block.

        Raises FullError if too many are waiting, or a place of another namespace replaced this one.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait(namespace)
        try:
            yield
        finally:
            self._call_next()

    async def _wait(self, namespace: str) -> None:
        self._make_room(namespace)
        place = _Place()
        self._waiting.setdefault(namespace, deque()).append(place)
        try:
            await place.called.wait()
        except trio.Cancelled:
            if place.has_turn:
                self._call_next()
            else:
                self._leave(namespace, place)
            raise
        if not place.has_turn:
            raise FullError

    def _make_room(self, namespace: str) -> None:
        """
        Make sure that the queue has a free place. If the queue is full, remove a place of the namespace with the most.

        Raises FullError if that is not possible.
        """
        own = self.waiting(namespace)
        if own >= self._max_waiting_of_one:
            raise FullError
        if sum(map(len, self._waiting.values())) < self._max_waiting:
            return
        most = max(self._waiting, key=self.waiting)
        if self.waiting(most) <= own + 1:
            raise FullError
        self._waiting[most].pop().called.set()

    def _leave(self, namespace: str, place: _Place) -> None:
        places = self._waiting.get(namespace)
        if places and place in places:
            places.remove(place)
            if not places:
                del self._waiting[namespace]

    def _call_next(self) -> None:
        """Give the turn to the next namespace, and move that namespace to the end."""
        if not self._waiting:
            self._free += 1
            return
        namespace, places = next(iter(self._waiting.items()))
        del self._waiting[namespace]
        place = places.popleft()
        if places:
            self._waiting[namespace] = places
        place.has_turn = True
        place.called.set()
