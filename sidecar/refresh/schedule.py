"""
Decide when the next exchange with STS is due, as pure functions. This is the only retry policy for STS.

Rules. No error ends the loop. Every error has a next step, and every next step has a back-off that is capped and never
zero. Any fault therefore causes a limited number of attempts per hour. An attempt is due as soon as either clock
reaches its time. Jitter is an argument, uniform in [0, 1).
"""

from typing import NamedTuple

from sidecar.clock import Instant
from sidecar.errors import NextStep

CHECK_SECONDS = 10.0
"""Maximum sleep. Within this time the loop notices a step of the wall clock, or a new token that inotify missed."""

EARLIEST_SDK_WINDOW_SECONDS = 15 * 60
"""Remaining lifetime below which botocore, the Java SDKs and .NET request credentials on every use."""

MARGIN_SECONDS = EARLIEST_SDK_WINDOW_SECONDS + 5 * 60
"""Remaining lifetime at which a refresh should start: the SDKs' window, and five minutes for retries before it."""

SHORTEST_WITH_MARGIN_SECONDS = 1500
"""Session lifetime below which MARGIN_SECONDS does not apply, because SDKs' windows fill most of it anyway."""

SHORTEST_REFRESH_SECONDS = 2.0
"""Minimum time between two refreshes, however short the session is."""

JITTER = 0.1
"""Fraction of an interval that is added or subtracted at random, so that Pods that started together spread out."""

MAX_RETRY_AFTER_SECONDS = 300.0
"""Maximum Retry-After that is used. A larger value must not delay the refresh until the credentials expire."""

TOKEN_POLL_SECONDS = 1.0
"""Interval of checks while the token is missing or invalid. These checks do not call STS."""

CHANGED_TOKEN_PAUSE_SECONDS = 5.0
"""Minimum time between an attempt and the next one for a changed token."""

CLOCK_STEP_SECONDS = 5.0
"""
Smallest difference between the movements of the two clocks that counts as a step of the wall clock.

The clock was then set, or the machine was suspended.
"""


class BackOff(NamedTuple):
    """
    A delay that grows with each failure.

    The maximum delay doubles with each failure, from `first_seconds` to `cap_seconds`. Jitter selects a delay between
    `floor` times the maximum and the maximum.
    """

    first_seconds: float
    cap_seconds: float
    floor: float

    def delay_seconds(self, failures: int, jitter: float) -> float:
        """Return the delay after this number of consecutive failures."""
        ceiling = min(self.cap_seconds, self.first_seconds * 2.0 ** min(failures - 1, 16))
        return ceiling * (self.floor + (1.0 - self.floor) * jitter)


BACK_OFFS: dict[NextStep, BackOff] = {
    NextStep.RETRY: BackOff(first_seconds=1, cap_seconds=60, floor=0.1),
    NextStep.SLOW_DOWN: BackOff(first_seconds=5, cap_seconds=120, floor=0.1),
    # IAM takes some seconds to propagate a new role or provider, so the first retries are faster than the cap.
    NextStep.REREAD_TOKEN: BackOff(first_seconds=5, cap_seconds=60, floor=0.7),
    # An expired token remains expired. Each Pod has its own token, so no group of Pods needs jitter for its retries.
    NextStep.WAIT_FOR_TOKEN: BackOff(first_seconds=60, cap_seconds=60, floor=1.0),
    NextStep.WAIT: BackOff(first_seconds=5, cap_seconds=60, floor=0.7),
    NextStep.ASK_OPERATOR: BackOff(first_seconds=60, cap_seconds=300, floor=0.7),
}
"""The back-off of each next step."""

TOKEN_STEPS = frozenset({NextStep.REREAD_TOKEN, NextStep.WAIT_FOR_TOKEN})
"""Next steps after which a changed token does not wait for the back-off."""

SCALED_STEPS = frozenset({NextStep.RETRY, NextStep.SLOW_DOWN})
"""Next steps whose delays grow with the remaining lifetime. Many Pods fail together, and all of them retry when STS
recovers."""

MAX_LIFETIME_FRACTION = 1 / 3
"""
Scaled cap of a delay, as a fraction of the remaining lifetime. Retries thus become more frequent before the expiration.
The scaled cap is never below the cap of the table.
"""

MAX_SCALED_DELAY_SECONDS = 300.0
"""Maximum scaled delay: a whole fleet retries within five minutes after the end of an outage."""

THROTTLED_FIRST_FRACTION = 1 / 5
"""
First delay of a throttled Pod, as a fraction of its longest delay.

If STS admits 90 % of the calls that a fleet needs, a refresh then takes three attempts instead of five. The credentials
of fewer Pods expire (benchmarks/fleet.py).
"""


