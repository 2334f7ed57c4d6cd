"""
Limit the connections and the waiting bytes of all HTTP servers together, by closing connections above the limits.

Rule: connections that never completed a request are closed first, and among them the one that has waited longest.
Before its first request, no client can be distinguished from the API server, so every client may connect.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

MAX_CONNECTIONS = 500
"""
Maximum number of connections of all listeners together.

A connection in its handshake takes 120 KiB. An API server opens one connection for each pending review.
"""

MAX_WAITING_BYTES = 32 * 1024 * 1024
"""
Maximum size of all incomplete or unparsed request bodies and unsent responses together.

The manifests set a memory limit of 256 MiB.
"""

Waits = dict[trio.CancelScope, bool]
"""
The waits for clients, oldest first. The value is True if the client completed a request before.

Cancelling a scope closes its connection.
"""


class Budget:
    """The connections and bytes that all listeners of a process share."""

    def __init__(self) -> None:
        self.connections = trio.CapacityLimiter(MAX_CONNECTIONS)
        self.silent: Waits = {}
        self.reading: Waits = {}
        self.writing: Waits = {}
        self.waiting_bytes = 0

    def make_room(self) -> None:
        """Close one connection if the limit is reached."""
        if not self.connections.available_tokens:
            _close_one(self.silent, self.reading, self.writing)

    def add(self, count: int) -> None:
        """
        Count received bytes of a body, or the bytes of a response.

        Above the limit, close the connection that has waited longest to send its response. If there is none, close the
        one that has waited longest for the rest of its body.
        """
        self.waiting_bytes += count
        if self.waiting_bytes > MAX_WAITING_BYTES:
            _close_one(self.writing, self.reading)


@contextmanager
def waiting(seconds: float, *tables: Waits, is_known: bool = False) -> Iterator[trio.CancelScope]:
    """Wait for a client for at most `seconds`, or until the budget closes the connection."""
    with trio.move_on_after(seconds) as scope:
        for waits in tables:
            waits[scope] = is_known
        try:
            yield scope
        finally:
            for waits in tables:
                waits.pop(scope, None)


def _close_one(*tables: Waits) -> None:
    """Cancel the oldest wait for a client that never completed a request, or else the oldest wait."""
    candidates = [scope for waits in tables for scope, is_known in waits.items() if not is_known]
    candidates += [scope for waits in tables for scope in waits]
    if candidates:
        for waits in tables:
            waits.pop(candidates[0], None)
        candidates[0].cancel()
