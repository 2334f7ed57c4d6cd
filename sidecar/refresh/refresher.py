"""
The loop of one role: read the token, trade it, put the new set in service, and decide when to do so again.

It joins token.py, client.py, schedule.py and store.py, and owns the state that none of them keeps. No failure
ends the loop, and none touches the credentials in service.
"""

import os.path
from collections.abc import Callable
from typing import NamedTuple

import trio

from sidecar.clock import Clock, Instant, instant_text
from sidecar.directory_watch import watch_directory
from sidecar.errors import ExchangeError, FileTimeoutError, NextStep, TokenError
from sidecar.file_thread import in_thread, shared_check
from sidecar.files import FileIdentity, file_identity
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.refresh import max_duration as duration
from sidecar.refresh import schedule
from sidecar.role import Role
from sidecar.store import Store
from sidecar.sts.client import Exchange, ExchangeReply
from sidecar.sts.errors import explained, is_too_long
from sidecar.sts.expiration import Lifetime, lifetime
from sidecar.sts.request import request_for
from sidecar.token import Token, expired_at_start_warning, read_token, warning_from_claims

REMINDER_SECONDS = 600.0
"""A failure that stays the same is logged again this often, so that the newest page of logs shows it."""

UNEXPECTED = "unexpected_error"
"""The outcome of an attempt that ended in an exception that nobody foresaw."""

HUNG_VOLUME = "token_timeout"
"""The outcome of an attempt that could not read the token, because its volume hangs."""

LARGE_SKEW_SECONDS = 60.0
"""Beyond this a wrong clock is worth a warning: SigV4 fails at 300 s."""


class Health(NamedTuple):
    """
    What the loop knows, swapped whole. `trouble` says for a person why there is no newer set, None when all is well;
    `trouble_step` is the step of the chain that it is about, or 0. `looked_at` is the monotonic time of the loop's last
    turn, and `session_seconds` how long a session STS was asked for and gave last.
    """

    looked_at: float
    trouble: str | None = "the first credentials are still being fetched"
    trouble_code: str | None = "Starting"
    trouble_step: int = 0
    needs_person: bool = False
    """Whether only a person can fix the trouble: no retry helps before somebody changes something."""
    token_expires_at: float | None = None
    skew_seconds: float | None = None
    session_seconds: int | None = None


class Progress(NamedTuple):
    """What a loop has learned and planned, for the loop that succeeds it. It holds no secret."""

    schedule: schedule.Schedule
    health: Health
    longest: duration.Longest
    token_identity: FileIdentity | None
    reminded_at: float


