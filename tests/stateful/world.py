"""
Simulate the true time, clocks with errors, and an STS that returns real bytes, without an event loop.

The true time is `World.now`. The wall clock differs from the true time by `wall_error`, which a step changes. STS's
clock differs by `sts_error`. The monotonic clock stops during a suspend. `StsInWorld` never waits: instead it advances
the time of the world.
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
    """
    The true time and the errors of the clocks.

    `now` is the true time in Unix seconds. `slept` is the total time of suspends in seconds, which the monotonic clock
    does not count.
    """

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
    The behaviour of STS until the next change.

    STS responds `latency_seconds` after a request, and sets `Date` after half of that time. If `life_seconds` is None,
    sessions have the requested lifetime. `date_error` is the difference between `Date` and STS's clock, or None for no
    `Date`. `code` makes the response an error. `transport` is an error without a response. `edit` damages the body of a
    valid response. `interruption` changes the world while the response is in transit.
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
    Credentials as STS knows them, with the state of the world at the request.

    `expires_at` is the true expiration. `expiration` is the expiration in the response, by STS's clock at that time.
    `early_seconds` and `late_seconds` are the maximum errors of the expiration that the daemon may compute from the
    response.
    """

    key: str
    expires_at: float
    expiration: float
    wall_error: float
    slept: float
    early_seconds: float
    late_seconds: float

    def must_be_served(self, world: World) -> bool:
        return world.now < self.earliest_expiration(world)

    def may_be_served(self, world: World) -> bool:
        return world.now < self.latest_expiration(world)

    def earliest_expiration(self, world: World) -> float:
        """
        Return the earliest expiration that the daemon may assume.

        The daemon cannot distinguish a forward step of the wall clock from a suspend, so it may serve no credentials
        until the next refresh.
        """
        ahead = max(0.0, world.wall_error - self.wall_error)
        return self.expires_at - self.early_seconds - ahead

    def latest_expiration(self, world: World) -> float:
        """
        Return the latest expiration that the daemon may assume.

        Only one case is invisible on both clocks: a suspend during which the wall clock is set back by the same time.
        """
        unseen = min(world.slept - self.slept, max(0.0, self.wall_error - world.wall_error))
        return self.expires_at + self.late_seconds + unseen + 1e-3


class StsInWorld:
    """
    An Exchange in this world. `grants` has each grant by access key id, and `last` is the latest grant.

    `refused` is the latest error. `called_at` has the true time of each request, and `granted_at` has the time of each
    successful request. No session is longer than `limit_seconds`.
    """

    def __init__(self, world: World) -> None:
        self.behaviour = GOOD
        self.limit_seconds = 43_200
        self.called_at: list[float] = []
        self.grants: dict[str, Grant] = {}
        self.granted_at: list[float] = []
        self.last: Grant | None = None
        self.refused: ExchangeError | None = None
        self._world = world

    async def __call__(self, request: ExchangeRequest, token: Token) -> ExchangeResult:
        self.called_at.append(self._world.now)
        try:
            return self._reply(self.behaviour, request, token)
        except ExchangeError as error:
            self.refused = error
            raise

    def _reply(self, how: Behaviour, request: ExchangeRequest, token: Token) -> ExchangeResult:
        world, called_at = self._world, self._world.now
        before = world.wall_error, world.slept
        world.pass_time(min(how.latency_seconds, ATTEMPT_SECONDS) / 2)
        stamped_at = world.now
        if how.interruption is not None:
            how.interruption(world)
        world.pass_time(min(how.latency_seconds, ATTEMPT_SECONDS) / 2)
        if how.transport is not None or how.latency_seconds > ATTEMPT_SECONDS:
            raise ExchangeError(how.transport or "Timeout", "nothing answered", NextStep.RETRY)
        grant = self._grant(how, request.duration_seconds, called_at, stamped_at, before)
        status, body = self._answer(how, token, grant, request.duration_seconds)
        credentials = sts.read_reply(status, body, role_arn=request.role_arn, retry_after=how.retry_after)
        # Another expiration means that the response was damaged, so the daemon must not accept the credentials.
        if credentials.expires_at.timestamp() == grant.expiration:
            self.last = self.grants[grant.key] = grant
            self.granted_at.append(called_at)
        return ExchangeResult(credentials, _date(how, stamped_at + world.sts_error))

    def _grant(
        self, how: Behaviour, asked_seconds: int, called_at: float, stamped_at: float, before: tuple[float, float]
    ) -> Grant:
        life = asked_seconds if how.life_seconds is None else how.life_seconds
        error = _clock_error(how, life, before[0] - self._world.sts_error)
        # The wall clock is so slow that the session seems longer than IAM allows, so the daemon ignores the session.
        is_absurd = life - error > MAX_SESSION_SECONDS - ATTEMPT_SECONDS
        return Grant(
            key=f"ASIAWORLD{len(self.called_at):07d}",
            expires_at=floor(stamped_at) + life,
            expiration=floor(stamped_at) + life + self._world.sts_error,
            wall_error=before[0],
            slept=before[1],
            # `Date` is truncated to the second, and the time of the request in transit is unknown. The daemon limits
            # each session to the requested duration.
            early_seconds=inf
            if is_absurd
            else 1.001 + (self._world.now - called_at) + max(0.0, error, life - asked_seconds),
            # A wrong clock cannot make the daemon assume a longer lifetime than the requested lifetime.
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


def _clock_error(how: Behaviour, life: float, wall_error: float) -> float:
    """
    Return the time on the clock that the daemon uses minus the time on STS's clock.

    The daemon uses the response's `Date` if it is plausible. Otherwise it uses its own clock at the request, with the
    error `wall_error`.
    """
    if how.date_error is None or not 0 < life - how.date_error - 1 <= MAX_SESSION_SECONDS:
        return wall_error
    return how.date_error


def _date(how: Behaviour, stamped_at: float) -> datetime | None:
    if how.date_error is None:
        return None
    shown = datetime.fromtimestamp(floor(stamped_at) + how.date_error, UTC)
    return parsedate_to_datetime(format_datetime(shown, usegmt=True))
