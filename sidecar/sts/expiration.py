"""
Compute when new credentials expire on this machine's clocks, even if those clocks are wrong.

STS reports the expiration by its own clock, and the time on that clock in the `Date` of the same response. The
difference of these times is the true lifetime, but our wall clock may be wrong by hours. Rule: credentials never expire
later here than STS says, and never later than the requested duration. This is true even if our clock is wrong or a
proxy replaces `Date`.
"""

from datetime import datetime
from typing import NamedTuple

from sidecar.clock import Instant
from sidecar.errors import ExchangeError, NextStep

MAX_SESSION_SECONDS = 43_200 + 300
"""The longest session that IAM allows (12 h; AssumeRoleWithWebIdentity, DurationSeconds), plus a tolerance."""

ROUNDING_SECONDS = 1.0
"""The rounding error of `Date` and Expiration, which STS truncates to whole seconds."""


class Expiration(NamedTuple):
    """
    The expiration of credentials on our own clocks.

    `expires` is the instant of the expiration. `remaining_seconds` is the time until then, on the clock that shows less
    time. `skew_seconds` is the time on STS's clock minus the time on ours; None if the response does not show it.
    """

    expires: Instant
    remaining_seconds: float
    skew_seconds: float | None


def place_expiration(
    expires_at: datetime, sts_date: datetime | None, sent: Instant, now: Instant, duration_seconds: float
) -> Expiration:
    """
    Return STS's Expiration on our clocks.

    Raises ExchangeError if it is in the past, or later than the longest session could expire.

    `sent` is the instant of the request and `now` that of the response. STS set `Date` between the two and truncated it
    to whole seconds. The lifetime therefore starts at `sent` and is a second shorter, so any error makes the expiration
    earlier. If `Date` contradicts the Expiration, perhaps because of a proxy, our wall clock is used. STS never grants
    more than the requested `duration_seconds`, so a longer lifetime means that a clock is wrong.
    """
    lifetime, skew_seconds = _lifetime_and_skew(expires_at, sts_date, sent, now)
    expires = sent.later(min(lifetime, duration_seconds - ROUNDING_SECONDS))
    # If the wall clock was set during the call, or the machine slept, the expiration may have passed on one of our
    # clocks.
    remaining = min(expires.wall - now.wall, expires.monotonic - now.monotonic)
    if 0 < lifetime <= MAX_SESSION_SECONDS and remaining > 0:
        return Expiration(expires, remaining, skew_seconds)
    raise ExchangeError(
        "MalformedReply",
        f"STS returned the Expiration {expires_at:%Y-%m-%dT%H:%M:%SZ}, which is {min(lifetime, remaining):.0f} s from "
        "now on this machine's clock. Set the clock if it is wrong. The daemon keeps the credentials that it has.",
        NextStep.RETRY,
    )


def sts_time(expires_at: datetime, sts_date: datetime | None) -> datetime | None:
    """Return the time on STS's clock; None if `Date` is missing or contradicts the Expiration."""
    if sts_date is None:
        return None
    return sts_date if 0 < _lifetime(expires_at, sts_date) <= MAX_SESSION_SECONDS else None


def _lifetime(expires_at: datetime, sts_date: datetime) -> float:
    return expires_at.timestamp() - sts_date.timestamp() - ROUNDING_SECONDS


def _lifetime_and_skew(
    expires_at: datetime, sts_date: datetime | None, sent: Instant, now: Instant
) -> tuple[float, float | None]:
    """Return the lifetime from `sent` on and the skew. Without STS's time, use our wall clock and return no skew."""
    date = sts_time(expires_at, sts_date)
    if date is None:
        return expires_at.timestamp() - sent.wall, None
    return _lifetime(expires_at, date), date.timestamp() + ROUNDING_SECONDS / 2 - now.wall
