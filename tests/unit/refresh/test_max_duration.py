"""Test the search for the longest session that a role allows: its speed, its extra calls and its result."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from sidecar.errors import ExchangeError, NextStep
from sidecar.refresh.max_duration import (
    ALWAYS_ALLOWED_SECONDS,
    HOURS,
    RECHECK_SECONDS,
    MaxDuration,
    after_grant,
    after_refusal,
)
from sidecar.sts.client import ExchangeResult
from sidecar.sts.request import ExchangeRequest
from sidecar.token import Token
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import TOO_LONG, FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.support.scene import Scene, make_scene

HOUR, DAY = 3600, 86_400


def whole_hours(limit: int) -> int:
    return limit // HOUR * HOUR


# The requested durations


@dataclass
class RoleWithLimit:
    """A role with a limit, and the requests that the refresher sends for it."""

    limit: int
    bounds: MaxDuration = field(default_factory=MaxDuration)

    def refresh(self, now: float) -> list[int]:
        """Return the durations that one refresh requests. STS grants the last of these durations."""
        requested = [self.bounds.seconds_to_request(now)]
        while requested[-1] > self.limit:
            self.bounds = after_refusal(self.bounds, requested[-1], now)
            requested.append(self.bounds.known_seconds)
        self.bounds = after_grant(self.bounds, requested[-1])
        return requested


LIMITS = range(HOUR, 12 * HOUR + 1, HOUR // 2)


@pytest.mark.parametrize("limit", LIMITS)
def test_each_limit_is_found_within_four_refreshes(limit: int) -> None:
    role = RoleWithLimit(limit)
    requested = [role.refresh(0.0) for _ in range(6)]
    assert max(map(len, requested)) <= 2
    assert requested[0][0] == 12 * HOUR
    assert [refresh[-1] for refresh in requested[4:]] == [whole_hours(limit)] * 2
    assert requested[5] == [whole_hours(limit)]  # the search has ended


@pytest.mark.parametrize("hours", [1, 2, 4, 8, 12])
def test_common_limit_is_found_by_the_third_refresh(hours: int) -> None:
    role = RoleWithLimit(hours * HOUR)
    assert [role.refresh(0.0) for _ in range(3)][-1][-1] == hours * HOUR


def test_tried_durations_are_two_to_twelve_hours() -> None:
    assert sorted(HOURS) == list(range(2, 13))


def test_known_limit_is_rechecked_once_a_day() -> None:
    role = RoleWithLimit(4 * HOUR)
    for _ in range(6):
        role.refresh(0.0)
    assert [role.refresh(now) for now in (RECHECK_SECONDS - 1, RECHECK_SECONDS, RECHECK_SECONDS + 1)] == [
        [4 * HOUR],
        [5 * HOUR, 4 * HOUR],
        [4 * HOUR],
    ]


@pytest.mark.parametrize("raised", range(5, 13))
def test_increased_limit_is_found_after_a_day(raised: int) -> None:
    role = RoleWithLimit(4 * HOUR)
    for _ in range(6):
        role.refresh(0.0)
    role.limit = raised * HOUR
    assert role.refresh(RECHECK_SECONDS - 1) == [4 * HOUR]
    requested = [role.refresh(RECHECK_SECONDS) for _ in range(6)]
    assert max(map(len, requested)) <= 2
    assert requested[0] == [5 * HOUR]
    assert requested[5] == [raised * HOUR]


@pytest.mark.parametrize("lowered", [1, 2, 3])
def test_reduced_limit_causes_one_extra_call_of_an_hour(lowered: int) -> None:
    role = RoleWithLimit(4 * HOUR)
    for _ in range(6):
        role.refresh(0.0)
    role.limit = lowered * HOUR
    requested = [role.refresh(60.0) for _ in range(6)]
    assert requested[0] == [4 * HOUR, HOUR]
    assert max(map(len, requested)) <= 2
    assert requested[5] == [lowered * HOUR]


@given(st.lists(st.tuples(st.integers(HOUR, 12 * HOUR), st.floats(0, 2 * DAY)), max_size=30))
def test_session_lasts_an_hour_or_more_under_any_limit(moves: list[tuple[int, float]]) -> None:
    role, now = RoleWithLimit(HOUR), 0.0
    for limit, seconds in moves:
        role.limit, now = limit, now + seconds
        requested = role.refresh(now)
        assert len(requested) <= 3, "a refresh tries a duration, the known duration and an hour"
        assert all(ALWAYS_ALLOWED_SECONDS <= seconds <= 12 * HOUR for seconds in requested)
        assert requested == sorted(requested, reverse=True)
        assert role.bounds.granted_seconds == requested[-1] <= limit


# The refresh loop over a day


class LimitedSts(FakeExchange):
    """A fake exchange that grants durations up to `limit`, and rejects longer ones as AWS does."""

    limit = 12 * HOUR

    async def __call__(self, request: ExchangeRequest, token: Token) -> ExchangeResult:
        self.life_seconds = request.duration_seconds
        error = self.error
        if error is None and request.duration_seconds > self.limit:
            self.error = ExchangeError("ValidationError", TOO_LONG, NextStep.ASK_OPERATOR, status=400)
        try:
            return await super().__call__(request, token)
        finally:
            self.error = error

    @property
    def requested(self) -> list[int]:
        return [request.duration_seconds for request in self.requests]


@pytest.fixture
async def scene(wall: FakeWall, volume: FakeVolume) -> Scene:
    """Return a refresher with `duration: max` and a token."""
    scene = make_scene(wall, volume, LimitedSts(wall.time))
    scene.refresher.role = scene.refresher.role._replace(duration_seconds=None)
    scene.write_token(lifetime_seconds=10 * DAY)
    return scene


def sts_of(scene: Scene) -> LimitedSts:
    assert isinstance(scene.sts, LimitedSts)
    return scene.sts


async def live(scene: Scene, seconds: float) -> None:
    """Let this time pass for the refresher, and skip the refresher's checks between the attempts."""
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        await scene.refresher.turn()
        await trio.sleep(min(end, scene.refresher._schedule.due.monotonic) - trio.current_time())


