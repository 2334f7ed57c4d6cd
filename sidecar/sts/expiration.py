"""
How long a new set of credentials lives on our own clocks, whatever they show.

STS says when the set ends by its clock, and in the `Date` of the same reply what its clock shows. Their
difference is the true life; our wall clock may be hours off. Never stretched: the end is STS's own, and no clock,
ours or one that a proxy puts into the reply, makes it later than what was asked for.
"""

from datetime import datetime
from typing import NamedTuple

from sidecar.clock import Instant
from sidecar.errors import ExchangeError, NextStep

LONGEST_LIFE_SECONDS = 43_200 + 300
"""The longest session that IAM allows (12 h; AssumeRoleWithWebIdentity, DurationSeconds) and some slack."""

CUT_SECONDS = 1.0
"""STS cuts `Date` and Expiration to whole seconds."""


class Lifetime(NamedTuple):
    """
    `ends` is on our clocks, and `life_seconds` how long that is from now on the clock that gets there first.

    `skew_seconds` is how far STS's clock is ahead of ours, None if it did not say.
    """

    ends: Instant
    life_seconds: float
    skew_seconds: float | None


def lifetime(
    expires_at: datetime, sts_date: datetime | None, asked: Instant, now: Instant, duration_seconds: float
) -> Lifetime:
    """
    Place STS's Expiration on our clocks. Raises ExchangeError when it has passed already or is absurd.

    `asked` is when the request went out and `now` when the reply was here. `Date` was set somewhere between and is
    cut to whole seconds, so counting from `asked` and a second less errs on the early side, never the late one. A
    `Date` that makes no sense (a proxy's, say) is passed over for our own wall clock. STS grants the
    `duration_seconds` that it is asked for and no more, so a longer life is a wrong clock's.
    """
    life, skew_seconds = _told(expires_at, sts_date, asked, now)
    ends = asked.later(min(life, duration_seconds - CUT_SECONDS))
    # A wall clock that was set meanwhile, or a suspend: by one of our clocks the set may be over already.
    left = min(ends.wall - now.wall, ends.monotonic - now.monotonic)
    if 0 < life <= LONGEST_LIFE_SECONDS and left > 0:
        return Lifetime(ends, left, skew_seconds)
    raise ExchangeError(
        "MalformedReply",
        f"STS answered with Expiration {expires_at:%Y-%m-%dT%H:%M:%SZ}, {min(life, left):.0f} s from now by this "
        "machine's clock: set the clock if it is wrong; the credentials in service stay.",
        NextStep.RETRY,
    )


def told_time(expires_at: datetime, sts_date: datetime | None) -> datetime | None:
    """What STS's clock showed; None where its `Date` is missing, or makes no sense beside the Expiration."""
    if sts_date is None:
        return None
    return sts_date if 0 < _life(expires_at, sts_date) <= LONGEST_LIFE_SECONDS else None


def _life(expires_at: datetime, sts_date: datetime) -> float:
    return expires_at.timestamp() - sts_date.timestamp() - CUT_SECONDS


def _told(expires_at: datetime, sts_date: datetime | None, asked: Instant, now: Instant) -> tuple[float, float | None]:
    """The life from `asked` on, and the skew: by STS's clock where the `Date` makes sense, else by our wall clock."""
    told = told_time(expires_at, sts_date)
    if told is None:
        return expires_at.timestamp() - asked.wall, None
    return _life(expires_at, told), told.timestamp() + CUT_SECONDS / 2 - now.wall
