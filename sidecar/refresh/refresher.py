"""
Keep the credentials of one role fresh: read the token, exchange it at STS, store the result, and plan the next attempt.

The loop uses token.py, sts/client.py, schedule.py and store.py, and keeps the state between their calls. Rule: no error
of the token file or of STS ends the loop, and no error changes the credentials in service.
"""

import os.path
import random
from collections.abc import Callable
from typing import NamedTuple

import trio

from sidecar.clock import Clock, Instant, instant_text
from sidecar.directory_watch import watch_directory
from sidecar.errors import ExchangeError, FileTimeoutError, NextStep, TokenError
from sidecar.file_thread import in_thread, shared_check
from sidecar.files import FileVersion, file_version
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.refresh import max_duration, schedule
from sidecar.role import Role
from sidecar.store import Store
from sidecar.sts.client import Call, Exchange, ExchangeResult
from sidecar.sts.errors import explained, is_too_long
from sidecar.sts.expiration import Expiration, place_expiration
from sidecar.sts.request import request_for
from sidecar.token import Token, expired_at_start_warning, read_token, warning_from_claims

REMINDER_SECONDS = 600.0
"""Interval at which an unchanged error is logged again, so that recent log lines show it."""

UNEXPECTED = "unexpected_error"
"""The outcome of an attempt that raised an unexpected exception."""

HUNG_VOLUME = "token_timeout"
"""The outcome of an attempt that could not read the token because its volume hangs."""

LARGE_SKEW_SECONDS = 60.0
"""Clock skew above which the loop logs a warning. SigV4 fails at 300 s."""


class Health(NamedTuple):
    """
    The state of the loop, replaced as a whole.

    `checked_at` is the monotonic time of the loop's last turn. `last_error` is a text for people: the reason for the
    failure of the last attempt, or that the token's volume hangs, or that the first attempt is in progress. It is None
    after a success. `last_error_step` is the step of the role chain that failed, or 0. `needs_person` means that only a
    person can fix the error, so retries do not help. `session_seconds` is the duration of the last session that STS
    granted. `last_call` is the last call to STS.
    """

    checked_at: float
    last_error: str | None = "the first credentials are still being fetched"
    last_error_code: str | None = "Starting"
    last_error_step: int = 0
    needs_person: bool = False
    token_expires_at: float | None = None
    skew_seconds: float | None = None
    session_seconds: int | None = None
    last_call: Call | None = None


class Progress(NamedTuple):
    """The state that a loop passes to the loop that replaces it. The state contains no secret."""

    schedule: schedule.Schedule
    health: Health
    max_duration: max_duration.MaxDuration
    token_version: FileVersion | None
    reminded_at: float


class Sources(NamedTuple):
    """The sources of time and randomness. `jitter` returns numbers uniform in [0, 1)."""

    clock: Clock
    jitter: Callable[[], float] = random.random


