"""Test the responses to probes and Prometheus, with requests from the real parser."""

from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from sidecar import __version__
from sidecar.clock import Instant
from sidecar.metrics import Metrics
from sidecar.serving import admin, http
from sidecar.serving.admin import PROMETHEUS_TEXT, STALLED_SECONDS, RoleState
from sidecar.serving.container_credentials import Response

NOW = Instant(1_800_000_000.0, 5000.0)

READY = RoleState(
    role_name="default",
    is_ready=True,
    last_error=None,
    checked_at=NOW.monotonic - 1,
    credentials_expire_at=NOW.wall + 1800,
    token_expires_at=NOW.wall + 2400.5,
    skew_seconds=-0.25,
    session_seconds=43_200,
)
STARTING = READY._replace(
    role_name="reporting",
    is_ready=False,
    last_error="AccessDenied: not authorized",
    credentials_expire_at=None,
    token_expires_at=None,
    skew_seconds=None,
    session_seconds=None,
)


def get(path: str, *roles: RoleState, metrics: Metrics | None = None, dropped_lines: int = 0) -> Response:
    request = http.parse(f"GET {path} HTTP/1.1\r\nHost: 10.0.0.7:4773\r\nUser-Agent: kube-probe/1.34\r\n\r\n".encode())
    assert isinstance(request, http.Request)
    return admin.respond(request, roles, metrics or Metrics(), dropped_lines, NOW)


def headers_and_body(response: Response) -> tuple[str, str]:
    head, _, body = response.content.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert head.startswith(f"HTTP/1.1 {response.status} ".encode())
    return head.decode(), body.decode()


def body_of(response: Response) -> str:
    return headers_and_body(response)[1]


def scrape(*roles: RoleState, metrics: Metrics | None = None, dropped_lines: int = 0) -> dict[str, Metric]:
    response = get("/metrics", *roles, metrics=metrics, dropped_lines=dropped_lines)
    head, body = headers_and_body(response)
    assert f"Content-Type: {PROMETHEUS_TEXT}" in head
    families = list(text_string_to_metric_families(body))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


def values(family: Metric) -> dict[Any, float]:
    """Return the values by label value, or by a tuple of label values for several labels."""
    found = {}
    for sample in family.samples:
        labels = tuple(sample.labels.values())
        found[labels[0] if len(labels) == 1 else labels] = sample.value
    return found


# Probes


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/readyz?verbose"])
def test_healthy_daemon_is_live_and_ready(path: str) -> None:
    response = get(path, READY)
    assert (response.status, body_of(response)) == (200, "ok\n")


def test_role_without_credentials_is_live_but_not_ready() -> None:
    response = get("/readyz", READY, STARTING)
    assert (response.status, body_of(response)) == (503, "reporting: AccessDenied: not authorized\n")
    assert get("/livez", READY, STARTING).status == 200


def test_reason_defaults_to_expired_credentials() -> None:
    response = get("/readyz", READY._replace(is_ready=False))
    assert (response.status, body_of(response)) == (503, "default: the credentials have expired\n")


def test_daemon_with_a_failing_refresh_is_ready_until_expiration() -> None:
    assert get("/readyz", READY._replace(last_error="Timeout: no answer")).status == 200


@pytest.mark.parametrize(("age_seconds", "status"), [(0.0, 200), (STALLED_SECONDS, 200), (STALLED_SECONDS + 1, 503)])
def test_stuck_refresh_loop_is_not_live(age_seconds: float, status: int) -> None:
    response = get("/livez", READY._replace(checked_at=NOW.monotonic - age_seconds))
    assert response.status == status
    if status == 503:
        assert body_of(response) == "default: the refresh loop has been stuck for 301 s\n"


def test_reason_with_a_path_that_is_not_utf8_is_sent() -> None:
    path = b"/caf\xe9/token".decode("utf-8", "surrogateescape")
    response = get("/readyz", STARTING._replace(last_error=f"{path} does not exist"))
    assert response.status == 503
    assert "does not exist" in body_of(response)


def test_one_role_can_be_requested_by_name() -> None:
    states = READY, STARTING
    assert get("/readyz", *states).status == 503
    assert get("/readyz/default", *states).status == 200
    assert get("/readyz/reporting", *states).status == 503
    assert get("/readyz/other", *states).status == 404
    assert get("/readyz/", *states).status == 404


@pytest.mark.parametrize("path", ["/", "/v1/credentials", "/livez/", "/LIVEZ", "/metrics/x", "/.env"])
def test_unknown_path_gets_404_with_the_valid_paths(path: str) -> None:
    response = get(path, READY)
    assert (response.status, body_of(response)) == (404, "The paths are /livez, /readyz, /status and /metrics.\n")


def test_admin_response_is_immediate_without_credentials() -> None:
    for path in ("/livez", "/readyz", "/metrics", "/other"):
        response = get(path, STARTING)
        assert (response.snapshot, response.hold) == (None, None)


