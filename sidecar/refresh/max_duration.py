"""
How long a session to ask for where the longest that the role allows is wanted (`duration: max`), as pure functions.

STS does not tell a role's limit; it only refuses what is beyond. Rules. The first credentials cost two calls at most,
as an hour is always allowed. Then the limit is searched for by one try a refresh, and a try that is refused costs that
refresh one call more and nothing else. What was learned holds until STS says otherwise, and once a day it is asked
whether it still does.
"""

from typing import NamedTuple

SURE_SECONDS = 3600
"""No role's limit is below an hour (IAM API reference, MaxSessionDuration)."""

HOURS = (12, 4, 8, 2, 6, 10, 3, 5, 7, 9, 11)
"""
What is tried, the first that can still be: a bisection that begins at the lengths that IAM's console offers, as a role
has one of them nearly always. At most four tries lead to any limit; limits between whole hours are rounded down.
"""

RECHECK_SECONDS = 86_400.0
"""After this long the shortest refused is asked for once more: a limit that was raised is above it."""


class Longest(NamedTuple):
    """
    What is known of a role's limit. Each answer makes a new one out of the one before.

    `granted_seconds` is the longest session that STS gave, `refused_seconds` the shortest that it refused, and
    `refused_at` the monotonic time of that.
    """

    granted_seconds: int | None = None
    refused_seconds: int | None = None
    refused_at: float = 0.0

    @property
    def surest_seconds(self) -> int:
        """What is known to be granted."""
        return self.granted_seconds or SURE_SECONDS

    def seconds_to_ask(self, now: float) -> int:
        """The next try, as long as there is one, and from then on what is known to be granted."""
        granted, refused = self.granted_seconds or 0, self.refused_seconds
        if refused is not None:
            if not granted:
                return SURE_SECONDS
            if now - self.refused_at >= RECHECK_SECONDS:
                return refused
        tries = (3600 * hours for hours in HOURS)
        return next((s for s in tries if granted < s and (refused is None or s < refused)), self.surest_seconds)


def after_grant(before: Longest, seconds: int) -> Longest:
    """STS gave a session of `seconds`."""
    if before.refused_seconds is not None and before.refused_seconds <= seconds:
        return Longest(seconds)
    return Longest(seconds, before.refused_seconds, before.refused_at)


def after_refusal(before: Longest, seconds: int, now: float) -> Longest:
    """A session of `seconds` is longer than the role allows."""
    still = before.granted_seconds is not None and before.granted_seconds < seconds
    return Longest(before.granted_seconds if still else None, seconds, now)
