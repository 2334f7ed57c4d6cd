"""
Share a budget of connections and of waiting bytes between HTTP servers, and close connections when it is used up.

Rule: the connections that were silent or incomplete longest are closed first, and among them those that never
completed a request. A client that reaches the port cannot be distinguished from the API server before its first
request, so every client may connect.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

MAX_CONNECTIONS = 500
"""
The limit for all listeners together.

A connection in its handshake takes 120 KiB. An API server opens one connection for each review under way.
"""

MAX_WAITING_BYTES = 32 * 1024 * 1024
"""
The limit for request bodies that are incomplete or not yet parsed, and for responses that are not yet sent.

The manifests give the process 256 MiB.
"""

Waits = dict[trio.CancelScope, bool]
"""
The waits for clients, longest first, and whether the client completed a request before.

Cancelling a scope closes its connection.
"""


class Budget:
    """Connections and bytes that all listeners of a process share."""

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
        Count bytes of a body that arrived or of a response.

        Above the limit, close the connection whose response is unsent longest, or else whose body is incomplete
        longest.
        """
        self.waiting_bytes += count
        if self.waiting_bytes > MAX_WAITING_BYTES:
            _close_one(self.writing, self.reading)


@contextmanager
def waiting(seconds: float, *tables: Waits, is_known: bool = False) -> Iterator[trio.CancelScope]:
    """Wait for a client at most `seconds`, or until the budget closes the connection."""
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