class Refresher:
    """The refresh loop that keeps valid credentials of `role` in `store`."""

    def __init__(
        self,
        role: Role,
        exchange: Exchange,
        store: Store,
        *,
        sources: Sources,
        log: Logger,
        metrics: Metrics,
    ) -> None:
        self.role = role
        self.store = store
        self._exchange = exchange
        self._clock, self._jitter = sources
        self._log = log.bind(role_name=role.name)
        self._metrics = metrics
        now = self._clock.now()
        self.health = Health(checked_at=now.monotonic)
        self.first_attempt = trio.Event()
        """An event that is set when an attempt has ended, with or without success."""
        self._schedule = schedule.at_start(now)
        self._max_duration = max_duration.MaxDuration()
        self._token_version: FileVersion | None = None
        self._token_warning: str | None = None
        self._directory_changed = trio.Event()
        self._clock_offset = now.wall - now.monotonic
        self._reminded_at = now.monotonic

    @property
    def progress(self) -> Progress:
        """Return the progress of this loop, for `resume`."""
        return Progress(self._schedule, self.health, self._max_duration, self._token_version, self._reminded_at)

    def resume(self, progress: Progress) -> None:
        """Continue the work of another loop for the same IAM roles and token file. Call this before `run`."""
        self._schedule = progress.schedule
        self.health = progress.health._replace(checked_at=self._clock.monotonic())
        self._max_duration = progress.max_duration
        self._token_version = progress.token_version
        self._reminded_at = progress.reminded_at
        if progress.schedule.attempted_at is not None:
            self.first_attempt.set()

    def report_crash(self, exc: BaseException) -> None:
        """Report in probes, responses and metrics that the loop raised an unexpected exception."""
        while isinstance(exc, BaseExceptionGroup):  # trio's nurseries raise groups
            exc = exc.exceptions[0]
        last_error = (
            f"the refresh loop failed unexpectedly ({type(exc).__name__}) and is started again. Report this as a bug, "
            "with the log line refresher_failed."
        )
        self.health = self.health._replace(last_error=last_error, last_error_code=UNEXPECTED, last_error_step=0)
        self._count(UNEXPECTED)
        self.first_attempt.set()

    async def run(self) -> None:
        """Run the loop until it is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_directory, os.path.dirname(self.role.token_file) or ".", self._wake)
            while True:
                changed = self._directory_changed  # before the turn, because the directory may change during the turn
                with trio.move_on_after(await self.turn()):
                    await changed.wait()

    async def turn(self) -> float:
        """
        Check both clocks and the token once, make an attempt if one is due, and return the seconds to sleep.

        The turn waits for the token's volume and for the exchange. Each wait has a deadline.
        """
        now = self._clock.now()
        self.health = self.health._replace(checked_at=now.monotonic)
        self._notice_clock_step(now)
        await self._notice_new_token()
        now = self._clock.now()
        if not self._schedule.is_due(now):
            return self._schedule.sleep_seconds(now)
        await self._attempt()
        self.first_attempt.set()
        return 0.0

    def refresh_now(self) -> None:
        """Make the next attempt due at once, as at the refresh point. `local` calls this for its user."""
        now = self._clock.now()
        self._schedule = self._schedule._replace(due=now, decided=now)
        self._wake()

    def _wake(self) -> None:
        self._directory_changed.set()
        self._directory_changed = trio.Event()

    def _notice_clock_step(self, now: Instant) -> None:
        """Log and count a step of the wall clock. The schedule follows both clocks and needs no change."""
        step = now.wall - now.monotonic - self._clock_offset
        if abs(step) > schedule.CLOCK_STEP_SECONDS:
            self._clock_offset += step
            self._metrics.clock_steps += 1
            self._log.warning("clock_stepped", seconds=round(step, 1), reason="the clock was set, or the machine slept")

    async def _notice_new_token(self) -> None:
        path = self.role.token_file
        try:
            version = await shared_check(path, file_version)
        except FileTimeoutError as error:
            self._report_hung_volume(error)
            return
        except OSError:
            return  # the next attempt reports the error
        self._forget_hung_volume()
        if version is None or version == self._token_version:
            return
        is_first = self._token_version is None
        self._token_version = version
        self._schedule = schedule.after_token_change(self._schedule, self._clock.now())
        try:
            token = await self._read_token()
        except TokenError:
            return  # the next attempt reads the token again and reports the error
        self._check_claims(token, self._clock.now(), is_first=is_first)
        if not is_first:
            self._log.info("token_renewed", token_expires_at=_optional_instant(token.expires_at))

    def _report_hung_volume(self, error: FileTimeoutError) -> None:
        """Report the hung volume even if no attempt is due, unless the last attempt failed for another reason."""
        if self.health.last_error_code in {None, HUNG_VOLUME}:
            self._record_error(HUNG_VOLUME, str(error))

    def _forget_hung_volume(self) -> None:
        """Remove the report if valid credentials are in service. Otherwise the next attempt removes the report."""
        if self.health.last_error_code == HUNG_VOLUME and self.store.valid_snapshot(self._clock.now()):
            self.health = self.health._replace(last_error=None, last_error_code=None)

    async def _read_token(self) -> Token:
        """
        Read the token in a thread, because its volume may hang.

        Raises TokenError if the file has no valid token, or cannot be read at all or in time.
        """
        path = self.role.token_file
        try:
            return await in_thread(path, read_token, path)
        except FileTimeoutError as error:
            raise TokenError("timeout", error.problem, error.fix) from error
        except OSError as exc:
            fix = "Raise the container's process limit"
            raise TokenError("unreadable", f"{path} cannot be read: {exc.strerror}", fix) from exc

    async def _attempt(self) -> None:
        try:
            token = await self._read_token()
        except TokenError as error:
            self._schedule = schedule.after_token_error(self._schedule, self._clock.now())
            self._count(f"token_{error.reason}")
            self._record_error(f"token_{error.reason}", str(error), needs_person=_is_mistake(error))
            return
        self._check_claims(token, self._clock.now())
        try:
            await self._exchange_token(token)
        except ExchangeError as error:
            self._handle_exchange_error(error)

    async def _exchange_token(self, token: Token) -> None:
        """
        Exchange the token. With `duration: max`, request a shorter session at once if the role allows less.

        Raises ExchangeError if STS returns no credentials.
        """
        seconds = self.role.duration_seconds or self._duration_to_request()
        while True:
            try:
                return await self._exchange_for(seconds, token)
            except ExchangeError as error:
                is_shortest = seconds == max_duration.ALWAYS_ALLOWED_SECONDS
                if self.role.duration_seconds or is_shortest or not is_too_long(error):
                    raise
                self._count(error.code)
            self._set_max_duration(max_duration.after_refusal(self._max_duration, seconds, self._clock.monotonic()))
            seconds = self._max_duration.known_seconds

    def _duration_to_request(self) -> int:
        """Return the duration to request. After a failure, a known one is used, so an outage causes no second call."""
        if self._schedule.failures:
            return self._max_duration.known_seconds
        return self._max_duration.seconds_to_request(self._clock.monotonic())

    def _set_max_duration(self, new: max_duration.MaxDuration) -> None:
        before, self._max_duration = self._max_duration, new
        if new.granted_seconds not in {None, before.granted_seconds}:
            self._log.info("max_duration_found", seconds=new.granted_seconds, rejected_seconds=new.refused_seconds)

    async def _exchange_for(self, seconds: int, token: Token) -> None:
        request = request_for(self.role, token, seconds)
        sent = self._clock.now()
        # A reload of the roles may cancel the exchange, but its call still counts.
        self._schedule = self._schedule._replace(attempted_at=sent.monotonic)
        try:
            result = await self._exchange(request, token)
        except ExchangeError as error:
            self._record_call(error.code, error.status, sent)
            raise
        finally:
            self._metrics.sts_seconds.observe(self._clock.now().monotonic - sent.monotonic)
        self._record_call("success", 200, sent)
        now = self._clock.now()
        expiration = place_expiration(result.credentials.expires_at, result.sts_date, sent, now, request.served_seconds)
        if self.role.duration_seconds is None:
            self._set_max_duration(max_duration.after_grant(self._max_duration, seconds))
        self._store_credentials(result, expiration, now, request.served_seconds)

    def _record_call(self, code: str, http_status: int | None, sent: Instant) -> None:
        ended_at = self._clock.monotonic()
        self.health = self.health._replace(last_call=Call(code, http_status, ended_at, ended_at - sent.monotonic))

    def _store_credentials(self, result: ExchangeResult, expiration: Expiration, now: Instant, seconds: int) -> None:
        """Serve the credentials of a session of `seconds`, unless older ones remain valid for longer."""
        credentials = result.credentials
        is_newer = self.store.replace(credentials, expiration.expires, now)
        self._schedule = schedule.after_success(now, self._remaining_seconds(now, expiration), self._jitter())
        self.health = self.health._replace(
            last_error=None,
            last_error_code=None,
            last_error_step=0,
            needs_person=False,
            skew_seconds=expiration.skew_seconds,
            session_seconds=seconds,
        )
        self._count("success")
        self._log.info(
            "credentials_refreshed" if is_newer else "older_credentials_ignored",
            role_arn=credentials.role_arn,
            access_key_id=credentials.access_key_id,
            expiration=credentials.expiration,
            refresh_in_seconds=round(self._schedule.due.monotonic - now.monotonic),
        )
        self._warn_about_skew(expiration.skew_seconds)

    def _warn_about_skew(self, skew_seconds: float | None) -> None:
        if skew_seconds is not None and abs(skew_seconds) > LARGE_SKEW_SECONDS:
            self._log.warning(
                "clock_skew_detected",
                seconds=round(-skew_seconds),
                reason="this machine's clock differs from that of STS: AWS rejects requests whose time is 300 s off",
            )

    def _remaining_seconds(self, now: Instant, new: Expiration) -> float:
        """Return the remaining lifetime of the new credentials or of those in service, whichever is shorter."""
        snapshot = self.store.snapshot
        return min(new.remaining_seconds, snapshot.remaining_seconds(now) if snapshot else new.remaining_seconds)

    def _handle_exchange_error(self, error: ExchangeError) -> None:
        now, snapshot = self._clock.now(), self.store.snapshot
        self._schedule = schedule.after_failure(
            self._schedule,
            now,
            error.next_step,
            self._jitter(),
            error.retry_after_seconds,
            remaining_seconds=snapshot.remaining_seconds(now) if snapshot else 0.0,
        )
        self._count(error.code)
        needs_person = error.next_step is NextStep.ASK_OPERATOR
        self._record_error(error.code, explained(error), error.next_step, error.step, needs_person=needs_person)

    def _record_error(
        self, code: str, reason: str, next_step: NextStep | None = None, step: int = 0, *, needs_person: bool = False
    ) -> None:
        """Keep the error in `health`. Log the error if it is new, or if REMINDER_SECONDS have passed."""
        now = self._clock.now()
        # The text is not compared, because AWS may include the time of day in it.
        is_new = (code, step) != (self.health.last_error_code, self.health.last_error_step)
        self.health = self.health._replace(
            last_error=reason, last_error_code=code, last_error_step=step, needs_person=needs_person
        )
        if not is_new and now.monotonic - self._reminded_at < REMINDER_SECONDS:
            return
        self._reminded_at = now.monotonic
        snapshot = self.store.valid_snapshot(now)
        self._log.warning(
            "refresh_failed",
            code=code,
            **({"step": step} if step else {}),
            reason=reason,
            next_step=next_step.value if next_step else "wait_for_token",
            failures=self._schedule.failures,
            retry_in_seconds=round(self._schedule.due.monotonic - now.monotonic, 1),
            still_serving_until=snapshot.credentials.expiration if snapshot else None,
        )

    def _check_claims(self, token: Token, now: Instant, *, is_first: bool = False) -> None:
        wall = now.wall + (self.health.skew_seconds or 0.0)
        warning = warning_from_claims(token, wall)
        if warning is None and is_first:  # STS accepts an expired token for a few more minutes
            warning = expired_at_start_warning(token, wall)
        if warning is not None and warning != self._token_warning:
            self._log.warning("token_claims_suspicious", reason=warning)
        self._token_warning = warning
        self.health = self.health._replace(token_expires_at=token.expires_at)

    def _count(self, outcome: str) -> None:
        self._metrics.count_refresh(self.role.name, outcome)


def _is_mistake(error: TokenError) -> bool:
    """Return whether only a person can fix the error: the file's content, its kind, or its permissions."""
    is_forbidden = isinstance(error.__cause__, PermissionError)
    return error.mistake is not None or error.reason == "not_a_file" or is_forbidden


def _optional_instant(unix_seconds: float | None) -> str | None:
    return None if unix_seconds is None else instant_text(unix_seconds)
