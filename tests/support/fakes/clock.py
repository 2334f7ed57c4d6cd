"""Fake both clocks together: the wall clock follows trio's clock, plus the steps of a test."""

import trio
from trio.testing import MockClock

from sidecar.clock import Clock

EPOCH = 1_800_000_000.0
"""The wall clock's time at the start of a test: 2027-01-15T08:00:00Z, a whole second."""


class FakeWall:
    """
    A wall clock over trio's autojumping clock. `step` moves the wall clock forward or back by seconds.

    pytest-trio runs a test on the mock clock only if the test has the argument `autojump_clock`.
    """

    def __init__(self) -> None:
        assert isinstance(trio.lowlevel.current_clock(), MockClock), "the test needs the argument autojump_clock"
        self._offset = EPOCH - trio.current_time()
        self._stepped = 0.0

    def step(self, seconds: float) -> None:
        self._stepped += seconds

    def time(self) -> float:
        return self.true_time() + self._stepped

    def true_time(self) -> float:
        """Return the time of a clock without steps. STS has this clock when a fault moves only the daemon's clock."""
        return trio.current_time() + self._offset

    @property
    def clock(self) -> Clock:
        return Clock(self.time, trio.current_time)
