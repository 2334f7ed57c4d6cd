"""One fake behind both clocks: the wall clock follows trio's, plus what a test adds to it."""

import trio
from trio.testing import MockClock

from sidecar.clock import Clock

EPOCH = 1_800_000_000.0
"""2027-01-15T08:00:00Z, a whole second."""


class FakeWall:
    """
    A wall clock over trio's autojumping one. `step` sets it forward or back by seconds.

    pytest-trio runs a test on the mock clock only if the test itself asks for it, by the argument `autojump_clock`.
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
        """What a clock shows that nobody sets: STS's, where a fault moves only ours."""
        return trio.current_time() + self._offset

    @property
    def clock(self) -> Clock:
        return Clock(self.time, trio.current_time)
