"""
Find out how long new credentials remain valid on our own clocks, even if those are wrong.

STS states the expiration by its own clock, and shows that clock in the `Date` of the same response. The difference of
the two is the true lifetime, while our wall clock may be hours off. Rule: the lifetime is never stretched. Neither our
clock nor one that a proxy puts into the response makes the credentials expire later than STS says, or later than the
requested duration.
"""

from datetime import datetime
from typing import NamedTuple

from sidecar.clock import Instant
from sidecar.errors import ExchangeError, NextStep

MAX_SESSION_SECONDS = 43_200 + 300
"""The longest session that IAM allows (12 h; AssumeRoleWithWebIdentity, DurationSeconds), plus a tolerance."""

ROUNDING_SECONDS = 1.0
"""STS truncates `Date` and Expiration to whole seconds."""


class Expiration(NamedTuple):
    """
    The expiration of credentials on our own clocks.

    `expires` is the instant, and `remaining_seconds` the time until then on the clock that reaches it first.
    `skew_seconds` is how far STS's clock is ahead of ours; None if the response does not show it.
    """

    expires: Instant
    remaining_seconds: float
    skew_seconds: float | None


def place_expiration(
    expires_at: datetime, sts_date: datetime | None, sent: Instant, now: Instant, duration_seconds: float
) -> Expiration:
    """
    Return STS's Expiration on our clocks. Raises ExchangeError if it has passed already or is absurd.

    `sent` is the instant of the request and `now` that of the response. STS set `Date` between the two and truncated it
    to whole seconds. So we count from `sent` and subtract a second: the error is always towards an earlier expiration.
    If `Date` makes no sense, for example because a proxy set it, our wall clock is used instead. STS grants the
    requested `duration_seconds` and no more, so a longer lifetime comes from a wrong clock.
    """
    lifetime, skew_seconds = _lifetime_and_skew(expires_at, sts_date, sent, now)
    expires = sent.later(min(lifetime, duration_seconds - ROUNDING_SECONDS))
    # If the wall clock was set meanwhile, or the machine slept, one of our clocks may have passed the expiration.
    remaining = min(expires.wall - now.wall, expires.monotonic - now.monotonic)
    if 0 < lifetime <= MAX_SESSION_SECONDS and remaining > 0:
        return Expiration(expires, remaining, skew_seconds)
    raise ExchangeError(
        "MalformedReply",
        f"STS answered with Expiration {expires_at:%Y-%m-%dT%H:%M:%SZ}, {min(lifetime, remaining):.0f} s from now by "
        "this machine's clock: set the clock if it is wrong; the credentials in service stay.",
        NextStep.RETRY,
    )


def sts_time(expires_at: datetime, sts_date: datetime | None) -> datetime | None:
    """Return the time on STS's clock; None if `Date` is missing or makes no sense beside the Expiration."""
    if sts_date is None:
        return None
    return sts_date if 0 < _lifetime(expires_at, sts_date) <= MAX_SESSION_SECONDS else None


def _lifetime(expires_at: datetime, sts_date: datetime) -> float:
    return expires_at.timestamp() - sts_date.timestamp() - ROUNDING_SECONDS


def _lifetime_and_skew(
    expires_at: datetime, sts_date: datetime | None, sent: Instant, now: Instant
) -> tuple[float, float | None]:
    """Return the lifetime from `sent` on, and the skew: by STS's clock if it is known, else by our wall clock."""
    date = sts_time(expires_at, sts_date)
    if date is None:
        return expires_at.timestamp() - sent.wall, None
    return _lifetime(expires_at, date), date.timestamp() + ROUNDING_SECONDS / 2 - now.wall
