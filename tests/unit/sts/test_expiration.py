"""Test that credentials never remain valid longer than on STS's clock, even if our clocks are wrong."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.clock import Instant
from sidecar.errors import ExchangeError, NextStep
from sidecar.sts.expiration import MAX_SESSION_SECONDS, place_expiration

STS_NOW = datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC)


def instant(skew_seconds: float = 0.0) -> Instant:
    """Return this machine's clocks at STS_NOW, with a wall clock that is `skew_seconds` behind."""
    return Instant(STS_NOW.timestamp() - skew_seconds, 77.0)


@given(
    life=st.integers(13, 43_200),
    skew=st.floats(-1e6, 1e6),
    reply_seconds=st.floats(0, 10),
    stamped=st.floats(0, 1),
    fraction=st.floats(0, 0.999),
)
def test_expiration_is_never_later_than_on_the_clock_of_sts(
    life: int, skew: float, reply_seconds: float, stamped: float, fraction: float
) -> None:
    # The true time of the request. STS writes its Date before the response arrives.
    left_at = STS_NOW.timestamp() + fraction - stamped * reply_seconds
    expires_at = STS_NOW + timedelta(seconds=life)
    sent = Instant(left_at - skew, 77.0)
    found = place_expiration(expires_at, STS_NOW, sent, sent.later(reply_seconds), life)
    true_seconds_until_end = expires_at.timestamp() - left_at
    assert found.expires.monotonic - sent.monotonic <= true_seconds_until_end + 1e-6
    assert found.expires.wall + skew <= expires_at.timestamp() + 1e-6
    assert found.expires.monotonic - sent.monotonic >= true_seconds_until_end - 12


@pytest.mark.parametrize("skew", [0, 7200, -7200])
def test_skew_is_the_time_of_sts_minus_ours(skew: float) -> None:
    found = place_expiration(STS_NOW + timedelta(hours=1), STS_NOW, instant(skew), instant(skew), 3600)
    assert found.skew_seconds == pytest.approx(skew, abs=0.51)


def test_expiration_without_date_uses_our_clock() -> None:
    found = place_expiration(STS_NOW + timedelta(hours=1), None, instant(), instant(), 3600)
    assert found.expires.wall == (STS_NOW + timedelta(hours=1, seconds=-1)).timestamp()
    assert found.skew_seconds is None


def test_expiration_ignores_an_absurd_date() -> None:
    found = place_expiration(STS_NOW + timedelta(hours=1), STS_NOW - timedelta(days=400), instant(), instant(), 3600)
    assert found.skew_seconds is None
    assert found.remaining_seconds == 3599


@pytest.mark.parametrize("life", [timedelta(0), timedelta(seconds=-5), timedelta(seconds=MAX_SESSION_SECONDS + 9)])
@pytest.mark.parametrize("date", [None, STS_NOW])
def test_past_or_absurd_expiration_is_rejected(life: timedelta, date: datetime | None) -> None:
    with pytest.raises(ExchangeError) as caught:
        place_expiration(STS_NOW + life, date, instant(), instant(), 43_200)
    assert caught.value.next_step is NextStep.RETRY
    assert (STS_NOW + life).strftime("%Y-%m-%dT%H:%M:%SZ") in str(caught.value)


@pytest.mark.parametrize("error_seconds", [600, 3600, 36_000])
def test_slow_clock_does_not_extend_the_requested_duration(error_seconds: float) -> None:
    expires_at = STS_NOW + timedelta(hours=1)
    by_a_date = place_expiration(expires_at, STS_NOW - timedelta(seconds=error_seconds), instant(), instant(), 3600)
    by_our_own = place_expiration(expires_at, None, instant(error_seconds), instant(error_seconds), 3600)
    assert by_a_date.remaining_seconds == by_our_own.remaining_seconds == 3599


def test_wall_clock_set_forward_shortens_the_remaining_lifetime() -> None:
    now = Instant(instant().wall + 3000, instant().monotonic)
    assert place_expiration(STS_NOW + timedelta(hours=1), STS_NOW, instant(), now, 3600).remaining_seconds == 599


@pytest.mark.parametrize(
    "now", [Instant(instant().wall + 7200, 77.0), Instant(instant().wall, 77.0 + 3600)], ids=["wall", "monotonic"]
)
def test_credentials_expired_on_arrival_are_rejected(now: Instant) -> None:
    with pytest.raises(ExchangeError) as caught:
        place_expiration(STS_NOW + timedelta(hours=1), STS_NOW, instant(), now, 3600)
    assert caught.value.next_step is NextStep.RETRY
