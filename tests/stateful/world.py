"""
A world without an event loop: true time, two clocks that lie about it, and an STS that answers real bytes by a script.

The true time is `World.now`. The wall clock differs from it by `wall_error`, which a step changes, and STS's clock by
`sts_error`. The monotonic clock stands still in a suspend. `StsInWorld` never suspends its caller: to wait, it moves
the world on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from math import floor, inf

from sidecar.clock import Clock
from sidecar.errors import ExchangeError, NextStep
from sidecar.sts import wire as sts
from sidecar.sts.client import ATTEMPT_SECONDS, ExchangeResult
from sidecar.sts.expiration import MAX_SESSION_SECONDS
from sidecar.sts.request import ExchangeRequest
from sidecar.token import STS_TOLERANCE_SECONDS, Token
from tests.support.fakes.clock import EPOCH
from tests.support.fakes.exchange import TOO_LONG
from tests.support.fakes.scripted_sts import ERROR_BODY, good_body


class World:
    """`now`: true Unix seconds. `slept`: seconds of it that the monotonic clock has missed."""

    def __init__(self) -> None:
        self.now = EPOCH
        self.wall_error = 0.0
        self.sts_error = 0
        self.slept = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now + self.wall_error, lambda: self.now - self.slept - EPOCH)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def suspend(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def step_wall(self, seconds: float) -> None:
        self.wall_error += seconds


@dataclass(frozen=True, slots=True)
class Behaviour:
    """
    How STS answers until told otherwise, `latency_seconds` after it was asked; half of that before it stamps its reply.

    `life_seconds` None: what was asked for. `date_error` is how far the `Date` is from STS's clock, None for no `Date`.
    `code` makes it an error; `transport` one in which nothing answered; `edit` spoils the body of a good reply.
    `interruption` happens to the world once the reply is on its way.
    """

    life_seconds: int | None = None
    date_error: float | None = 0.0
    latency_seconds: float = 0.0
    status: int = 200
    code: str | None = None
    retry_after: str | None = None
    transport: str | None = None
    edit: Callable[[bytes], bytes] | None = None
    interruption: Callable[[World], None] | None = None


GOOD = Behaviour()


@dataclass(frozen=True, slots=True)
class Grant:
    """
    One set as STS knows it, with the world as it was when it was asked for.

    `expires_at` is when it truly expires and `expiration` what the reply showed, by STS's clock of then.
    `early_seconds` and `late_seconds` bound by how much the daemon may misplace its end, by what it was told.
    """

    key: str
    expires_at: float
    expiration: float
    wall_error: float
    slept: float
    early_seconds: float
    late_seconds: float

    def must_be_served(self, world: World) -> bool:
        return world.now < self.earliest_end(world)

    def may_be_served(self, world: World) -> bool:
        return world.now < self.latest_end(world)

    def earliest_end(self, world: World) -> float:
        """A wall clock that is ahead of where it was looks like a suspend: until it is refreshed, the set is hidden."""
        ahead = max(0.0, world.wall_error - self.wall_error)
        return self.expires_at - self.early_seconds - ahead

    def latest_end(self, world: World) -> float:
        """Seen by neither clock is only this: a suspend, and the wall clock set back by as much."""
        unseen = min(world.slept - self.slept, max(0.0, self.wall_error - world.wall_error))
        return self.expires_at + self.late_seconds + unseen + 1e-3


class StsInWorld:
    """
    An Exchange. `grants` holds each set by its key; `last` is the latest one, and `refused` the latest error.

    `asked_at` holds the true time of each request, and `granted_at` that of each that brought a set. No session is
    longer than `limit_seconds`.
    """

    def __init__(self, world: World) -> None:
        self.behaviour = GOOD
        self.limit_seconds = 43_200
        self.asked_at: list[float] = []
        self.grants: dict[str, Grant] = {}
        self.granted_at: list[float] = []
        self.last: Grant | None = None
        self.refused: ExchangeError | None = None
        self._world = world

    async def __call__(self, request: ExchangeRequest, token: Token) -> ExchangeResult:
        self.asked_at.append(self._world.now)
        try:
            return self._reply(self.behaviour, request, token)
        except ExchangeError as error:
            self.refused = error
            raise

    def _reply(self, how: Behaviour, request: ExchangeRequest, token: Token) -> ExchangeResult:
        world, asked_at = self._world, self._world.now
        before = world.wall_error, world.slept
        world.pass_time(min(how.latency_seconds, ATTEMPT_SECONDS) / 2)
        stamped_at = world.now
        if how.interruption is not None:
            how.interruption(world)
        world.pass_time(min(how.latency_seconds, ATTEMPT_SECONDS) / 2)
        if how.transport is not None or how.latency_seconds > ATTEMPT_SECONDS:
            raise ExchangeError(how.transport or "Timeout", "nothing answered", NextStep.RETRY)
        grant = self._grant(how, request.duration_seconds, asked_at, stamped_at, before)
        status, body = self._answer(how, token, grant, request.duration_seconds)
        credentials = sts.read_reply(status, body, role_arn=request.role_arn, retry_after=how.retry_after)
        if credentials.expires_at.timestamp() == grant.expiration:  # else its text was spoilt, and nothing may take it
            self.last = self.grants[grant.key] = grant
            self.granted_at.append(asked_at)
        return ExchangeResult(credentials, _date(how, stamped_at + world.sts_error))

    def _grant(
        self, how: Behaviour, asked_seconds: int, asked_at: float, stamped_at: float, before: tuple[float, float]
    ) -> Grant:
        life = asked_seconds if how.life_seconds is None else how.life_seconds
        error = _error_told(how, life, before[0] - self._world.sts_error)
        # By a clock so far behind it is no session that IAM allows, and is passed over.
        is_absurd = life - error > MAX_SESSION_SECONDS - ATTEMPT_SECONDS
        return Grant(
            key=f"ASIAWORLD{len(self.asked_at):07d}",
            expires_at=floor(stamped_at) + life,
            expiration=floor(stamped_at) + life + self._world.sts_error,
            wall_error=before[0],
            slept=before[1],
            # The second that Date is cut by, and the way of the request, whose length nobody knows.
            # The daemon trusts no session to last longer than what it asked for.
            early_seconds=inf
            if is_absurd
            else 1.001 + (self._world.now - asked_at) + max(0.0, error, life - asked_seconds),
            # STS grants what is asked for, and then a wrong clock cannot make the daemon think it more.
            late_seconds=max(0.0, min(-error, asked_seconds - life)),
        )

    def _answer(self, how: Behaviour, token: Token, grant: Grant, asked_seconds: int) -> tuple[int, bytes]:
        if how.code is not None:
            return how.status, ERROR_BODY.format(code=how.code, message="says the world").encode()
        if (token.expires_at or 0.0) + STS_TOLERANCE_SECONDS < self._world.now:
            return 400, ERROR_BODY.format(code="ExpiredTokenException", message="Token expired").encode()
        if asked_seconds > self.limit_seconds:
            return 400, ERROR_BODY.format(code="ValidationError", message=TOO_LONG).encode()
        expiration = datetime.fromtimestamp(grant.expiration, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = good_body(grant.key, expiration)
        return how.status, how.edit(body) if how.edit is not None else body


def _error_told(how: Behaviour, life: float, wall_error: float) -> float:
    """
    How far ahead of STS's clock the clock is that the daemon goes by: the reply's if it makes sense, else its own as it
    was when it asked, which `wall_error` is then about.
    """
    if how.date_error is None or not 0 < life - how.date_error - 1 <= MAX_SESSION_SECONDS:
        return wall_error
    return how.date_error


def _date(how: Behaviour, stamped_at: float) -> datetime | None:
    if how.date_error is None:
        return None
    shown = datetime.fromtimestamp(floor(stamped_at) + how.date_error, UTC)
    return parsedate_to_datetime(format_datetime(shown, usegmt=True))
