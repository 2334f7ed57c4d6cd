"""
When the next exchange with STS is due: the one retry loop of the program, as pure functions.

Rules. Nothing ends the loop. Every failure has a next step, and every next step a back-off that is capped and
never zero, so attempts an hour are bounded under any fault. What is due is watched on both clocks. Jitter comes in
as an argument, uniform in [0, 1).
"""

from typing import NamedTuple

from sidecar.clock import Instant
from sidecar.errors import NextStep

CHECK_SECONDS = 10.0
"""Longest sleep. A wall clock that moved, or a token that changed unseen, is noticed this soon."""

EARLIEST_SDK_WINDOW_SECONDS = 15 * 60
"""botocore, the Java SDKs and .NET ask again on every use once less than this remains."""

MARGIN_SECONDS = EARLIEST_SDK_WINDOW_SECONDS + 5 * 60
"""What should remain when a refresh starts: the SDKs' window and five minutes of retries before it."""

SHORTEST_WITH_MARGIN_SECONDS = 1500
"""A shorter session lies too much inside the SDKs' windows for an earlier refresh to help; half its life it is."""

SHORTEST_REFRESH_SECONDS = 2.0
"""However short-lived the credentials are, no more calls than this allows."""

JITTER = 0.1
"""Pods that started together drift apart by up to a tenth of the interval, either way."""

MAX_RETRY_AFTER_SECONDS = 300.0
"""STS may ask for patience; a nonsense value must not put refreshing off until credentials die."""

TOKEN_POLL_SECONDS = 1.0
"""How often a token that is not there yet is looked for. No call to STS is made for it."""

CHANGED_TOKEN_PAUSE_SECONDS = 5.0
"""A changed token is tried at once, but never sooner than this after the attempt before."""

CLOCK_STEP_SECONDS = 5.0
"""A wall clock that moved by more than this against the monotonic one was set, or the machine slept."""


class BackOff(NamedTuple):
    """The delay's ceiling doubles from `first_seconds` to `cap_seconds`; jitter takes it down to `floor` of that."""

    first_seconds: float
    cap_seconds: float
    floor: float

    def delay_seconds(self, failures: int, jitter: float) -> float:
        ceiling = min(self.cap_seconds, self.first_seconds * 2.0 ** min(failures - 1, 16))
        return ceiling * (self.floor + (1.0 - self.floor) * jitter)


BACK_OFFS: dict[NextStep, BackOff] = {
    NextStep.RETRY: BackOff(first_seconds=1, cap_seconds=60, floor=0.1),
    NextStep.SLOW_DOWN: BackOff(first_seconds=5, cap_seconds=120, floor=0.1),
    # A new role or provider takes IAM some seconds to spread, so the first retries come sooner than the cap.
    NextStep.REREAD_TOKEN: BackOff(first_seconds=5, cap_seconds=60, floor=0.7),
    # The same token stays expired; each Pod has a token of its own, so there is no fleet to spread.
    NextStep.WAIT_FOR_TOKEN: BackOff(first_seconds=60, cap_seconds=60, floor=1.0),
    NextStep.WAIT: BackOff(first_seconds=5, cap_seconds=60, floor=0.7),
    NextStep.ASK_OPERATOR: BackOff(first_seconds=60, cap_seconds=300, floor=0.7),
}


ABOUT_THE_TOKEN = frozenset({NextStep.REREAD_TOKEN, NextStep.WAIT_FOR_TOKEN})
"""After these a changed token is worth an attempt at once."""

PATIENT = frozenset({NextStep.RETRY, NextStep.SLOW_DOWN})
"""Where many Pods fail at once, and the sum of their retries is what STS meets when it comes back."""

PATIENCE = 3
"""The part of its life that a set may lose to one delay: a third, so that attempts come closer as its end does."""

MAX_PATIENCE_SECONDS = 300.0
"""Then a fleet has asked again within five minutes of the end of an outage."""

THROTTLED_FIRST = 5
"""The part of its patience that a throttled Pod's first delay may take: where STS lets through nine calls of ten that
a fleet needs, a refresh takes three attempts in place of five, and fewer Pods run out (benchmarks/fleet.py)."""


def patient(next_step: NextStep, life_seconds: float) -> BackOff:
    """
    The back-off after a failure while a set in service has so long to live.

    One with half an hour left loses nothing by a delay of five minutes, and a fleet of them asks a third as often
    (benchmarks/fleet.py). Without one the table's own cap holds.
    """
    back_off = BACK_OFFS[next_step]
    if next_step not in PATIENT:
        return back_off
    longest = min(life_seconds / PATIENCE, MAX_PATIENCE_SECONDS)
    first = longest / THROTTLED_FIRST if next_step is NextStep.SLOW_DOWN else 0.0
    return back_off._replace(
        first_seconds=max(back_off.first_seconds, first), cap_seconds=max(back_off.cap_seconds, longest)
    )


