"""
Both clocks, read together.

The wall clock says when credentials end; the monotonic clock says how much time really passed. Either alone
fails: the wall clock can be set back, and Linux's monotonic clock stands still while a machine is suspended.
Whatever decides about time takes an `Instant`; only the shell reads a `Clock`.
"""

from collections.abc import Callable
from typing import NamedTuple


class Instant(NamedTuple):
    """One moment on both clocks, in seconds: since the Unix epoch, and since an arbitrary start."""

    wall: float
    monotonic: float

    def later(self, seconds: float) -> "Instant":
        return Instant(self.wall + seconds, self.monotonic + seconds)


class Clock(NamedTuple):
    """Where the two clocks are read: `time.time` and `trio.current_time`, or one fake behind both."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]

    def now(self) -> Instant:
        return Instant(self.wall(), self.monotonic())
