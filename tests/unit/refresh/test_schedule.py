"""Test the time of the next exchange: limits for any input, and the table of next steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.clock import Instant
from sidecar.errors import NextStep
from sidecar.refresh import schedule
from sidecar.refresh.schedule import BACK_OFFS, Schedule

NOW = Instant(1_800_000_000.0, 5_000.0)
ROUNDING = 1e-6
"""The maximum rounding error in seconds of a difference between large floats."""

JITTERS = st.floats(0, 1, exclude_max=True)
STEPS = st.sampled_from(list(NextStep))


def seconds_until_due(plan: Schedule, now: Instant = NOW) -> float:
    return plan.due.monotonic - now.monotonic


def test_first_exchange_is_due_at_once() -> None:
    assert schedule.at_start(NOW).is_due(NOW)


@pytest.mark.parametrize(
    ("life", "earliest", "latest"), [(3600, 1620, 1980), (43_200, 19_440, 23_760), (1800, 540, 660), (900, 405, 495)]
)
def test_refresh_is_due_near_half_of_the_lifetime_or_sooner(life: float, earliest: float, latest: float) -> None:
    assert schedule.refresh_after_seconds(life, 0.0) == pytest.approx(earliest)
    assert schedule.refresh_after_seconds(life, 1.0) == pytest.approx(latest)


@given(life=st.floats(schedule.SHORTEST_WITH_MARGIN_SECONDS, 43_200), jitter=JITTERS)
def test_refresh_is_due_before_the_refresh_of_the_sdks(life: float, jitter: float) -> None:
    remaining = life - schedule.refresh_after_seconds(life, jitter)
    assert remaining > schedule.EARLIEST_SDK_WINDOW_SECONDS


@given(life=st.floats(0.001, 43_200), jitter=JITTERS)
def test_refresh_is_never_before_the_shortest_interval(life: float, jitter: float) -> None:
    assert schedule.refresh_after_seconds(life, jitter) >= schedule.SHORTEST_REFRESH_SECONDS


@given(life=st.floats(10, 43_200), jitter=JITTERS)
def test_refresh_starts_before_the_expiration(life: float, jitter: float) -> None:
    assert schedule.refresh_after_seconds(life, jitter) < life * 0.6


@given(step=STEPS, failures=st.integers(0, 10_000), jitter=JITTERS)
def test_every_back_off_is_capped_and_never_zero(step: NextStep, failures: int, jitter: float) -> None:
    before = Schedule(due=NOW, decided=NOW, failures=failures)
    delay = seconds_until_due(schedule.after_failure(before, NOW, step, jitter))
    assert BACK_OFFS[step].first_seconds * 0.1 <= delay <= BACK_OFFS[step].cap_seconds


@given(step=STEPS, failures=st.integers(0, 10_000), jitter=JITTERS, life=st.floats(0, 43_200))
def test_delay_above_the_cap_is_at_most_a_third_of_the_lifetime(
    step: NextStep, failures: int, jitter: float, life: float
) -> None:
    before = Schedule(due=NOW, decided=NOW, failures=failures)
    delay = seconds_until_due(schedule.after_failure(before, NOW, step, jitter, remaining_seconds=life))
    assert delay <= max(BACK_OFFS[step].cap_seconds, min(life / 3, schedule.MAX_SCALED_DELAY_SECONDS)) + ROUNDING


@given(life=st.floats(0, 43_200), jitter=JITTERS)
def test_first_throttled_delay_grows_with_the_lifetime(life: float, jitter: float) -> None:
    before = schedule.at_start(NOW)
    throttled, unreached = (
        seconds_until_due(schedule.after_failure(before, NOW, step, jitter, remaining_seconds=life))
        for step in (NextStep.SLOW_DOWN, NextStep.RETRY)
    )
    ceiling = max(BACK_OFFS[NextStep.SLOW_DOWN].first_seconds, min(life / 15, 60))
    assert 0.1 * ceiling - ROUNDING <= throttled <= ceiling + ROUNDING
    assert unreached <= BACK_OFFS[NextStep.RETRY].first_seconds + ROUNDING


@given(step=STEPS, jitters=st.lists(JITTERS, min_size=1, max_size=1))
def test_attempts_per_hour_are_bounded_under_any_failure(step: NextStep, jitters: list[float]) -> None:
    now, plan, attempts = NOW, schedule.at_start(NOW), 0
    while now.monotonic < NOW.monotonic + 3600:
        plan = schedule.after_failure(plan, now, step, jitters[0])
        now = now.later(seconds_until_due(plan, now))
        attempts += 1
    assert attempts <= 3600 / (BACK_OFFS[step].cap_seconds * BACK_OFFS[step].floor) + 40


def test_every_next_step_has_a_back_off() -> None:
    assert set(BACK_OFFS) == set(NextStep)


def test_retries_are_spread_over_the_whole_back_off() -> None:
    before = Schedule(due=NOW, decided=NOW, failures=20)
    delays = [seconds_until_due(schedule.after_failure(before, NOW, NextStep.RETRY, j / 10)) for j in range(10)]
    assert min(delays) == pytest.approx(6.0)
    assert max(delays) > 54.0


@pytest.mark.parametrize(("retry_after", "least", "most"), [(30.0, 30.0, 33.0), (1e9, 300.0, 330.0), (-5.0, 0.0, 5.0)])
def test_retry_after_is_respected_up_to_a_limit(retry_after: float, least: float, most: float) -> None:
    for jitter in (0.0, 0.99):
        plan = schedule.after_failure(schedule.at_start(NOW), NOW, NextStep.SLOW_DOWN, jitter, retry_after)
        assert least <= seconds_until_due(plan) <= most


def test_success_resets_the_count_of_failures() -> None:
    failed = schedule.after_failure(schedule.at_start(NOW), NOW, NextStep.RETRY, 0.5)
    assert failed.failures == 1
    assert schedule.after_success(NOW, 3600, 0.5).failures == 0


def test_missing_token_is_checked_every_second() -> None:
    plan = schedule.after_token_error(schedule.at_start(NOW), NOW)
    assert seconds_until_due(plan) == schedule.TOKEN_POLL_SECONDS
    assert plan.failures == 0


@pytest.mark.parametrize("step", sorted(schedule.TOKEN_STEPS, key=str))
def test_new_token_is_tried_at_once_after_a_rejection(step: NextStep) -> None:
    refused = schedule.after_failure(schedule.at_start(NOW), NOW, step, 0.99)
    later = NOW.later(schedule.CHANGED_TOKEN_PAUSE_SECONDS)
    refused = schedule.after_failure(refused, NOW, step, 0.99)
    assert not refused.is_due(later)
    assert schedule.after_token_change(refused, later).is_due(later)


@given(failures=st.integers(0, 1000), jitter=JITTERS)
def test_expired_token_is_tried_again_after_a_minute(failures: int, jitter: float) -> None:
    before = Schedule(due=NOW, decided=NOW, failures=failures)
    assert seconds_until_due(schedule.after_failure(before, NOW, NextStep.WAIT_FOR_TOKEN, jitter)) == 60


@pytest.mark.parametrize("step", sorted(schedule.TOKEN_STEPS, key=str))
def test_constantly_rewritten_token_is_tried_once_per_pause(step: NextStep) -> None:
    refused = schedule.after_failure(schedule.at_start(NOW), NOW, step, 0.5)
    refused = schedule.after_failure(refused, NOW, step, 0.5)
    soon = NOW.later(1.0)
    assert seconds_until_due(schedule.after_token_change(refused, soon), soon) == pytest.approx(4.0)


def test_new_token_changes_the_plan_only_after_a_rejection() -> None:
    fine = schedule.after_success(NOW, 3600, 0.5)
    away = schedule.after_failure(schedule.at_start(NOW), NOW, NextStep.RETRY, 0.5)
    assert schedule.after_token_change(fine, NOW) is fine
    assert schedule.after_token_change(away, NOW) is away


@pytest.mark.parametrize(
    ("moved", "is_due"),
    [
        (Instant(NOW.wall + 60, NOW.monotonic + 60), False),
        (Instant(NOW.wall + 7200, NOW.monotonic + 60), True),  # the machine slept, or the clock was set forward
        (Instant(NOW.wall - 7200, NOW.monotonic + 60), True),  # the clock was set back, so the plan is invalid
        (Instant(NOW.wall - 1, NOW.monotonic + 1), False),  # the wall clock was corrected slowly, without a step
        (Instant(NOW.wall, NOW.monotonic + 7200), True),
    ],
)
def test_clock_step_makes_a_refresh_due(moved: Instant, *, is_due: bool) -> None:
    assert schedule.after_success(NOW, 3600, 0.5).is_due(moved) is is_due


@given(jitters=st.lists(JITTERS, min_size=2, max_size=5), passed=st.lists(st.floats(0, 1000), min_size=5, max_size=5))
def test_idle_roles_wake_up_at_the_same_time(jitters: list[float], passed: list[float]) -> None:
    looks = set()
    for jitter, seconds in zip(jitters, passed, strict=False):
        now = NOW.later(seconds)
        looks.add(round(now.monotonic + schedule.after_success(now, 3600, jitter).sleep_seconds(now), 3))
    assert all(look % schedule.CHECK_SECONDS == pytest.approx(0, abs=0.001) for look in looks)


@given(life=st.floats(1, 43_200), jitter=JITTERS, passed=st.floats(0, 50_000))
def test_sleep_is_within_the_check_interval(life: float, jitter: float, passed: float) -> None:
    plan = schedule.after_success(NOW, life, jitter)
    assert 0.0 <= plan.sleep_seconds(NOW.later(passed)) <= schedule.CHECK_SECONDS
