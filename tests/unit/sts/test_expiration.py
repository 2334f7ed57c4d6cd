"""How long a set lives on clocks that may be wrong: never longer than STS meant."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.clock import Instant
from sidecar.errors import ExchangeError, NextStep
from sidecar.sts.expiration import MAX_SESSION_SECONDS, place_expiration

STS_NOW = datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC)


def instant(skew_seconds: float = 0.0) -> Instant:
    """This machine's clocks at STS_NOW, when the wall clock is `skew_seconds` behind."""
    return Instant(STS_NOW.timestamp() - skew_seconds, 77.0)


@given(
    life=st.integers(2, 43_200),
    skew=st.floats(-1e6, 1e6),
    reply_seconds=st.floats(0, 10),
    stamped=st.floats(0, 1),
    fraction=st.floats(0, 0.999),
)
def test_the_end_on_our_clocks_is_never_after_stss_own_whatever_our_clock_shows(
    life: int, skew: float, reply_seconds: float, stamped: float, fraction: float
) -> None:
    # STS's true time when the request left; it stamps its Date somewhere before the reply is here.
    left_at = STS_NOW.timestamp() + fraction - stamped * reply_seconds
    expires_at = STS_NOW + timedelta(seconds=life)
    asked = Instant(left_at - skew, 77.0)
    found = place_expiration(expires_at, STS_NOW, asked, asked.later(reply_seconds), life)
    true_seconds_until_end = expires_at.timestamp() - left_at
    assert found.expires.monotonic - asked.monotonic <= true_seconds_until_end + 1e-6
    assert found.expires.wall + skew <= expires_at.timestamp() + 1e-6
    assert found.expires.monotonic - asked.monotonic >= true_seconds_until_end - 12


@pytest.mark.parametrize("skew", [0, 7200, -7200])
def test_skew_is_how_far_sts_is_ahead(skew: float) -> None:
    found = place_expiration(STS_NOW + timedelta(hours=1), STS_NOW, instant(skew), instant(skew), 3600)
    assert found.skew_seconds == pytest.approx(skew, abs=0.51)


def test_without_a_date_our_own_clock_decides() -> None:
    found = place_expiration(STS_NOW + timedelta(hours=1), None, instant(), instant(), 3600)
    assert found.expires.wall == (STS_NOW + timedelta(hours=1, seconds=-1)).timestamp()
    assert found.skew_seconds is None


def test_a_date_that_makes_no_sense_is_passed_over() -> None:
    found = place_expiration(STS_NOW + timedelta(hours=1), STS_NOW - timedelta(days=400), instant(), instant(), 3600)
    assert found.skew_seconds is None
    assert found.remaining_seconds == 3599


@pytest.mark.parametrize("life", [timedelta(0), timedelta(seconds=-5), timedelta(seconds=MAX_SESSION_SECONDS + 9)])
@pytest.mark.parametrize("date", [None, STS_NOW])
def test_an_expiration_past_or_absurd_is_refused_with_what_was_seen(life: timedelta, date: datetime | None) -> None:
    with pytest.raises(ExchangeError) as caught:
        place_expiration(STS_NOW + life, date, instant(), instant(), 43_200)
    assert caught.value.next_step is NextStep.RETRY
    assert (STS_NOW + life).strftime("%Y-%m-%dT%H:%M:%SZ") in str(caught.value)


@pytest.mark.parametrize("error_seconds", [600, 3600, 36_000])
def test_no_clock_that_is_behind_makes_a_set_live_longer_than_was_asked_for(error_seconds: float) -> None:
    expires_at = STS_NOW + timedelta(hours=1)
    by_a_date = place_expiration(expires_at, STS_NOW - timedelta(seconds=error_seconds), instant(), instant(), 3600)
    by_our_own = place_expiration(expires_at, None, instant(error_seconds), instant(error_seconds), 3600)
    assert by_a_date.remaining_seconds == by_our_own.remaining_seconds == 3599


def test_a_wall_clock_set_forward_during_the_exchange_shortens_the_life_that_is_planned_on() -> None:
    now = Instant(instant().wall + 3000, instant().monotonic)
    assert place_expiration(STS_NOW + timedelta(hours=1), STS_NOW, instant(), now, 3600).remaining_seconds == 599


@pytest.mark.parametrize(
    "now", [Instant(instant().wall + 7200, 77.0), Instant(instant().wall, 77.0 + 3600)], ids=["wall", "monotonic"]
)
def test_a_set_that_is_over_on_arrival_is_refused_and_so_tried_again_soon(now: Instant) -> None:
    with pytest.raises(ExchangeError) as caught:
        place_expiration(STS_NOW + timedelta(hours=1), STS_NOW, instant(), now, 3600)
    assert caught.value.next_step is NextStep.RETRY
