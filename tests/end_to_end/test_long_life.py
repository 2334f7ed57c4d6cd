"""
What months do to the daemon: nothing. Its whole tree of tasks runs in virtual time, with random faults all along.

A loop that looks around every ten seconds makes 260,000 turns a month, so there are two runs. In one, sessions are of
seconds and refreshes come every turn: 10,000 of them, with 2,000 rotations of the token. The other has sessions of an
hour, for three months, in which the loop looks around less often. Both are warmed up, and then nothing may grow.
"""

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

from sidecar.daemon.daemon import Daemon, Listeners, Sources, make_daemon
from sidecar.errors import ExchangeError, NextStep
from sidecar.refresh import schedule
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.unit.daemon.test_daemon import make_config, make_log

SEED = int(os.environ.get("LONG_LIFE_SEED", "20270115"))

DAY_SECONDS = 86_400.0

WARM_UP_ROUNDS = 200
"""By then caches, free lists and every kind of fault have been seen."""

CALM = 6
"""So many rounds are well to each kind of fault."""

TROUBLES: tuple[Callable[[], ExchangeError | None], ...] = (
    *[lambda: None] * CALM,
    lambda: refusal("ServiceUnavailable", NextStep.RETRY),
    lambda: refusal("Throttling", NextStep.SLOW_DOWN, retry_after_seconds=7.0),
    lambda: refusal("ExpiredTokenException", NextStep.WAIT_FOR_TOKEN),
    lambda: refusal("AccessDenied", NextStep.WAIT),
    lambda: refusal("ValidationError", NextStep.ASK_OPERATOR),
)
"""Made anew each time: an error that is raised again and again keeps a longer traceback each time."""

TOKENS = ("", "not.a", "a.b.c", "\x00" * 30)
"""What stands in the file now and then, for some seconds before the rotation."""


class Held(NamedTuple):
    """What the process holds: trio's tasks, open files, objects that the collector knows, and blocks of memory."""

    tasks: int
    files: int
    objects: int
    blocks: int


@dataclass
class LongLife:
    """One daemon, and its days."""

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
        """A token is rotated, at times after a spoilt one; STS is well or not; the clock may be set; time passes."""
        self.rounds += 1
        if self.chance.random() < 0.05:
            self.volume.write(self.chance.choice(TOKENS))
            await trio.sleep(20)
        self.volume.write(service_account_token(self.wall.time(), lifetime_seconds=DAY_SECONDS, jti=str(self.rounds)))
        self.sts.trouble = self.chance.choice(TROUBLES)()
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
            sys.getallocatedblocks() - len(self.sts.asked_at),  # the fake remembers when it was asked
        )

    async def end_well(self) -> None:
        """After all of it there are credentials within one back-off."""
        self.sts.trouble, self.sts.latency_seconds = None, 0.0
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
    A leak of one block or object in every fifth refresh would show.

    What there is besides is noise: tables that grow by doubling, and how the last round left the loop.
    """
    print(f"warm {warm}, at the end {end}, {refreshes} refreshes between")
    assert end.tasks == warm.tasks
    assert end.files == warm.files
    assert end.objects - warm.objects < refreshes / 5
    assert end.blocks - warm.blocks < refreshes / 5


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="files are counted in Linux's /proc")
async def test_ten_thousand_refreshes_and_two_thousand_rotations_leave_nothing_behind(
    autojump_clock: MockClock, life: LongLife
) -> None:
    life.sts.life_seconds = 12
    async with trio.open_nursery() as nursery:
        await nursery.start(life.daemon.serve, Listeners())
        while life.rounds < WARM_UP_ROUNDS:
            await life.round(60)
        warm, before = life.held(), life.refreshes
        while life.rounds < WARM_UP_ROUNDS + 2000 or life.refreshes < before + 10_000:
            await life.round(60)
        check(warm, life.held(), life.refreshes - before)
        await life.end_well()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="files are counted in Linux's /proc")
async def test_three_months_of_sessions_of_an_hour_leave_nothing_behind(
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
        await life.end_well()
