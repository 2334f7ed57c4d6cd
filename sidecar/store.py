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
    One set of credentials, the bytes that answer a request for it, and the instant it ends on our own clocks.

    `ends` is STS's Expiration moved by the clock skew seen when the set arrived, so that a wrong wall clock
    neither hides a living set nor shows a dead one. `arrived_at` is Unix seconds by that wall clock.
    """

    credentials: Credentials
    response: bytes = field(repr=False)
    ends: Instant
    arrived_at: float

    def is_alive(self, now: Instant) -> bool:
        """Both clocks must agree: the wall clock sees a suspend, the monotonic one a wall clock set back."""
        return now.wall < self.ends.wall and now.monotonic < self.ends.monotonic

    def life_seconds(self, now: Instant) -> float:
        """How long it lives yet, by the clock that gets to its end first; 0 once it has."""
        return max(0.0, min(self.ends.wall - now.wall, self.ends.monotonic - now.monotonic))


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

    def restore(self, credentials: Credentials, ends: Instant, arrived_at: float) -> None:
        """Put credentials into service that an earlier process kept. Call it before anything else arrives."""
        self._snapshot = Snapshot(credentials, self._render(credentials), ends, arrived_at)

    def alive(self, now: Instant) -> Snapshot | None:
        snapshot = self.snapshot
        return snapshot if snapshot is not None and snapshot.is_alive(now) else None

    def replace(self, credentials: Credentials, ends: Instant, now: Instant) -> bool:
        """
        Put these credentials in service unless those in service remain valid for longer. Return whether they were.

        Both are compared by our own clocks as they are now. Their Expirations cannot be compared: STS's clock may have
        been set between the two replies. Credentials that a clock step hides count as expired.
        """
        new = Snapshot(credentials, self._render(credentials), ends, now.wall)
        if self._snapshot is not None and self._snapshot.life_seconds(now) > new.life_seconds(now):
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
        """Until the next set is in service. The caller brings the deadline."""
        await self._arrival.wait()
