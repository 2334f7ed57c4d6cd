"""
Collect the state of a daemon, and respond to requests for /status and for the page on `/`.

Rule: `run` imports this module at the first such request, so it costs nothing in a Pod without these requests.
"""

from typing import TYPE_CHECKING

from sidecar import __version__
from sidecar.clock import Instant
from sidecar.serving import http, status
from sidecar.serving.admin import STALLED_SECONDS
from sidecar.serving.audit import Usage
from sidecar.serving.container_credentials import Response
from sidecar.serving.hosts import Hosts, is_accepted
from sidecar.serving.http import Request

if TYPE_CHECKING:  # only types
    from sidecar.daemon.daemon import Daemon
    from sidecar.daemon.served_roles import ServedRole
    from sidecar.refresh.refresher import Health

STARTING_CODE = "Starting"
"""The code of `Health` before the end of the first attempt."""

STUCK_CODE = "Stuck"
"""The code of a role whose loop has not run for STALLED_SECONDS."""

TEXT = "text/plain; charset=utf-8"

HEADERS = (("X-Content-Type-Options", "nosniff"),)


def respond(request: Request, daemon: "Daemon", now: Instant, hosts: Hosts | None = None) -> Response:
    """
    Return the response to a request for /status or the page. With `hosts`, the Host header must name one of them.

    Browsers on the machine of `local` send another name if an attacker's name resolves to loopback (DNS rebinding).
    """
    if hosts is not None and not is_accepted(request.headers.get(b"host"), hosts):
        return Response(403, http.response(403, b"The Host header does not name this listener.\n", content_type=TEXT))
    found = status_of(daemon, now)
    if request.path == b"/status":
        return _response(f"{status.as_json(found)}\n", "application/json")
    from sidecar.serving import status_page  # noqa: PLC0415  few people ask for the page, and commands poll /status

    if status_page.wants_html(request.headers.get(b"accept")):
        return _response(status_page.as_html(found), "text/html; charset=utf-8", *status_page.HTML_HEADERS)
    return _response(status_page.as_text(found), TEXT)


def _response(text: str, content_type: str, *headers: tuple[str, str]) -> Response:
    content = http.response(200, text.encode(), content_type=content_type, headers=(*HEADERS, *headers))
    return Response(200, content)


def status_of(daemon: "Daemon", now: Instant) -> status.DaemonStatus:
    return status.DaemonStatus(
        version=__version__,
        now=now.wall,
        uptime_seconds=now.monotonic - daemon.started_at,
        roles=tuple(_role(served, daemon.usage.get(served.role_name) or Usage(), now) for served in daemon.roles),
    )


def _role(served: "ServedRole", usage: Usage, now: Instant) -> status.RoleStatus:
    health, error = served.refresher.health, _error(served.refresher.health, now)
    is_valid = served.valid_snapshot(now) is not None
    return status.RoleStatus(
        name=served.role_name,
        role_arn=served.role_arn,
        state=status.state_of(is_valid=is_valid, error=error, is_starting=health.last_error_code == STARTING_CODE),
        expires_in_seconds=None if served.snapshot is None else _seconds_until(served.snapshot.expires, now),
        next_refresh_in_seconds=max(0.0, _seconds_until(served.refresher.progress.schedule.due, now)),
        session_seconds=health.session_seconds,
        token_expires_in_seconds=None if health.token_expires_at is None else health.token_expires_at - now.wall,
        clock_skew_seconds=health.skew_seconds,
        last_call=_last_call(health, now),
        error=error,
        served=usage.served,
        clients=tuple(
            status.Client(uid, seen.pid, now.monotonic - seen.served_at) for uid, seen in usage.newest_clients()
        ),
    )


def _seconds_until(instant: Instant, now: Instant) -> float:
    """Return the seconds until the first of the two clocks reaches the instant."""
    return min(instant.wall - now.wall, instant.monotonic - now.monotonic)


def _error(health: "Health", now: Instant) -> status.Failure | None:
    if (seconds := now.monotonic - health.checked_at) > STALLED_SECONDS:
        return status.Failure(STUCK_CODE, f"the refresh loop has been stuck for {seconds:.0f} s", needs_person=False)
    if health.last_error is None or health.last_error_code in {None, STARTING_CODE}:
        return None
    code, message = (status.without_access_keys(text) for text in (str(health.last_error_code), health.last_error))
    return status.Failure(code, message, health.needs_person)


def _last_call(health: "Health", now: Instant) -> status.LastCall | None:
    call = health.last_call
    if call is None:
        return None
    return status.LastCall(
        status.without_access_keys(call.code), call.http_status, now.monotonic - call.ended_at, call.seconds
    )
