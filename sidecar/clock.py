"""
Both clocks, read together.

The wall clock says when credentials end; the monotonic clock says how much time really passed. Either alone
fails: the wall clock can be set back, and Linux's monotonic clock stands still while a machine is suspended.
Whatever decides about time takes an `Instant`; only the shell reads a `Clock`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
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


def instant_text(instant: datetime | float) -> str:
    """
    Return the instant as `2026-01-02T03:04:05Z`, which every SDK reads. JS v3 and Rust read no offset.

    A float counts seconds since the Unix epoch. One that is out of range is returned as a number.
    """
    try:
        at = instant if isinstance(instant, datetime) else datetime.fromtimestamp(instant, UTC)
        return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(instant)
