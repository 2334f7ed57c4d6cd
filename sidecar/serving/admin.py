"""
Decide the responses of the admin listener, which serves probes and metrics but no credentials. Pure.

`families` has the name and the help text of each metric.

`/livez` reports whether every role's loop still runs. `/readyz` reports whether every role has valid credentials, and
`/readyz/NAME` reports the same for one role. If not, the response contains the reason. `/metrics` returns all metrics.
daemon/status.py responds to `/status`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sidecar import __version__
from sidecar.clock import Instant
from sidecar.metrics import Family, Metrics, Sample, exposition, histogram_family
from sidecar.serving import http
from sidecar.serving.container_credentials import Response
from sidecar.serving.http import Request

STALLED_SECONDS = 300.0
"""
Time without a turn after which a loop counts as stuck, so that the kubelet restarts the container.

One turn of a loop calls at most two regions, which takes 20 s, or 220 s with the longest chain.
"""

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_READY_PREFIX = b"/readyz/"


class RoleState(NamedTuple):
    """
    The state of one role.

    `checked_at` is the monotonic time of the loop's last turn. The other instants are in Unix seconds.
    """

    role_name: str
    is_ready: bool
    last_error: str | None
    checked_at: float
    credentials_expire_at: float | None
    token_expires_at: float | None
    skew_seconds: float | None
    session_seconds: float | None
    session_token_bytes: float | None = None
    session_token_utilization: float | None = None


def respond(
    request: Request, roles: Iterable[RoleState], metrics: Metrics, dropped_lines: int, now: Instant
) -> Response:
    """Return the response to one request to the admin listener."""
    states = list(roles)
    if request.path == b"/livez":
        return _probe([f"{s.role_name}: the refresh loop has been stuck for {now.monotonic - s.checked_at:.0f} s"
                       for s in states if now.monotonic - s.checked_at > STALLED_SECONDS])  # fmt: skip
    if request.path == b"/readyz":
        return _ready(states)
    if request.path.startswith(_READY_PREFIX):
        name = request.path.removeprefix(_READY_PREFIX).decode("ascii")
        one = [s for s in states if s.role_name == name]
        return _ready(one) if one else _text(404, b"No role has this name.\n")
    if request.path == b"/metrics":
        return _text(200, exposition(families(states, metrics, dropped_lines)), PROMETHEUS_TEXT)
    return _text(404, b"The paths are /livez, /readyz, /status and /metrics.\n")


def _ready(states: Iterable[RoleState]) -> Response:
    return _probe(
        [f"{s.role_name}: {s.last_error or 'the credentials have expired'}" for s in states if not s.is_ready]
    )


def families(states: list[RoleState], metrics: Metrics, dropped_lines: int) -> list[Family]:
    """Return every metric with its current value."""
    return [
        Family("irsa_sidecar_build_info", "gauge", "The running version, as a label.",
               [Sample({"version": __version__}, 1)]),
        Family("irsa_sidecar_credentials_available", "gauge", "1 while the role has valid credentials, else 0.",
               [Sample({"role": s.role_name}, int(s.is_ready)) for s in states]),
        Family("irsa_sidecar_credentials_expiration_timestamp_seconds", "gauge",
               "The time when the role's credentials expire, in Unix time.",
               _gauge(states, "credentials_expire_at")),
        Family("irsa_sidecar_session_duration_seconds", "gauge",
               "Duration of the last session that STS granted. With IRSA_SIDECAR_DURATION=max, this is the "
               "longest session so far.",
               _gauge(states, "session_seconds")),
        Family("irsa_sidecar_session_token_bytes", "gauge", "Size of the session token that is served.",
               _gauge(states, "session_token_bytes")),
        Family("irsa_sidecar_session_token_utilization_ratio", "gauge",
               "Used share of the session token's maximum size. STS does not always report it.",
               _gauge(states, "session_token_utilization")),
        Family("irsa_sidecar_token_expiration_timestamp_seconds", "gauge",
               "The time when the service account token expires, by its exp claim, in Unix time.",
               _gauge(states, "token_expires_at")),
        Family("irsa_sidecar_clock_skew_seconds", "gauge",
               "Seconds by which the clock of STS is ahead of this machine's clock, from the last response of STS.",
               _gauge(states, "skew_seconds")),
        Family("irsa_sidecar_refreshes_total", "counter",
               "Attempts to get new credentials, by outcome: success, the code of an error, or token_NAME for a "
               "problem with the token.",
               [Sample({"role": role, "outcome": outcome}, count)
                for (role, outcome), count in sorted(metrics.refreshes.items())]),
        histogram_family("irsa_sidecar_sts_request_duration_seconds", "Duration of exchanges with STS.",
                         metrics.sts_seconds),
        Family("irsa_sidecar_sts_region_active", "gauge", "1 for the region whose STS the daemon calls, else 0.",
               [Sample({"region": region}, int(is_active)) for region, is_active in metrics.sts_regions.items()]),
        Family("irsa_sidecar_sts_endpoint_changes_total", "counter",
               "Switches to the STS of another region, including the returns to the first region.",
               [Sample({}, metrics.sts_endpoint_changes)]),
        Family("irsa_sidecar_configuration_reloads_total", "counter",
               "Reloads of the roles file, by outcome: success or failure.",
               [Sample({"outcome": outcome}, count) for outcome, count in sorted(metrics.reloads.items())]),
        Family("irsa_sidecar_configuration_last_reload_successful", "gauge",
               "0 while the roles file cannot be used and the previous configuration stays active, else 1.",
               [Sample({}, int(metrics.is_configuration_current))]),
        Family("irsa_sidecar_ca_bundle_last_reload_successful", "gauge",
               "0 while AWS_CA_BUNDLE cannot be read and the previous authorities stay active, else 1.",
               [] if metrics.is_ca_bundle_in_use is None else [Sample({}, int(metrics.is_ca_bundle_in_use))]),
        Family("irsa_sidecar_requests_total", "counter", "Requests to the credentials endpoint, by HTTP status.",
               _by_status(metrics.requests)),
        Family("irsa_sidecar_imds_requests_total", "counter",
               "Requests to the endpoint that emulates the EC2 metadata service, by HTTP status.",
               _by_status(metrics.imds_requests)),
        Family("irsa_sidecar_credentials_file_writes_total", "counter",
               "Attempts to replace the credentials file, by outcome: success or failure.",
               [Sample({"outcome": outcome}, count)
                for outcome, count in sorted(metrics.credentials_file_writes.items())]),
        Family("irsa_sidecar_state_writes_total", "counter",
               "Attempts to write or remove a file in the state directory, by outcome: success or failure.",
               [Sample({"outcome": outcome}, count) for outcome, count in sorted(metrics.state_writes.items())]),
        Family("irsa_sidecar_task_failures_total", "counter",
               "Restarts of a background task after an unexpected exception. Report the exception as a bug.",
               [Sample({"task": task}, count) for task, count in sorted(metrics.task_failures.items())]),
        Family("irsa_sidecar_clock_steps_total", "counter",
               "Jumps of the wall clock, because somebody set it or the machine slept.",
               [Sample({}, metrics.clock_steps)]),
        Family("irsa_sidecar_log_lines_dropped_total", "counter",
               "Log lines that were dropped because stderr did not accept them at once.",
               [Sample({}, dropped_lines)]),
    ]  # fmt: skip


def _by_status(counts: Mapping[int, int]) -> list[Sample]:
    return [Sample({"status": str(status)}, count) for status, count in sorted(counts.items())]


def _gauge(states: list[RoleState], field: str) -> list[Sample]:
    """Return a sample for each role whose value is known, because a missing sample is clearer than a false zero."""
    values = ((state.role_name, getattr(state, field)) for state in states)
    return [Sample({"role": role_name}, value) for role_name, value in values if value is not None]


def _probe(failures: list[str]) -> Response:
    # A reason may contain a path from the environment, which is not always UTF-8.
    reasons = "\n".join(failures).encode("utf-8", "backslashreplace")
    return _text(503 if failures else 200, (reasons or b"ok") + b"\n")


def _text(status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> Response:
    return Response(status, http.response(status, body, content_type=content_type))
