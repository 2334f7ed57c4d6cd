"""
Limit the connections and the waiting bytes of all HTTP servers together, by closing connections above the limits.

Rule: connections that never completed a request are closed first. In both groups, those that have sent nothing come
first, then those whose request is incomplete, then those that do not read. Of equal ones, the longest wait comes first.
Before its first request, no client can be distinguished from the API server, so every client may connect.
"""

from types import TracebackType

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

    def __init__(self, max_connections: int | None = None) -> None:
        self.connections = trio.CapacityLimiter(max_connections or MAX_CONNECTIONS)
        self.silent: Waits = {}
        self.reading: Waits = {}
        self.writing: Waits = {}
        self.waiting_bytes = 0

    def make_room(self) -> None:
        """Close one connection if the limit is reached."""
        if not self.connections.available_tokens:
            _close_one(self.silent, self.reading, self.writing)

    def relieve_queue(self) -> None:
        """
        Close one connection if others wait for a place. Call this before a wait for a client that has sent nothing.

        When many connections arrive at once, `make_room` finds none to close, because none of them waits yet.
        """
        if not self.connections.available_tokens and self.connections.statistics().tasks_waiting:
            _close_one(self.silent)

    def add(self, count: int) -> None:
        """
        Count received bytes of a body, or the bytes of a response.

        Above the limit, close one connection. A connection that waits to send its response is closed before one that
        waits for the rest of its body. Connections that never completed a request come before both.
        """
        self.waiting_bytes += count
        if self.waiting_bytes > MAX_WAITING_BYTES:
            _close_one(self.writing, self.reading)


class waiting:  # noqa: N801  it is used as a function, as in contextlib
    """
    A wait for a client, which ends after `seconds`, or when the budget closes the connection.

    A class needs half of the CPU time of a generator with contextlib.
    """

    __slots__ = ("_is_known", "_scope", "_tables")

    def __init__(self, seconds: float, *tables: Waits, is_known: bool = False) -> None:
        self._scope = trio.CancelScope(deadline=trio.current_time() + seconds)
        self._tables = tables
        self._is_known = is_known

    def __enter__(self) -> trio.CancelScope:
        for waits in self._tables:
            waits[self._scope] = self._is_known
        return self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for waits in self._tables:
            waits.pop(self._scope, None)
        return self._scope.__exit__(kind, exc, trace)


def _close_one(*tables: Waits) -> None:
    """Cancel the first wait for a client that never completed a request, or else the first wait, in table order."""
    candidates = [scope for waits in tables for scope, is_known in waits.items() if not is_known]
    candidates += [scope for waits in tables for scope in waits]
    if candidates:
        for waits in tables:
            waits.pop(candidates[0], None)
        candidates[0].cancel()
