"""Count the daemon's daily calls to STS for a configuration. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.refresh.schedule import refresh_after_seconds
from sidecar.role import LONGEST, MAX_DURATION_SECONDS, Role

DAY_SECONDS = 86_400
CONFIGURED = "configured"
"""Key under which `by_duration` returns the calls with the configured session durations."""

MIN_SESSION_LIMIT_SECONDS = 3600
"""Smallest MaxSessionDuration that a role can have (IAM API reference), in seconds."""


def calls_per_day(session_seconds: int, chain: int = 0) -> int:
    """Return a role's calls per Pod and day: one exchange per refresh, and one AssumeRole per step of a chain."""
    return round(DAY_SECONDS / refresh_after_seconds(session_seconds, jitter=0.5)) * (1 + chain)


class Calls(NamedTuple):
    """The smallest and the largest number of calls per day. They differ if they depend on the role's session limit."""

    least: int
    most: int

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


def by_duration(roles: Sequence[Role]) -> dict[str, Calls]:
    """Return the calls for the configured roles, and for the same roles with each common session duration."""
    if not roles:
        return {}
    by_session = {"3600": 3600, "43200": MAX_DURATION_SECONDS, LONGEST: None}
    return {CONFIGURED: _sum(roles)} | {
        name: _sum([role._replace(duration_seconds=seconds) for role in roles]) for name, seconds in by_session.items()
    }


def _sum(roles: Sequence[Role]) -> Calls:
    return Calls(
        *(sum(_of_role(role, limit) for role in roles) for limit in (MAX_DURATION_SECONDS, MIN_SESSION_LIMIT_SECONDS))
    )


def _of_role(role: Role, limit: int) -> int:
    """Return the calls if the role's session limit is `limit` seconds. A chain's last role sets the duration."""
    seconds = role.chain[-1].duration_seconds if role.chain else role.duration_seconds or limit
    return calls_per_day(seconds, len(role.chain))
