"""
Choose the STS endpoint that receives the next request, as pure functions.

Rules. Only the endpoints in the operator's list are used. After MAX_OUTAGES consecutive outages of the active endpoint,
the next endpoint in the list becomes active; the first one follows the last. An error response to the request itself
changes nothing, because every endpoint would return the same error. While a fallback is active, the daemon tries the
primary endpoint at intervals. Such a try makes the primary active again only if it returns credentials. Nothing here
waits or retries: schedule.py decides when an attempt is due. A failed failback causes one extra request.
"""

from typing import NamedTuple

from sidecar.errors import ExchangeError, NextStep

PRIMARY = 0
"""Index of the region's own endpoint, which is first in the list."""

MAX_OUTAGES = 3
"""Number of consecutive outages after which the next endpoint becomes active. A single outage may be a lost packet.
With the back-off, three outages take some seconds, or half a minute if the endpoint does not respond."""

FAILBACK_SECONDS = 600.0
"""Interval between attempts at the primary endpoint. With sessions of an hour, each refresh tries the primary."""

_UNREACHABLE = frozenset({"Timeout", "Unreachable", "Tls", "Proxy"})
"""ExchangeError codes that mean that STS did not respond. An untrusted certificate or a rejection by a proxy may affect
a single region."""

_NOT_ACTIVE = frozenset({"OptInRequired", "RegionDisabledException"})
"""Error codes of a region that is not active for the account (STS API reference). In the primary region, an operator
has to fix the error. Such a code from a fallback counts as an outage. Otherwise the daemon would call the
fallback until the failback."""


class Failover(NamedTuple):
    """
    The state of the failover among `endpoints` endpoints. Each outcome of an attempt creates a new state.

    `active` is the number of the endpoint that receives requests, and `outages` counts its consecutive outages. From
    the monotonic time `failback_at` on, the primary is tried again. `failback_at` is None while the primary is active.
    """

    endpoints: int
    active: int = PRIMARY
    outages: int = 0
    failback_at: float | None = None

    def endpoint_at(self, now: float) -> int:
        """Return the endpoint for a request at this monotonic time: the active one, or the primary for a failback."""
        return PRIMARY if self.failback_at is not None and now >= self.failback_at else self.active


def is_outage(error: ExchangeError, endpoint: int) -> bool:
    """
    Return whether `endpoint` is at fault: unreachable, a 5xx, or a fallback that is not active for the account.

    If a region's STS stops responding, AWS recommends using another region (IAM User Guide, AWS STS Regions). An
    impaired region returns 5xx, or nothing. A 5xx that means throttling does not count, because a failover would only
    move a fleet's load to the next region.
    """
    if error.code in _UNREACHABLE or (endpoint != PRIMARY and error.code in _NOT_ACTIVE):
        return True
    return error.status is not None and error.status >= 500 and error.next_step is NextStep.RETRY


def after_outage(before: Failover, endpoint: int, now: float) -> Failover:
    """
    Return the state after an outage of `endpoint`.

    After MAX_OUTAGES the next endpoint becomes active. An outage of an inactive primary delays the failback.
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
    """Return the state after `endpoint` rejected the request, which never changes the active endpoint."""
    return before._replace(outages=0) if endpoint == before.active else _delay_failback(before, endpoint, now)


def after_success(before: Failover, endpoint: int) -> Failover:
    """Return the state after `endpoint` returned credentials. If it is the primary, it becomes active again."""
    if endpoint == PRIMARY:
        return Failover(before.endpoints)
    return before._replace(outages=0) if endpoint == before.active else before


def _delay_failback(before: Failover, endpoint: int, now: float) -> Failover:
    return before._replace(failback_at=now + FAILBACK_SECONDS) if endpoint == PRIMARY else before