class Schedule(NamedTuple):
    """
    What is due next. Each event makes a new one out of the one before.

    `due` is reached when either clock gets there; `decided` is when it was set; `attempted_at` is the monotonic
    time of the last exchange; `wants_new_token` means that a changed token is worth an attempt at once.
    """

    due: Instant
    decided: Instant
    failures: int = 0
    attempted_at: float | None = None
    wants_new_token: bool = False

    def is_due(self, now: Instant) -> bool:
        """Also when the wall clock went back past the decision: what was planned on it means nothing any more."""
        return (
            now.monotonic >= self.due.monotonic
            or now.wall >= self.due.wall
            or now.wall < self.decided.wall - CLOCK_STEP_SECONDS
        )

    def sleep_seconds(self, now: Instant) -> float:
        """How long to sleep before looking again: all roles of a daemon do so at once, in one wake-up."""
        next_look = CHECK_SECONDS - now.monotonic % CHECK_SECONDS
        return max(0.0, min(next_look, self.due.monotonic - now.monotonic, self.due.wall - now.wall))


def at_start(now: Instant) -> Schedule:
    return Schedule(due=now, decided=now, wants_new_token=True)


def after_success(now: Instant, life_seconds: float, jitter: float) -> Schedule:
    """Refresh well before the end; `life_seconds` is what remains of the set in service."""
    delay = refresh_after_seconds(life_seconds, jitter)
    return Schedule(due=now.later(delay), decided=now, attempted_at=now.monotonic)


def after_failure(
    before: Schedule,
    now: Instant,
    next_step: NextStep,
    jitter: float,
    retry_after_seconds: float | None = None,
    *,
    life_seconds: float = 0.0,
) -> Schedule:
    """Try again as the table says, and not before STS asked to. `life_seconds` is left of the set in service."""
    failures = before.failures + 1
    delay = patient(next_step, life_seconds).delay_seconds(failures, jitter)
    if retry_after_seconds is not None:
        # Everyone was told the same number: spread them behind it.
        asked = min(max(retry_after_seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
        delay = max(delay, asked * (1.0 + JITTER * jitter))
    return Schedule(
        due=now.later(delay),
        decided=now,
        failures=failures,
        attempted_at=now.monotonic,
        wants_new_token=next_step in ABOUT_THE_TOKEN,
    )


def after_token_error(before: Schedule, now: Instant) -> Schedule:
    """No usable token: look for it again soon. Nothing was sent, so nothing counts as a failure of STS."""
    return Schedule(
        due=now.later(TOKEN_POLL_SECONDS),
        decided=now,
        failures=before.failures,
        attempted_at=before.attempted_at,
        wants_new_token=True,
    )


def after_token_change(before: Schedule, now: Instant) -> Schedule:
    """A new token: at once if the last one was refused or missing, else the plan stays."""
    if not before.wants_new_token:
        return before
    earliest = now.monotonic
    if before.attempted_at is not None:
        earliest = max(earliest, before.attempted_at + CHANGED_TOKEN_PAUSE_SECONDS)
    delay = earliest - now.monotonic
    if now.monotonic + delay >= before.due.monotonic:
        return before
    return Schedule(
        due=now.later(delay),
        decided=now,
        failures=before.failures,
        attempted_at=before.attempted_at,
        wants_new_token=True,
    )


def after_role_change(before: Schedule, now: Instant) -> Schedule:
    """
    Return the schedule of a role whose configuration changed, while its IAM roles and token file stay the same.

    It is tried at once, and while STS fails when it was due anyway: a file that changes all the time must not undo a
    back-off or Retry-After. Attempts are never closer than the pause after a changed token. An attempt that the change
    interrupted is made up for after the same back-off as before.
    """
    earliest, back_off = now.monotonic, before.due.monotonic - before.decided.monotonic if before.failures else 0.0
    if before.attempted_at is not None:
        earliest = max(earliest, before.attempted_at + max(CHANGED_TOKEN_PAUSE_SECONDS, back_off))
    if before.failures and not before.is_due(now):
        return before
    return before._replace(due=now.later(earliest - now.monotonic), decided=now)


def refresh_after_seconds(life_seconds: float, jitter: float) -> float:
    """
    Half of the life, or sooner where that would leave less than MARGIN_SECONDS, give or take a tenth.

    An hour is refreshed after 27 to 33 minutes: it outlives 27 minutes without STS, and no SDK meets its window.
    """
    delay = life_seconds / 2
    if life_seconds >= SHORTEST_WITH_MARGIN_SECONDS:
        delay = min(delay, max(life_seconds - MARGIN_SECONDS, life_seconds / 4))
    return max(SHORTEST_REFRESH_SECONDS, delay * (1.0 + JITTER * (2.0 * jitter - 1.0)))
