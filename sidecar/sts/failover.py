"""
Choose which of the operator's STS endpoints receives the next request, as pure functions.

Rules. Only endpoints of the list are used. Only consecutive outages of the active endpoint move on to the next one, and
after the last one to the first again. An error response to the request itself moves nothing, because every endpoint
would return the same. While a fallback is active, the primary endpoint is tried from time to time, and only credentials
from it make it active again. Nothing here waits or retries: schedule.py decides when an attempt is due, and a failback
that fails costs one extra request.
"""

from typing import NamedTuple

from sidecar.errors import ExchangeError, NextStep

PRIMARY = 0
"""The number of the region's own endpoint, which is first in the list."""

MAX_OUTAGES = 3
"""Consecutive outages after which the endpoint is left. One may be a lost packet. Because of the back-off, three take
some seconds, or half a minute if the endpoint does not respond."""

FAILBACK_SECONDS = 600.0
"""Time until the primary endpoint is tried again. With a session of an hour, every refresh is such a try."""

_UNREACHABLE = frozenset({"Timeout", "Unreachable", "Tls", "Proxy"})
"""Codes of an ExchangeError without a response from STS. An untrusted certificate or a rejection by a proxy may affect
a single region."""

_NOT_ACTIVE = frozenset({"OptInRequired", "RegionDisabledException"})
"""Errors that concern the region and not the request (STS API reference). From the primary region they are errors that
an operator has to fix. A fallback that returns them is skipped, because it would hold the daemon until the failback."""


class Failover(NamedTuple):
    """
    The state of the failover among `endpoints` endpoints. Each outcome of an attempt creates a new state.

    `active` is the number of the endpoint that receives requests, `outages` counts its consecutive outages, and
    `failback_at` is the monotonic time from which the primary is tried again (None while it is active).
    """

    endpoints: int
    active: int = PRIMARY
    outages: int = 0
    failback_at: float | None = None

    def endpoint_at(self, now: float) -> int:
        """Return the endpoint for a request at this monotonic time: the active one, or the primary if it is due."""
        return PRIMARY if self.failback_at is not None and now >= self.failback_at else self.active


def is_outage(error: ExchangeError, endpoint: int) -> bool:
    """
    Return whether `endpoint` is at fault: unreachable, a 5xx, or a fallback that is not active for the account.

    If a region's STS stops responding, AWS recommends to use another region (IAM User Guide, AWS STS Regions). An
    impaired region returns 5xx, or nothing. A 5xx that means throttling does not count, because a failover would only
    move a fleet's load to the next region.
    """
    if error.code in _UNREACHABLE or (endpoint != PRIMARY and error.code in _NOT_ACTIVE):
        return True
    return error.status is not None and error.status >= 500 and error.next_step is NextStep.RETRY


def after_outage(before: Failover, endpoint: int, now: float) -> Failover:
    """
    Return the state after an outage of `endpoint`.

    The active endpoint is left after MAX_OUTAGES. The outage of a primary that is not active delays the failback.
    """
    if endpoint != before.active:
        return _delay_failback(before, endpoint, now)
    if before.outages + 1 < MAX_OUTAGES:
        return before._replace(outages=before.outages + 1)
    following = (before.active + 1) % before.endpoints
    if following == PRIMARY:
        return Failover(before.endpoints)
    failback_at = before.failback_at if before.failback_at is not None else now + FAILBACK_SECONDS
    return Failover(before.endpoints, following, failback_at=failback_at)


def after_refusal(before: Failover, endpoint: int, now: float) -> Failover:
    """Return the state after `endpoint` returned an error of the request, which never changes the active endpoint."""
    return before._replace(outages=0) if endpoint == before.active else _delay_failback(before, endpoint, now)


def after_success(before: Failover, endpoint: int) -> Failover:
    """Return the state after `endpoint` returned credentials. Those of the primary make it active again."""
    if endpoint == PRIMARY:
        return Failover(before.endpoints)
    return before._replace(outages=0) if endpoint == before.active else before


def _delay_failback(before: Failover, endpoint: int, now: float) -> Failover:
    return before._replace(failback_at=now + FAILBACK_SECONDS) if endpoint == PRIMARY else before
