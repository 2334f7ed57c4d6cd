"""How often the daemon calls STS in a day, by what it was told. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.refresh.schedule import refresh_after_seconds
from sidecar.role import LONGEST, MAX_DURATION_SECONDS, Role

DAY_SECONDS = 86_400
CONFIGURED = "configured"

SHORTEST_LIMIT = 3600
"""What every role allows (IAM API reference, MaxSessionDuration)."""


def calls_per_day(session_seconds: int, chain: int = 0) -> int:
    """For one role of a Pod when all goes well: an exchange with each refresh, and an AssumeRole for each step."""
    return round(DAY_SECONDS / refresh_after_seconds(session_seconds, jitter=0.5)) * (1 + chain)


class Calls(NamedTuple):
    """Between which numbers the calls of a day lie, where they depend on what a role allows."""

    least: int
    most: int

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


def table(roles: Sequence[Role]) -> dict[str, Calls]:
    """For the roles as they are, and as they would be with each length of session."""
    if not roles:
        return {}
    by_session = {"3600": 3600, "43200": MAX_DURATION_SECONDS, LONGEST: None}
    told = _sum(roles)
    return {CONFIGURED: told} | {
        name: _sum([role._replace(duration_seconds=seconds) for role in roles]) for name, seconds in by_session.items()
    }


def _sum(roles: Sequence[Role]) -> Calls:
    return Calls(*(sum(_of_role(role, limit) for role in roles) for limit in (MAX_DURATION_SECONDS, SHORTEST_LIMIT)))


def _of_role(role: Role, limit: int) -> int:
    """`limit` is what the role allows. A chained role's session is of its own length, whatever the first one's."""
    seconds = role.chain[-1].duration_seconds if role.chain else role.duration_seconds or limit
    return calls_per_day(seconds, len(role.chain))
