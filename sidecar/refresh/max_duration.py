"""
Find the longest session that a role allows (`duration: max`), as pure functions.

STS does not publish a role's limit; it only rejects durations above the limit. Rules. The first credentials take at
most two calls, because an hour is always allowed. Each later refresh tries one duration until the limit is found. A
rejected try has no effect on that refresh except one extra call. The found limit is used until STS contradicts it. Once
a day, one call checks whether the limit was raised.
"""

from typing import NamedTuple

ALWAYS_ALLOWED_SECONDS = 3600
"""Duration in seconds that every role allows: an hour (IAM API reference, MaxSessionDuration)."""

HOURS = (12, 4, 8, 2, 6, 10, 3, 5, 7, 9, 11)
"""
Durations to try in this order, in hours. Durations that are already excluded are skipped.

The order is a bisection that starts with the durations in IAM's console, because nearly every role has one of them. At
most five tries find any limit. A limit between whole hours is rounded down.
"""

RECHECK_SECONDS = 86_400.0
"""Time after which the shortest rejected duration is requested again, because the limit may have been raised."""


class MaxDuration(NamedTuple):
    """
    The known bounds of a role's limit.

    `granted_seconds` is the longest duration that STS granted. `refused_seconds` is the shortest duration that STS
    rejected, and `refused_at` is the monotonic time of that rejection.
    """

    granted_seconds: int | None = None
    refused_seconds: int | None = None
    refused_at: float = 0.0

    @property
    def known_seconds(self) -> int:
        """Return the longest duration that STS is known to grant."""
        return self.granted_seconds or ALWAYS_ALLOWED_SECONDS

    def seconds_to_request(self, now: float) -> int:
        """Return the next duration to try, or the longest known one if the limit is found."""
        granted, refused = self.granted_seconds or 0, self.refused_seconds
        if refused is not None:
            if not granted:
                return ALWAYS_ALLOWED_SECONDS
            if now - self.refused_at >= RECHECK_SECONDS:
                return refused
        tries = (3600 * hours for hours in HOURS)
        return next((s for s in tries if granted < s and (refused is None or s < refused)), self.known_seconds)


def after_grant(before: MaxDuration, seconds: int) -> MaxDuration:
    """Return the bounds after STS granted a session of `seconds`."""
    if before.refused_seconds is not None and before.refused_seconds <= seconds:
        return MaxDuration(seconds)
    return MaxDuration(seconds, before.refused_seconds, before.refused_at)


def after_refusal(before: MaxDuration, seconds: int, now: float) -> MaxDuration:
    """Return the bounds after STS rejected a session of `seconds` because the role allows less."""
    is_grant_valid = before.granted_seconds is not None and before.granted_seconds < seconds
    return MaxDuration(before.granted_seconds if is_grant_valid else None, seconds, now)