def back_off_for(next_step: NextStep, remaining_seconds: float) -> BackOff:
    """
    Return the back-off after an error. `remaining_seconds` is the remaining lifetime of the credentials in service.

    Credentials with half an hour left can wait five minutes for a retry, and a fleet then sends a third of the requests
    (benchmarks/fleet.py). Without valid credentials the cap of the table applies.
    """
    back_off = BACK_OFFS[next_step]
    if next_step not in SCALED_STEPS:
        return back_off
    cap = min(remaining_seconds * MAX_LIFETIME_FRACTION, MAX_SCALED_DELAY_SECONDS)
    first = cap * THROTTLED_FIRST_FRACTION if next_step is NextStep.SLOW_DOWN else 0.0
    return back_off._replace(
        first_seconds=max(back_off.first_seconds, first), cap_seconds=max(back_off.cap_seconds, cap)
    )


class Schedule(NamedTuple):
    """
    The plan for the next attempt. Each event creates a new plan from the one before.

    The attempt is due when either clock reaches `due`. `decided` is the instant at which `due` was set. `attempted_at`
    is the monotonic time of the last exchange. `wants_new_token` means that a changed token does not wait for `due`.
    """

    due: Instant
    decided: Instant
    failures: int = 0
    attempted_at: float | None = None
    wants_new_token: bool = False

    def is_due(self, now: Instant) -> bool:
        """
        Return whether an attempt is due.

        An attempt is also due if the wall clock was set back to before the decision.
        """
        return (
            now.monotonic >= self.due.monotonic
            or now.wall >= self.due.wall
            or now.wall < self.decided.wall - CLOCK_STEP_SECONDS
        )

    def sleep_seconds(self, now: Instant) -> float:
        """Return the time until the next check or the attempt. All roles of a daemon check at the same moment."""
        next_check = CHECK_SECONDS - now.monotonic % CHECK_SECONDS
        return max(0.0, min(next_check, self.due.monotonic - now.monotonic, self.due.wall - now.wall))


def at_start(now: Instant) -> Schedule:
    """Return the plan of a new loop: an attempt at once."""
    return Schedule(due=now, decided=now, wants_new_token=True)


def after_success(now: Instant, remaining_seconds: float, jitter: float) -> Schedule:
    """Plan a refresh well before the credentials in service expire, `remaining_seconds` from now."""
    delay = refresh_after_seconds(remaining_seconds, jitter)
    return Schedule(due=now.later(delay), decided=now, attempted_at=now.monotonic)


def after_failure(
    before: Schedule,
    now: Instant,
    next_step: NextStep,
    jitter: float,
    retry_after_seconds: float | None = None,
    *,
    remaining_seconds: float = 0.0,
) -> Schedule:
    """
    Plan the next attempt by the back-off table, and wait at least for Retry-After, up to MAX_RETRY_AFTER_SECONDS.

    `remaining_seconds` is the remaining lifetime of the credentials in service.
    """
    failures = before.failures + 1
    delay = back_off_for(next_step, remaining_seconds).delay_seconds(failures, jitter)
    if retry_after_seconds is not None:
        # STS sends the same number to every Pod, so jitter spreads the retries after that time.
        retry_after = min(max(retry_after_seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
        delay = max(delay, retry_after * (1.0 + JITTER * jitter))
    return Schedule(
        due=now.later(delay),
        decided=now,
        failures=failures,
        attempted_at=now.monotonic,
        wants_new_token=next_step in TOKEN_STEPS,
    )


def after_token_error(before: Schedule, now: Instant) -> Schedule:
    """Plan an early check for a valid token. No request was sent, so this does not count as a failure of STS."""
    return Schedule(
        due=now.later(TOKEN_POLL_SECONDS),
        decided=now,
        failures=before.failures,
        attempted_at=before.attempted_at,
        wants_new_token=True,
    )


def after_token_change(before: Schedule, now: Instant) -> Schedule:
    """Plan an attempt as soon as possible if the last token was rejected or missing. Otherwise keep the plan."""
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

    The next attempt is due at once. During an outage of STS its time does not change, because a file that changes often
    must not cancel a back-off or Retry-After. The pause after a changed token applies too. If the change interrupted an
    attempt, the next attempt comes after the same back-off as before.
    """
    earliest, back_off = now.monotonic, before.due.monotonic - before.decided.monotonic if before.failures else 0.0
    if before.attempted_at is not None:
        earliest = max(earliest, before.attempted_at + max(CHANGED_TOKEN_PAUSE_SECONDS, back_off))
    if before.failures and not before.is_due(now):
        return before
    return before._replace(due=now.later(earliest - now.monotonic), decided=now)


def refresh_after_seconds(remaining_seconds: float, jitter: float) -> float:
    """
    Return the delay of a refresh: half of the remaining lifetime, plus or minus a tenth of that.

    The delay is shorter if less than MARGIN_SECONDS would remain. A session of an hour is refreshed after 27 to 33
    minutes. The credentials then remain valid for at least 27 minutes without STS, and no SDK is in its refresh window.
    """
    delay = remaining_seconds / 2
    if remaining_seconds >= SHORTEST_WITH_MARGIN_SECONDS:
        delay = min(delay, max(remaining_seconds - MARGIN_SECONDS, remaining_seconds / 4))
    return max(SHORTEST_REFRESH_SECONDS, delay * (1.0 + JITTER * (2.0 * jitter - 1.0)))
