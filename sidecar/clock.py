"""
Read the wall clock and the monotonic clock together.

The wall clock shows when credentials expire. The monotonic clock shows how much time really passed. Neither clock is
enough alone: the wall clock can be set back, and Linux's monotonic clock stops while a machine is suspended. Rule: pure
functions that compare times get an `Instant` as an argument; only the I/O shell reads a `Clock`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple


class Instant(NamedTuple):
    """One moment on both clocks, in seconds: since the Unix epoch, and since an arbitrary start."""

    wall: float
    monotonic: float

    def later(self, seconds: float) -> "Instant":
        """Return the instant that is `seconds` later on both clocks."""
        return Instant(self.wall + seconds, self.monotonic + seconds)


class Clock(NamedTuple):
    """The functions that read the two clocks: `time.time` and `trio.current_time`, or fakes in tests."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]

    def now(self) -> Instant:
        """Read both clocks."""
        return Instant(self.wall(), self.monotonic())


def instant_text(instant: datetime | float) -> str:
    """
    Return the instant as `2026-01-02T03:04:05Z`, which every SDK can parse. JS v3 and Rust cannot parse an offset.

    A float counts seconds since the Unix epoch. A float outside the range of dates is returned as a number.
    """
    try:
        at = instant if isinstance(instant, datetime) else datetime.fromtimestamp(instant, UTC)
        return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(instant)