class Refresher:
    """Keeps `store` filled for `role`. `jitter` gives numbers uniform in [0, 1)."""

    def __init__(
        self,
        role: Role,
        exchange: Exchange,
        store: Store,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        log: Logger,
        metrics: Metrics,
    ) -> None:
        self.role = role
        self.store = store
        self._exchange = exchange
        self._clock = clock
        self._jitter = jitter
        self._log = log.bind(role=role.name)
        self._metrics = metrics
        now = clock.now()
        self.health = Health(looked_at=now.monotonic)
        self.first_attempt = trio.Event()
        """Set once an attempt has ended, well or badly."""
        self._schedule = schedule.at_start(now)
        self._longest = duration.Longest()
        self._token_identity: FileIdentity | None = None
        self._token_warning: str | None = None
        self._directory_changed = trio.Event()
        self._clock_offset = now.wall - now.monotonic
        self._reminded_at = now.monotonic

    @property
    def progress(self) -> Progress:
        return Progress(self._schedule, self.health, self._longest, self._token_identity, self._reminded_at)

    def resume(self, progress: Progress) -> None:
        """Go on where another loop for the same IAM roles and token file was. Call it before `run`."""
        self._schedule = progress.schedule
        self.health = progress.health._replace(looked_at=self._clock.monotonic())
        self._longest = progress.longest
        self._token_identity = progress.token_identity
        self._reminded_at = progress.reminded_at
        if progress.schedule.attempted_at is not None:
            self.first_attempt.set()

    def report_crash(self, exc: BaseException) -> None:
        """Show in probes, answers and metrics that the loop raised what nobody foresaw."""
        while isinstance(exc, BaseExceptionGroup):  # as trio's nurseries raise it
            exc = exc.exceptions[0]
        trouble = (
            f"the refresh loop failed unexpectedly ({type(exc).__name__}) and is started again. Report this as a bug, "
            "with the log line refresher_failed."
        )
        self.health = self.health._replace(trouble=trouble, trouble_code=UNEXPECTED, trouble_step=0)
        self._count(UNEXPECTED)
        self.first_attempt.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_directory, os.path.dirname(self.role.token_file) or ".", self._wake)
            while True:
                changed = self._directory_changed  # before the turn, in which the directory may change
                with trio.move_on_after(await self.turn()):
                    await changed.wait()

    async def turn(self) -> float:
        """
        Check both clocks and the token once, and try if an attempt is due. Return the seconds to sleep then.

        It waits for the token's volume and the exchange, and each of them has a deadline.
        """
        now = self._clock.now()
        self.health = self.health._replace(looked_at=now.monotonic)
        self._notice_clock_step(now)
        await self._notice_new_token()
        now = self._clock.now()
        if not self._schedule.is_due(now):
            return self._schedule.sleep_seconds(now)
        await self._attempt()
        self.first_attempt.set()
        return 0.0

    def _wake(self) -> None:
        self._directory_changed.set()
        self._directory_changed = trio.Event()

    def _notice_clock_step(self, now: Instant) -> None:
        """Only tells: what is due is decided on both clocks anyway."""
        step = now.wall - now.monotonic - self._clock_offset
        if abs(step) > schedule.CLOCK_STEP_SECONDS:
            self._clock_offset += step
            self._metrics.clock_steps += 1
            self._log.warning("clock_stepped", seconds=round(step, 1), why="the clock was set, or the machine slept")

    async def _notice_new_token(self) -> None:
        path = self.role.token_file
        try:
            identity = await shared_check(path, file_identity)
        except FileTimeoutError as error:
            self._report_hung_volume(error)
            return
        except OSError:
            return  # the next attempt says what is wrong
        self._forget_hung_volume()
        if identity is None or identity == self._token_identity:
            return
        is_first = self._token_identity is None
        self._token_identity = identity
        self._schedule = schedule.after_token_change(self._schedule, self._clock.now())
        try:
            token = await self._read_token()
        except TokenError:
            return  # the next attempt reads it again and says what is wrong
        self._look_at_claims(token, self._clock.now(), is_first=is_first)
        if not is_first:
            self._log.info("token_renewed", token_expires_at=_optional_instant(token.expires_at))

    def _report_hung_volume(self, error: FileTimeoutError) -> None:
        """Report it while no attempt is due, unless the last attempt failed for another reason."""
        if self.health.trouble_code in {None, HUNG_VOLUME}:
            self._remember_trouble(HUNG_VOLUME, str(error))

    def _forget_hung_volume(self) -> None:
        """Withdraw the report if credentials are in service. Without them, the next attempt does so."""
        if self.health.trouble_code == HUNG_VOLUME and self.store.alive(self._clock.now()):
            self.health = self.health._replace(trouble=None, trouble_code=None)

    async def _read_token(self) -> Token:
        """Read the token in a thread, because its volume may hang. Raises TokenError."""
        path = self.role.token_file
        try:
            return await in_thread(path, read_token, path)
        except FileTimeoutError as error:
            raise TokenError("timeout", error.problem, error.fix) from error
        except OSError as exc:
            fix = "Raise the container's limit of processes"
            raise TokenError("unreadable", f"{path} cannot be read: {exc.strerror}", fix) from exc

    async def _attempt(self) -> None:
        try:
            token = await self._read_token()
        except TokenError as error:
            self._schedule = schedule.after_token_error(self._schedule, self._clock.now())
            self._count(f"token_{error.reason}")
            self._remember_trouble(f"token_{error.reason}", str(error), needs_person=_is_mistake(error))
            return
        self._look_at_claims(token, self._clock.now())
        try:
            await self._trade(token)
        except ExchangeError as error:
            self._refused(error)

    async def _trade(self, token: Token) -> None:
        """One exchange, or with `duration: max` a shorter session at once where the role allows none so long."""
        seconds = self.role.duration_seconds or self._longest_to_ask()
        while True:
            try:
                return await self._exchange_for(seconds, token)
            except ExchangeError as error:
                if self.role.duration_seconds or seconds == duration.SURE_SECONDS or not is_too_long(error):
                    raise
                self._count(error.code)
            self._learn(duration.after_refusal(self._longest, seconds, self._clock.monotonic()))
            seconds = self._longest.surest_seconds

    def _longest_to_ask(self) -> int:
        """While STS fails, nothing is tried that could cost a second call."""
        if self._schedule.failures:
            return self._longest.surest_seconds
        return self._longest.seconds_to_ask(self._clock.monotonic())

    def _learn(self, longest: duration.Longest) -> None:
        before, self._longest = self._longest, longest
        if longest.granted_seconds not in {None, before.granted_seconds}:
            self._log.info("duration_learned", seconds=longest.granted_seconds, refused_seconds=longest.refused_seconds)

    async def _exchange_for(self, seconds: int, token: Token) -> None:
        request = request_for(self.role, token, seconds)
        asked = self._clock.now()
        # A reload of the roles may cancel the exchange, and its call counts all the same.
        self._schedule = self._schedule._replace(attempted_at=asked.monotonic)
        try:
            reply = await self._exchange(request, token)
        finally:
            self._metrics.sts_seconds.observe(self._clock.now().monotonic - asked.monotonic)
        now = self._clock.now()
        life = lifetime(reply.credentials.expires_at, reply.sts_date, asked, now, request.served_seconds)
        if self.role.duration_seconds is None:
            self._learn(duration.after_grant(self._longest, seconds))
        self._take(reply, life, now, request.served_seconds)

    def _take(self, reply: ExchangeReply, life: Lifetime, now: Instant, session_seconds: int) -> None:
        credentials = reply.credentials
        is_newer = self.store.replace(credentials, life.ends, now)
        self._schedule = schedule.after_success(now, self._life_seconds(now, life), self._jitter())
        self.health = self.health._replace(
            trouble=None,
            trouble_code=None,
            trouble_step=0,
            needs_person=False,
            skew_seconds=life.skew_seconds,
            session_seconds=session_seconds,
        )
        self._count("success")
        self._log.info(
            "credentials_refreshed" if is_newer else "older_credentials_passed_over",
            role_arn=credentials.role_arn,
            access_key_id=credentials.access_key_id,
            expiration=credentials.expiration,
            refresh_in_seconds=round(self._schedule.due.monotonic - now.monotonic),
        )
        if life.skew_seconds is not None and abs(life.skew_seconds) > LARGE_SKEW_SECONDS:
            self._log.warning(
                "clock_is_off",
                seconds=round(-life.skew_seconds),
                why="this machine's clock against STS's: requests signed here fail from 300 s on",
            )

    def _life_seconds(self, now: Instant, life: Lifetime) -> float:
        """Return the shorter of what remains of the new credentials and of those in service."""
        snapshot = self.store.snapshot
        return min(life.life_seconds, snapshot.life_seconds(now) if snapshot else life.life_seconds)

    def _refused(self, error: ExchangeError) -> None:
        now, snapshot = self._clock.now(), self.store.snapshot
        self._schedule = schedule.after_failure(
            self._schedule,
            now,
            error.next_step,
            self._jitter(),
            error.retry_after_seconds,
            life_seconds=snapshot.life_seconds(now) if snapshot else 0.0,
        )
        self._count(error.code)
        needs_person = error.next_step is NextStep.ASK_OPERATOR
        self._remember_trouble(error.code, explained(error), error.next_step, error.step, needs_person=needs_person)

    def _remember_trouble(
        self, code: str, trouble: str, next_step: NextStep | None = None, step: int = 0, *, needs_person: bool = False
    ) -> None:
        """Log what changed, or what has stayed so for long."""
        now = self._clock.now()
        # Not by its text, in which AWS may have the time of day.
        is_new = (code, step) != (self.health.trouble_code, self.health.trouble_step)
        self.health = self.health._replace(
            trouble=trouble, trouble_code=code, trouble_step=step, needs_person=needs_person
        )
        if not is_new and now.monotonic - self._reminded_at < REMINDER_SECONDS:
            return
        self._reminded_at = now.monotonic
        alive = self.store.alive(now)
        self._log.warning(
            "refresh_failed",
            code=code,
            **({"step": step} if step else {}),
            reason=trouble,
            next_step=next_step.value if next_step else "wait_for_token",
            failures=self._schedule.failures,
            retry_in_seconds=round(self._schedule.due.monotonic - now.monotonic, 1),
            still_serving_until=alive.credentials.expiration if alive else None,
        )

    def _look_at_claims(self, token: Token, now: Instant, *, is_first: bool = False) -> None:
        wall = now.wall + (self.health.skew_seconds or 0.0)
        warning = warning_from_claims(token, wall)
        if warning is None and is_first:  # STS accepts it for a few minutes more
            warning = expired_at_start_warning(token, wall)
        if warning is not None and warning != self._token_warning:
            self._log.warning("token_looks_wrong", reason=warning)
        self._token_warning = warning
        self.health = self.health._replace(token_expires_at=token.expires_at)

    def _count(self, outcome: str) -> None:
        self._metrics.count_refresh(self.role.name, outcome)


def _is_mistake(error: TokenError) -> bool:
    """Return whether only a person can fix it: the content, the kind of the file, or who may read it."""
    is_forbidden = isinstance(error.__cause__, PermissionError)
    return error.mistake is not None or error.reason == "not_a_file" or is_forbidden


def _optional_instant(unix_seconds: float | None) -> str | None:
    return None if unix_seconds is None else instant_text(unix_seconds)
