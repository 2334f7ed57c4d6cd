"""
Hold the credentials in service between requests: for each role, the last ones that STS returned.

Rule: no other part of the daemon keeps credentials or their text. A failed refresh cannot reach what is stored. The
only change is a whole replacement, by newer credentials or of expired ones. A reader takes the current `Snapshot` once
and uses only that.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from sidecar.clock import Instant
from sidecar.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    Credentials, the bytes of the response that serves them, and the instant at which they expire on our own clocks.

    `expires` is STS's Expiration, corrected by the clock skew at their arrival. So a wrong wall clock neither hides
    valid credentials nor serves expired ones. `arrived_at` is Unix seconds by that wall clock.
    """

    credentials: Credentials
    response: bytes = field(repr=False)
    expires: Instant
    arrived_at: float

    def is_valid(self, now: Instant) -> bool:
        """
        Return whether the credentials are valid on both clocks.

        The wall clock counts while the machine is suspended. The monotonic clock counts if the wall clock is set back.
        """
        return now.wall < self.expires.wall and now.monotonic < self.expires.monotonic

    def remaining_seconds(self, now: Instant) -> float:
        """Return the remaining lifetime on the clock that reaches the expiration first; 0 after that."""
        return max(0.0, min(self.expires.wall - now.wall, self.expires.monotonic - now.monotonic))


class Store:
    """
    The credentials of one role, and how to wait for the next ones.

    `earlier` are credentials of the same IAM role that were requested under an older configuration. They are in service
    until the first ones of this configuration arrive, whenever those expire.
    """

    def __init__(self, render: Callable[[Credentials], bytes], earlier: Snapshot | None = None) -> None:
        self._render = render
        self._earlier = earlier
        self._snapshot: Snapshot | None = None
        self._arrival = trio.Event()

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest credentials so far, valid or not."""
        return self._snapshot or self._earlier

    @property
    def own_snapshot(self) -> Snapshot | None:
        """The newest credentials that were requested under the present configuration."""
        return self._snapshot

    def restore(self, credentials: Credentials, expires: Instant, arrived_at: float) -> None:
        """Put credentials into service that an earlier process kept. Call it before anything else arrives."""
        self._snapshot = Snapshot(credentials, self._render(credentials), expires, arrived_at)

    def valid_snapshot(self, now: Instant) -> Snapshot | None:
        """Return the credentials in service if they are valid."""
        snapshot = self.snapshot
        return snapshot if snapshot is not None and snapshot.is_valid(now) else None

    def replace(self, credentials: Credentials, expires: Instant, now: Instant) -> bool:
        """
        Put these credentials in service unless those in service remain valid for longer. Return whether they were.

        Both are compared by our own clocks as they are now. Their Expirations cannot be compared: STS's clock may have
        been set between the two responses. Credentials that a clock step hides count as expired.
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