CALLS_IN_A_DAY = {
    3600: (51, 49),
    5400: (51, 49),
    7200: (28, 25),
    10_800: (20, 17),
    14_400: (17, 13),
    28_800: (11, 7),
    39_600: (8, 5),
    43_200: (4, 4),
}
"""
The numbers of calls by the role's limit: on the first day with the search, and on the second day.

A fixed duration of an hour takes 48 calls a day.
"""


@pytest.mark.parametrize("limit", CALLS_IN_A_DAY)
async def test_max_duration_takes_few_calls_per_day(autojump_clock: MockClock, scene: Scene, limit: int) -> None:
    sts = sts_of(scene)
    sts.limit = limit
    await live(scene, DAY - 60)
    first = len(sts.requested)
    await live(scene, DAY)
    second = len(sts.requested) - first
    print(f"limit {limit:>6}: {first:>3} calls on the first day, {second:>3} on the second")
    assert (first, second) == CALLS_IN_A_DAY[limit]
    assert scene.refresher.health.session_seconds == whole_hours(limit)
    assert scene.key is not None


def test_docs_table_has_the_tested_numbers_of_calls() -> None:
    document = (Path(__file__).parents[3] / "docs" / "roles.md").read_text()
    rows = re.findall(r"^\| (\d+) hours?[^|]*\| (\d+) \| (\d+) \|$", document, re.MULTILINE)
    assert len(rows) == 5
    for hours, first, later in rows:
        assert CALLS_IN_A_DAY[int(hours) * HOUR] == (int(first), int(later))


async def test_fixed_hour_takes_48_calls_a_day(autojump_clock: MockClock, scene: Scene) -> None:
    scene.refresher.role = scene.refresher.role._replace(duration_seconds=HOUR)
    await live(scene, DAY - 60)
    assert sts_of(scene).requested == [HOUR] * 48


async def test_first_credentials_take_at_most_two_calls(
    autojump_clock: MockClock, wall: FakeWall, tmp_path: Path
) -> None:
    sts = LimitedSts(wall.time)
    sts.limit = HOUR
    volume = FakeVolume(tmp_path)
    volume.write(service_account_token(wall.time()))
    pods = [make_scene(wall, volume, sts) for _ in range(100)]
    began = trio.current_time()
    for pod in pods:
        pod.refresher.role = pod.refresher.role._replace(duration_seconds=None)
        await pod.refresher.turn()
        assert pod.key is not None
    assert trio.current_time() == began
    assert sts.requested == [12 * HOUR, HOUR] * len(pods)


async def test_rejected_longer_duration_is_not_reported_as_an_error(autojump_clock: MockClock, scene: Scene) -> None:
    sts_of(scene).limit = 4 * HOUR
    for _ in range(6):
        await live(scene, 2 * HOUR)
        assert scene.refresher.health.last_error is None
    assert scene.outcomes["ValidationError"] == 4
    assert scene.logged("refresh_failed") == []
    assert scene.metrics.sts_seconds.counts[0] == len(sts_of(scene).requested)


async def test_changed_limit_is_logged_once(autojump_clock: MockClock, scene: Scene) -> None:
    sts = sts_of(scene)
    sts.limit = 4 * HOUR
    await live(scene, DAY)
    sts.limit = HOUR
    await live(scene, DAY)
    logged = [(entry["seconds"], entry["rejected_seconds"]) for entry in scene.logged("max_duration_found")]
    assert logged == [(HOUR, 12 * HOUR), (4 * HOUR, 12 * HOUR), (HOUR, 4 * HOUR)]
    assert scene.refresher.health.session_seconds == HOUR


@pytest.mark.parametrize("error", [refusal("Throttling", NextStep.SLOW_DOWN), refusal("Timeout", NextStep.RETRY)])
async def test_attempt_causes_one_call_while_sts_fails(
    autojump_clock: MockClock, scene: Scene, error: ExchangeError
) -> None:
    sts = sts_of(scene)
    sts.limit = HOUR
    await scene.refresher.turn()
    sts.error = error
    await live(scene, 2 * HOUR)
    tries = [seconds for seconds in sts.requested[2:] if seconds != HOUR]
    assert tries == [4 * HOUR]  # the first attempt, because the limit was unknown
    assert len(sts.requested) == sum(scene.outcomes.values())
    sts.error = None
    await live(scene, 1000)
    assert scene.key is not None


async def test_rejected_duration_of_an_hour_needs_an_operator(autojump_clock: MockClock, scene: Scene) -> None:
    sts_of(scene).limit = 0
    await scene.refresher.turn()
    assert sts_of(scene).requested == [12 * HOUR, HOUR]
    assert scene.refresher.health.last_error_code == "ValidationError"
    assert scene.logged("refresh_failed")[0]["next_step"] == "ask_operator"


async def test_configured_duration_is_never_changed(autojump_clock: MockClock, scene: Scene) -> None:
    scene.refresher.role = scene.refresher.role._replace(duration_seconds=2 * HOUR)
    sts_of(scene).limit = HOUR
    await scene.refresher.turn()
    assert sts_of(scene).requested == [2 * HOUR]
    assert "set it to `max`" in str(scene.refresher.health.last_error)