# Metrics

TYPES = {
    "irsa_sidecar_build_info": "gauge",
    "irsa_sidecar_credentials_available": "gauge",
    "irsa_sidecar_credentials_expiration_timestamp_seconds": "gauge",
    "irsa_sidecar_session_duration_seconds": "gauge",
    "irsa_sidecar_token_expiration_timestamp_seconds": "gauge",
    "irsa_sidecar_clock_skew_seconds": "gauge",
    "irsa_sidecar_refreshes": "counter",
    "irsa_sidecar_sts_request_duration_seconds": "histogram",
    "irsa_sidecar_sts_region_active": "gauge",
    "irsa_sidecar_sts_endpoint_changes": "counter",
    "irsa_sidecar_configuration_reloads": "counter",
    "irsa_sidecar_configuration_last_reload_successful": "gauge",
    "irsa_sidecar_ca_bundle_last_reload_successful": "gauge",
    "irsa_sidecar_requests": "counter",
    "irsa_sidecar_clock_steps": "counter",
    "irsa_sidecar_log_lines_dropped": "counter",
}
"""The type of each metric, by the name from the parser. The names of counters lack `_total`."""


def busy() -> Metrics:
    metrics = Metrics()
    metrics.requests = {200: 7, 403: 1}
    metrics.count_refresh("default", "success")
    metrics.count_refresh("default", "Timeout")
    metrics.sts_seconds.observe(0.3)
    metrics.clock_steps = 2
    metrics.sts_regions = {"eu-west-1": False, "eu-central-1": True}
    metrics.sts_endpoint_changes = 1
    metrics.count_reload(is_accepted=True)
    metrics.count_reload(is_accepted=False)
    metrics.is_ca_bundle_in_use = False
    return metrics


def test_every_metric_has_its_name_type_and_help() -> None:
    families = scrape(READY, metrics=busy(), dropped_lines=4)
    assert {name: family.type for name, family in families.items()} == TYPES
    assert all(family.documentation.endswith(".") for family in families.values())


def test_metric_names_follow_the_rules_of_prometheus() -> None:
    for family in admin.families([READY], busy(), 0):
        assert family.name.startswith("irsa_sidecar_")
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert not family.name.endswith(("_count", "_sum", "_bucket", "_ms", "_milliseconds", "_minutes"))
        if "duration" in family.name or "timestamp" in family.name or "skew" in family.name:
            assert family.name.endswith("_seconds")


def test_metric_values_have_the_labels_that_graphs_use() -> None:
    families = scrape(READY, STARTING, metrics=busy(), dropped_lines=4)
    assert values(families["irsa_sidecar_build_info"]) == {__version__: 1}
    assert values(families["irsa_sidecar_credentials_available"]) == {"default": 1, "reporting": 0}
    assert values(families["irsa_sidecar_refreshes"]) == {("default", "success"): 1, ("default", "Timeout"): 1}
    assert values(families["irsa_sidecar_requests"]) == {"200": 7, "403": 1}
    assert values(families["irsa_sidecar_clock_steps"]) == {(): 2}
    assert values(families["irsa_sidecar_configuration_reloads"]) == {"failure": 1, "success": 1}
    assert values(families["irsa_sidecar_configuration_last_reload_successful"]) == {(): 0}
    assert values(families["irsa_sidecar_ca_bundle_last_reload_successful"]) == {(): 0}
    assert values(families["irsa_sidecar_log_lines_dropped"]) == {(): 4}
    assert values(families["irsa_sidecar_sts_region_active"]) == {"eu-west-1": 0, "eu-central-1": 1}
    assert values(families["irsa_sidecar_sts_endpoint_changes"]) == {(): 1}
    observed = {sample.name: sample.value for sample in families["irsa_sidecar_sts_request_duration_seconds"].samples}
    assert observed["irsa_sidecar_sts_request_duration_seconds_count"] == 1
    assert observed["irsa_sidecar_sts_request_duration_seconds_sum"] == 0.3


def test_metric_with_an_unknown_value_has_no_sample() -> None:
    families = scrape(READY, STARTING)
    assert values(families["irsa_sidecar_credentials_expiration_timestamp_seconds"]) == {"default": NOW.wall + 1800}
    assert values(families["irsa_sidecar_token_expiration_timestamp_seconds"]) == {"default": NOW.wall + 2400.5}
    assert values(families["irsa_sidecar_session_duration_seconds"]) == {"default": 43_200}
    assert values(families["irsa_sidecar_clock_skew_seconds"]) == {"default": -0.25}
    assert "irsa_sidecar_clock_skew_seconds" not in scrape(STARTING)


def test_counter_without_labels_starts_at_zero() -> None:
    families = scrape(STARTING)
    assert values(families["irsa_sidecar_clock_steps"]) == {(): 0}
    assert values(families["irsa_sidecar_log_lines_dropped"]) == {(): 0}
    assert "irsa_sidecar_requests" not in families
