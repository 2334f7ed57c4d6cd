"""
Store the credentials that the daemon serves: for each role, the last credentials that STS returned.

Rule: no other part of the daemon keeps credentials or their text. A failed refresh cannot change stored credentials.
Credentials are only replaced as a whole. Unless the role's configuration changed, the new ones remain valid for at
least as long. A reader gets the current `Snapshot` once and uses no other one.
"""

from collections.abc import Callable
from typing import NamedTuple

import trio

from sidecar.clock import Instant
from sidecar.credentials import Credentials


class Snapshot(NamedTuple):
    """
    Credentials, the bytes of the response that serves them, and the instant at which they expire on our own clocks.

    `expires` is STS's Expiration, corrected by the clock skew at the arrival of the credentials. So a wrong wall clock
    neither hides valid credentials nor serves expired ones. `arrived_at` is Unix seconds on that wall clock.
    """

    credentials: Credentials
    response: bytes
    expires: Instant
    arrived_at: float

    def __repr__(self) -> str:
        return f"Snapshot({self.credentials}, expires={self.expires}, arrived_at={self.arrived_at})"

    def is_valid(self, now: Instant) -> bool:
        """
        Return whether the credentials are valid on both clocks.

        The wall clock continues while the machine is suspended. The monotonic clock continues if the wall clock is set
        back.
        """
        return now.wall < self.expires.wall and now.monotonic < self.expires.monotonic

    def remaining_seconds(self, now: Instant) -> float:
        """Return the remaining lifetime, or 0 after the expiration. Of the two clocks, the shorter lifetime counts."""
        return max(0.0, min(self.expires.wall - now.wall, self.expires.monotonic - now.monotonic))


class Store:
    """
    The credentials of one role, and the event for the next credentials.

    `earlier` are credentials of the same IAM role that were requested with an older configuration. The daemon serves
    them until the first credentials with this configuration arrive, even if those expire earlier.
    """

    def __init__(self, render: Callable[[Credentials], bytes], earlier: Snapshot | None = None) -> None:
        self._render = render
        self._earlier = earlier
        self._snapshot: Snapshot | None = None
        self._arrival = trio.Event()

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest credentials so far, even if they have expired, or None."""
        return self._snapshot or self._earlier

    @property
    def own_snapshot(self) -> Snapshot | None:
        """The newest credentials that were requested with the present configuration, or None."""
        return self._snapshot

    def restore(self, credentials: Credentials, expires: Instant, arrived_at: float) -> None:
        """Serve credentials that an earlier process saved. Call this before other credentials arrive."""
        self._snapshot = Snapshot(credentials, self._render(credentials), expires, arrived_at)

    def valid_snapshot(self, now: Instant) -> Snapshot | None:
        """Return the credentials in service, or None if they are missing or expired."""
        snapshot = self.snapshot
        return snapshot if snapshot is not None and snapshot.is_valid(now) else None

    def replace(self, credentials: Credentials, expires: Instant, now: Instant) -> bool:
        """
        Serve these credentials unless the stored ones remain valid for longer. Return whether they were accepted.

        The remaining lifetimes are compared on our own clocks as they are now. The two Expirations cannot be compared,
        because STS's clock may have been set between the responses. Credentials that look expired after a step of our
        clock count as expired.
        """
        new = Snapshot(credentials, self._render(credentials), expires, now.wall)
        if self._snapshot is not None and self._snapshot.remaining_seconds(now) > new.remaining_seconds(now):
            return False
        self._snapshot = new
        self._arrival.set()
        self._arrival = trio.Event()
        return True

    @property
    def next_arrival(self) -> trio.Event:
        """The event that is set when the next credentials are in service."""
        return self._arrival

    async def wait_for_next(self) -> None:
        """Wait until the next credentials are in service. The caller sets the deadline."""
        await self._arrival.wait()
