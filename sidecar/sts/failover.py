"""
Which of the STS endpoints that the operator listed is asked next, as pure functions.

Rules. The list is never left. Only outages of the endpoint in use, in a row, turn to the next, and round again after
the last; a refusal of the request is STS's answer and would be the same elsewhere. While another endpoint is in use,
the first is tried again from time to time, and only credentials from it bring it back. Nothing here waits or retries:
each attempt is one that schedule.py made due, and a return that fails costs one request more.
"""

from typing import NamedTuple

from sidecar.errors import ExchangeError, NextStep

FIRST = 0
"""The region's own endpoint: the list is numbered from it."""

OUTAGES_TO_LEAVE = 3
"""One is a lost packet and two are bad luck; by the back-off, three span some seconds, or half a minute of silence."""

RETURN_SECONDS = 600.0
"""How long the first endpoint is left alone. With a session of an hour, the next refresh is a try to return."""

_OUT_OF_REACH = frozenset({"Timeout", "Unreachable", "Tls", "Proxy"})
"""STS did not answer (errors.ExchangeError). A certificate that is not trusted may be one region's alone, as a proxy's
refusal may."""

_NOT_ACTIVE = frozenset({"OptInRequired", "RegionDisabledException"})
"""Refusals that are about the region and not the request (STS API reference). In the first region they stay refusals,
which somebody must mend; a fallback that says so is passed by, or it would hold the daemon until the next return."""


class Failover(NamedTuple):
    """
    Where things stand with `endpoints` endpoints. Each attempt's outcome makes a new one out of the one before.

    `in_use` is the number of the endpoint that is asked, `outages` its outages in a row, `return_at` the monotonic
    time from which the first is tried again (None while it is in use).
    """

    endpoints: int
    in_use: int = FIRST
    outages: int = 0
    return_at: float | None = None

    def endpoint_at(self, now: float) -> int:
        """The endpoint to ask at this monotonic time: the one in use, or the first when it is time to try it again."""
        return FIRST if self.return_at is not None and now >= self.return_at else self.in_use


def is_outage(error: ExchangeError, asked: int) -> bool:
    """
    Whether endpoint `asked` is at fault: out of reach, answering 5xx, or a fallback that is not active for the account.

    AWS's advice for a region's STS that stops responding is another region's (IAM User Guide, AWS STS Regions), and an
    impaired one shows as 5xx as well as by silence. A 5xx that means throttling does not count: it would only move a
    fleet's load along.
    """
    if error.code in _OUT_OF_REACH or (asked != FIRST and error.code in _NOT_ACTIVE):
        return True
    return error.status is not None and error.status >= 500 and error.next_step is NextStep.RETRY


def after_outage(before: Failover, asked: int, now: float) -> Failover:
    """`asked` is out. Leave it if it is in use and this was one too many; if it was to be returned to, try later."""
    if asked != before.in_use:
        return _return_later(before, asked, now)
    if before.outages + 1 < OUTAGES_TO_LEAVE:
        return before._replace(outages=before.outages + 1)
    following = (before.in_use + 1) % before.endpoints
    if following == FIRST:
        return Failover(before.endpoints)
    since = before.return_at if before.return_at is not None else now + RETURN_SECONDS
    return Failover(before.endpoints, following, return_at=since)


def after_refusal(before: Failover, asked: int, now: float) -> Failover:
    """`asked` answered, and gave no credentials. That never moves anything."""
    return before._replace(outages=0) if asked == before.in_use else _return_later(before, asked, now)


def after_success(before: Failover, asked: int) -> Failover:
    """`asked` gave credentials: the first is thereby back in use."""
    if asked == FIRST:
        return Failover(before.endpoints)
    return before._replace(outages=0) if asked == before.in_use else before


def _return_later(before: Failover, asked: int, now: float) -> Failover:
    return before._replace(return_at=now + RETURN_SECONDS) if asked == FIRST else before
