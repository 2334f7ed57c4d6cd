"""
How long a new set of credentials lives on our own clocks, whatever they show.

STS says when the set ends by its clock, and in the `Date` of the same reply what its clock shows. Their
difference is the true life; our wall clock may be hours off. Never stretched: the end is STS's own.
"""

from datetime import datetime
from typing import NamedTuple

from sidecar.clock import Instant
from sidecar.errors import ExchangeError, NextStep

LONGEST_LIFE_SECONDS = 43_200 + 300
"""The longest session that IAM allows (12 h; AssumeRoleWithWebIdentity, DurationSeconds) and some slack."""


class Lifetime(NamedTuple):
    """`ends` on our clocks; `skew_seconds` is how far STS's clock is ahead of ours, None if it did not say."""

    ends: Instant
    life_seconds: float
    skew_seconds: float | None


def lifetime(expires_at: datetime, sts_date: datetime | None, asked: Instant, now: Instant) -> Lifetime:
    """
    Place STS's Expiration on our clocks. Raises ExchangeError when it has passed already or is absurd.

    `asked` is when the request went out and `now` when the reply was here. `Date` was set somewhere between and is
    cut to whole seconds, so counting from `asked` and a second less errs on the early side, never the late one. A
    `Date` that makes no sense (a proxy's, say) is passed over for our own wall clock.
    """
    expires = expires_at.timestamp()
    if sts_date is not None:
        life = expires - sts_date.timestamp() - 1.0
        if 0 < life <= LONGEST_LIFE_SECONDS:
            return Lifetime(asked.later(life), life, sts_date.timestamp() + 0.5 - now.wall)
    life = expires - now.wall
    if 0 < life <= LONGEST_LIFE_SECONDS:
        return Lifetime(now.later(life), life, None)
    raise ExchangeError(
        "MalformedReply",
        f"STS answered with Expiration {expires_at:%Y-%m-%dT%H:%M:%SZ}, {life:.0f} s from now by this machine's clock: "
        "set the clock if it is wrong; the credentials in service stay.",
        NextStep.RETRY,
    )
