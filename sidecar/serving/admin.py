"""
What the admin address answers: probes and metrics, never credentials. Pure, like endpoint.py.

`/livez` asks whether the loops still turn, `/readyz` whether every role has living credentials, `/readyz/NAME` whether
that one has, with the reason where not, `/metrics` everything worth a graph.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sidecar import __version__
from sidecar.clock import Instant
from sidecar.metrics import Family, Metrics, Sample, exposition, histogram_family
from sidecar.serving import http
from sidecar.serving.container_credentials import Answer
from sidecar.serving.http import Request

STALLED_SECONDS = 300.0
"""
A turn is an exchange with two regions at most: 20 s, or 220 s with the longest chain. Far beyond that, and the loop is
stuck in a way that a restart mends.
"""

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


_READY_OF = b"/readyz/"


class RoleState(NamedTuple):
    """One role as seen from outside. Instants are Unix seconds, `looked_at` is monotonic."""

    role: str
    is_ready: bool
    trouble: str | None
    looked_at: float
    credentials_expire_at: float | None
    token_expires_at: float | None
    skew_seconds: float | None
    session_seconds: float | None
    session_token_bytes: float | None = None
    session_token_utilization: float | None = None


def answer(request: Request, roles: Iterable[RoleState], metrics: Metrics, dropped_lines: int, now: Instant) -> Answer:
    """Decide one request to the admin address."""
    states = list(roles)
    if request.path == b"/livez":
        return _probe([f"{s.role}: the refresh loop has not turned for {now.monotonic - s.looked_at:.0f} s"
                       for s in states if now.monotonic - s.looked_at > STALLED_SECONDS])  # fmt: skip
    if request.path == b"/readyz":
        return _ready(states)
    if request.path.startswith(_READY_OF):
        name = request.path.removeprefix(_READY_OF).decode("ascii")
        one = [s for s in states if s.role == name]
        return _ready(one) if one else _text(404, b"There is no role of that name.\n")
    if request.path == b"/metrics":
        return _text(200, exposition(families(states, metrics, dropped_lines)), PROMETHEUS_TEXT)
    return _text(404, b"Here are /livez, /readyz and /metrics.\n")


def _ready(states: Iterable[RoleState]) -> Answer:
    return _probe([f"{s.role}: {s.trouble or 'the credentials have expired'}" for s in states if not s.is_ready])


def families(states: list[RoleState], metrics: Metrics, dropped_lines: int) -> list[Family]:
    """Every metric there is, with the values of now."""
    return [
        Family("irsa_sidecar_build_info", "gauge", "The version that runs, as a label.",
               [Sample({"version": __version__}, 1)]),
        Family("irsa_sidecar_credentials_available", "gauge", "1 while the role has living credentials, else 0.",
               [Sample({"role": s.role}, int(s.is_ready)) for s in states]),
        Family("irsa_sidecar_credentials_expiration_timestamp_seconds", "gauge",
               "When the role's credentials expire, in Unix time.",
               _gauge(states, "credentials_expire_at")),
        Family("irsa_sidecar_session_duration_seconds", "gauge",
               "How long a session STS was asked for and gave last; with the duration max, the longest found so far.",
               _gauge(states, "session_seconds")),
        Family("irsa_sidecar_session_token_bytes", "gauge", "Size of the session token in service.",
               _gauge(states, "session_token_bytes")),
        Family("irsa_sidecar_session_token_utilization_ratio", "gauge",
               "Used share of the session token's maximum size; absent if STS does not report it.",
               _gauge(states, "session_token_utilization")),
        Family("irsa_sidecar_token_expiration_timestamp_seconds", "gauge",
               "When the service account token expires, by its own claim, in Unix time.",
               _gauge(states, "token_expires_at")),
        Family("irsa_sidecar_clock_skew_seconds", "gauge",
               "How far STS's clock is ahead of this machine's, seen in its last answer.",
               _gauge(states, "skew_seconds")),
        Family("irsa_sidecar_refreshes_total", "counter",
               "Attempts to get new credentials: success, the error code, or token_ and what ails the token.",
               [Sample({"role": role, "outcome": outcome}, count)
                for (role, outcome), count in sorted(metrics.refreshes.items())]),
        histogram_family("irsa_sidecar_sts_request_duration_seconds", "How long exchanges with STS took.",
                         metrics.sts_seconds),
        Family("irsa_sidecar_sts_region_in_use", "gauge", "1 for the region whose STS is asked, else 0.",
               [Sample({"region": region}, int(in_use)) for region, in_use in metrics.sts_regions.items()]),
        Family("irsa_sidecar_sts_endpoint_changes_total", "counter",
               "Times another region's STS was turned to, the returns to the first included.",
               [Sample({}, metrics.sts_endpoint_changes)]),
        Family("irsa_sidecar_configuration_reloads_total", "counter",
               "Times the file of roles was read again, by outcome.",
               [Sample({"outcome": outcome}, count) for outcome, count in sorted(metrics.reloads.items())]),
        Family("irsa_sidecar_configuration_refused", "gauge",
               "1 while the file of roles cannot be taken as it is, and the configuration before it stays; else 0.",
               [Sample({}, int(metrics.is_configuration_refused))]),
        Family("irsa_sidecar_ca_bundle_last_reload_successful", "gauge",
               "0 while AWS_CA_BUNDLE cannot be read and the earlier authorities stay in use; else 1.",
               [] if metrics.is_ca_bundle_in_use is None else [Sample({}, int(metrics.is_ca_bundle_in_use))]),
        Family("irsa_sidecar_requests_total", "counter", "Requests to the credentials endpoint, by HTTP status.",
               _by_status(metrics.requests)),
        Family("irsa_sidecar_imds_requests_total", "counter",
               "Requests in the form of EC2's metadata service, by HTTP status.",
               _by_status(metrics.imds_requests)),
        Family("irsa_sidecar_credentials_file_writes_total", "counter",
               "Times the credentials file was to be replaced, by outcome.",
               [Sample({"outcome": outcome}, count)
                for outcome, count in sorted(metrics.credentials_file_writes.items())]),
        Family("irsa_sidecar_state_writes_total", "counter",
               "Files written or removed in the state directory, by outcome: done or failed.",
               [Sample({"outcome": outcome}, count) for outcome, count in sorted(metrics.state_writes.items())]),
        Family("irsa_sidecar_task_failures_total", "counter",
               "Times a background task raised an unforeseen exception and was started again. Report it as a bug.",
               [Sample({"task": task}, count) for task, count in sorted(metrics.task_failures.items())]),
        Family("irsa_sidecar_clock_steps_total", "counter",
               "Times the wall clock moved against the monotonic one: it was set, or the machine slept.",
               [Sample({}, metrics.clock_steps)]),
        Family("irsa_sidecar_log_lines_dropped_total", "counter", "Log lines that stderr did not take in time.",
               [Sample({}, dropped_lines)]),
    ]  # fmt: skip


def _by_status(counts: Mapping[int, int]) -> list[Sample]:
    return [Sample({"status": str(status)}, count) for status, count in sorted(counts.items())]


def _gauge(states: list[RoleState], field: str) -> list[Sample]:
    """A sample for each role whose value is known; none says more than a made-up zero."""
    values = ((state.role, getattr(state, field)) for state in states)
    return [Sample({"role": role}, value) for role, value in values if value is not None]


def _probe(failures: list[str]) -> Answer:
    # A path from the environment need not be UTF-8, and may be named in a reason.
    reasons = "\n".join(failures).encode("utf-8", "backslashreplace")
    return _text(503 if failures else 200, (reasons or b"ok") + b"\n")


def _text(status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> Answer:
    return Answer(status, http.response(status, body, content_type=content_type))
