"""
One expensive piece of work at a time, with a queue in which no namespace takes the places of the others.

Rule: work that is proportional to what a tenant wrote never runs twice at once, and never waits without a bound.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

MAX_WAITING, MAX_WAITING_OF_ONE = 16, 2
"""In the queue, in all and of one namespace. A turn takes a quarter of a second at most."""


class FullError(Exception):
    """The queue, or the namespace's part of it, is full."""


class Turns:
    """The queue. Each turn belongs to a namespace."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, namespace: str) -> AsyncIterator[None]:
        """Wait for a turn and hold it for the block. Raises FullError at once if there are too many waiting."""
        if self._waiting.total() >= MAX_WAITING or self._waiting[namespace] >= MAX_WAITING_OF_ONE:
            raise FullError
        self._waiting[namespace] += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting[namespace] -= 1
            self._waiting += Counter()  # drops what is at zero
        try:
            yield
        finally:
            self._lock.release()
