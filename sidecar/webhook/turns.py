"""
Run one expensive task at a time, and share the queue fairly between namespaces.

Rule: two tasks with work proportional to a tenant's input never run at the same time, and the queue has a limit. The
namespaces take turns, and the number of their waiting tasks does not matter. When the queue is full, a task of a
namespace with few waiting tasks replaces a task of the namespace with the most.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

MAX_WAITING, MAX_WAITING_OF_ONE = 32, 12
"""Limits of the queue, for all namespaces and for one. A turn takes at most 0.25 s, and usually a few ms."""


class FullError(Exception):
    """The queue is full, or the namespace has too many places in it."""


@dataclass(eq=False)
class _Place:
    """A place in the queue. `called` is set when the place's turn begins, or when another namespace replaced it."""

    called: trio.Event = field(default_factory=trio.Event)
    has_turn: bool = False


class Turns:
    """The queue of all namespaces. Each turn belongs to a namespace."""

    def __init__(self) -> None:
        self._is_taken = False
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
        if self._is_taken:
            await self._wait(namespace)
        self._is_taken = True
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
        Make sure that the queue has a free place. If the queue is full, remove a place of the namespace with most.

        Raises FullError if that is not possible.
        """
        own = self.waiting(namespace)
        if own >= MAX_WAITING_OF_ONE:
            raise FullError
        if sum(map(len, self._waiting.values())) < MAX_WAITING:
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
        self._is_taken = bool(self._waiting)
        if not self._waiting:
            return
        namespace, places = next(iter(self._waiting.items()))
        del self._waiting[namespace]
        place = places.popleft()
        if places:
            self._waiting[namespace] = places
        place.has_turn = True
        place.called.set()
