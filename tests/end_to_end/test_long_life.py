"""
Test that months of operation leave no resources behind. All tasks run in virtual time, with random faults.

A loop that runs every ten seconds has 260,000 iterations a month, which take too long. Two shorter runs replace these
iterations. In the first run, sessions last seconds and each iteration refreshes: 10,000 refreshes with 2,000 token
rotations. The second run covers three months with sessions of one hour, and the loop runs less often. Each run starts
with a warm-up, after which no resource may grow.
"""

import faulthandler
import gc
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock

from sidecar.daemon.daemon import Daemon, Listeners, make_daemon
from sidecar.errors import ExchangeError, NextStep
from sidecar.refresh import schedule
from sidecar.refresh.refresher import Sources
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.unit.daemon.test_daemon import make_config, make_log

SEED = int(os.environ.get("LONG_LIFE_SEED", "20270115"))

DAY_SECONDS = 86_400.0

WARM_UP_ROUNDS = 200
"""The number of rounds after which the caches and free lists are full and every kind of fault has occurred."""

CALM = 6
"""The number of functions that create no fault, which sets the share of rounds without a fault."""

TROUBLES: tuple[Callable[[], ExchangeError | None], ...] = (
    *[lambda: None] * CALM,
    lambda: refusal("ServiceUnavailable", NextStep.RETRY),
    lambda: refusal("Throttling", NextStep.SLOW_DOWN, retry_after_seconds=7.0),
    lambda: refusal("ExpiredTokenException", NextStep.WAIT_FOR_TOKEN),
    lambda: refusal("AccessDenied", NextStep.WAIT),
    lambda: refusal("ValidationError", NextStep.ASK_OPERATOR),
)
"""The functions that create a new fault at each call. The traceback of a reused exception would grow."""

TOKENS = ("", "not.a", "a.b.c", "\x00" * 30)
"""The invalid contents that the token file sometimes has for some seconds before a rotation."""


class Held(NamedTuple):
    """The resources of the process: trio's tasks, open files, objects that the collector tracks, and memory blocks."""

    tasks: int
    files: int
    objects: int
    blocks: int


@dataclass
class LongLife:
    """A daemon and its environment for all rounds."""

    daemon: Daemon
    sts: FakeExchange
    wall: FakeWall
    volume: FakeVolume
    events: list[Any]
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    rounds: int = 0

    @property
    def refreshes(self) -> int:
        return self.daemon.metrics.refreshes.get(("default", "success"), 0)

    async def round(self, seconds: float) -> None:
        """Run one round: rotate the token, sometimes break the token, STS or the clock, and advance the time."""
        self.rounds += 1
        if self.chance.random() < 0.05:
            self.volume.write(self.chance.choice(TOKENS))
            await trio.sleep(20)
        self.volume.write(service_account_token(self.wall.time(), lifetime_seconds=DAY_SECONDS, jti=str(self.rounds)))
        self.sts.error = self.chance.choice(TROUBLES)()
        self.sts.latency_seconds = self.chance.choice((0.0, 0.0, 0.1, 3.0))
        if self.chance.random() < 0.05:
            self.wall.step(self.chance.uniform(-2, 2) * seconds)
        await trio.sleep(seconds)
        for memory in (self.events, self.sts.requests, self.sts.tokens):
            memory.clear()

    def held(self) -> Held:
        gc.collect()
        return Held(
            trio.lowlevel.current_statistics().tasks_living,
            len(os.listdir("/proc/self/fd")),
            len(gc.get_objects()),
            sys.getallocatedblocks() - len(self.sts.called_at),  # the fake STS stores the time of each request
        )

    async def check_recovers(self) -> None:
        """Check that valid credentials exist within one back-off after all rounds."""
        self.sts.error, self.sts.latency_seconds = None, 0.0
        self.volume.write(service_account_token(self.wall.time()))
        await trio.sleep(schedule.BACK_OFFS[NextStep.ASK_OPERATOR].cap_seconds)
        assert self.daemon.role.store.valid_snapshot(self.wall.clock.now()) is not None
        self.daemon.stop.set()


@pytest.fixture
def life(wall: FakeWall, volume: FakeVolume) -> LongLife:
    print(f"LONG_LIFE_SEED={SEED}")
    events: list[Any] = []
    sts = FakeExchange(wall.time)
    jitter = random.Random(SEED).random
    daemon = make_daemon(make_config(volume.path), sts, sources=Sources(wall.clock, jitter), log=make_log(events))
    return LongLife(daemon, sts, wall, volume, events)


def check(warm: Held, end: Held, refreshes: int) -> None:
    """
    Check the growth. A leak of one block or object in every fifth refresh fails the test.

    Smaller growth is noise: tables that double their size, and the state of the loop after the last round.
    """
    print(f"warm {warm}, at the end {end}, {refreshes} refreshes between")
    assert end.tasks == warm.tasks
    assert end.files == warm.files
    assert end.objects - warm.objects < refreshes / 5
    assert end.blocks - warm.blocks < refreshes / 5


@pytest.fixture(autouse=True)
def no_time_limit() -> None:
    """Remove the time limit, because three months of virtual time take minutes on a loaded machine."""
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="files are counted in Linux's /proc")
async def test_ten_thousand_refreshes_leak_no_resources(autojump_clock: MockClock, life: LongLife) -> None:
    life.sts.life_seconds = 12
    async with trio.open_nursery() as nursery:
        await nursery.start(life.daemon.serve, Listeners())
        while life.rounds < WARM_UP_ROUNDS:
            await life.round(60)
        warm, before = life.held(), life.refreshes
        while life.rounds < WARM_UP_ROUNDS + 2000 or life.refreshes < before + 10_000:
            await life.round(60)
        check(warm, life.held(), life.refreshes - before)
        await life.check_recovers()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="files are counted in Linux's /proc")
async def test_three_months_of_hourly_sessions_leak_no_resources(
    autojump_clock: MockClock, life: LongLife, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "CHECK_SECONDS", 300.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(life.daemon.serve, Listeners())
        while life.rounds < WARM_UP_ROUNDS:
            await life.round(3000)
        warm, before = life.held(), life.refreshes
        while trio.current_time() < 90 * DAY_SECONDS:
            await life.round(3000)
        check(warm, life.held(), life.refreshes - before)
        await life.check_recovers()
