"""Alerts and dashboard, evaluated by Prometheus itself: over made-up hours, and over what a real Pod tells."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.applications import pod
from tests.cluster.cluster import Cluster
from tests.cluster.definitions import OPERATOR, install
from tests.cluster.namespace import Namespace
from tests.cluster.prometheus import prometheus, rules_file
from tests.cluster.sts import ClusterSts
from tests.manifests import documents
from tests.monitoring import alerts, panel_queries

ROLE = 'namespace="shop", pod="web", role="default"'
POD = 'namespace="shop", pod="web"'
REFRESHES = f"irsa_sidecar_refreshes_total{{{ROLE}, outcome="

WEBHOOK = 'namespace="irsa-sidecar", pod="webhook-1"'
REVIEWS = f"irsa_sidecar_webhook_reviews_total{{{WEBHOOK}, outcome="
REVIEW_SECONDS = f"irsa_sidecar_webhook_review_duration_seconds_bucket{{{WEBHOOK}, le="
READY = {f"irsa_sidecar_webhook_ready{{{WEBHOOK}}}": "1x120"}

FIRING: list[tuple[str, dict[str, str], str]] = [
    ("IrsaSidecarHasNoCredentials", {f"irsa_sidecar_credentials_available{{{ROLE}}}": "0x10"}, "5m"),
    (
        "IrsaSidecarCredentialsAreRunningOut",
        {f"irsa_sidecar_credentials_expiration_timestamp_seconds{{{ROLE}}}": "3600x60"},
        "57m",
    ),
    ("IrsaSidecarRefreshFails", {f'{REFRESHES}"AccessDenied"}}': "0+1x60"}, "40m"),
    (
        "IrsaSidecarTokenIsNotRenewed",
        {f"irsa_sidecar_token_expiration_timestamp_seconds{{{ROLE}}}": "600x60"},
        "15m",
    ),
    ("IrsaSidecarClockIsWrong", {f"irsa_sidecar_clock_skew_seconds{{{ROLE}}}": "-90x60"}, "15m"),
    ("IrsaSidecarIsAskedWithoutItsSecret", {f'irsa_sidecar_requests_total{{{POD}, status="403"}}': "0+2x60"}, "30m"),
    ("IrsaSidecarConfigurationIsRefused", {f"irsa_sidecar_configuration_refused{{{POD}}}": "1x60"}, "10m"),
    ("IrsaSidecarAsksAnotherRegion", {f"irsa_sidecar_sts_endpoint_changes_total{{{POD}}}": "0x5 1x60"}, "10m"),
    ("IrsaSidecarWebhookIsNotReady", {f"irsa_sidecar_webhook_ready{{{WEBHOOK}}}": "0x10"}, "5m"),
    ("IrsaSidecarWebhookIsNotReady", {f"irsa_sidecar_webhook_ready{{{WEBHOOK}}}": "1x10 stale"}, "15m"),
    (
        "IrsaSidecarWebhookCertificateExpires",
        {f"irsa_sidecar_webhook_certificate_expiration_timestamp_seconds{{{WEBHOOK}}}": f"{7 * 86400}x60"},
        "15m",
    ),
    ("IrsaSidecarWebhookCannotAsk", {f'{REVIEWS}"failed"}}': "0+1x60"}, "10m"),
    ("IrsaSidecarWebhookRefusesPods", {f'{REVIEWS}"refused"}}': "0+1x60"}, "30m"),
    (
        "IrsaSidecarWebhookIsSlow",
        {
            f'{REVIEW_SECONDS}"1.0"}}': "0+1x60",
            f'{REVIEW_SECONDS}"5.0"}}': "0+10x60",
            f'{REVIEW_SECONDS}"+Inf"}}': "0+10x60",
        },
        "25m",
    ),
]
"""Series by the minute, in promtool's notation, and when the alert is up."""

QUIET = {
    f"irsa_sidecar_credentials_available{{{ROLE}}}": "1x120",
    # An hour's session renewed after half of it; the shortest, after half of its quarter.
    f"irsa_sidecar_credentials_expiration_timestamp_seconds{{{ROLE}}}": "3600x29 5400x29 7200x29 9000x29",
    'irsa_sidecar_credentials_expiration_timestamp_seconds{namespace="shop", pod="short", role="default"}': " ".join(
        f"{900 + 480 * n}x7" for n in range(16)
    ),
    # Throttled now and then, and through every time.
    f'{REFRESHES}"Throttling"}}': "0+1x120",
    f'{REFRESHES}"success"}}': "0x9 1x9 2x9 3x9 4x9 5x9 6x9 7x9 8x9 9x9 10x9 11x9",
    f"irsa_sidecar_token_expiration_timestamp_seconds{{{ROLE}}}": "86400x120",
    f"irsa_sidecar_clock_skew_seconds{{{ROLE}}}": "5x120",
    f'irsa_sidecar_requests_total{{{POD}, status="200"}}': "0+100x120",
    f'irsa_sidecar_requests_total{{{POD}, status="401"}}': "1x120",
    f"irsa_sidecar_configuration_refused{{{POD}}}": "0x120",
    f"irsa_sidecar_sts_endpoint_changes_total{{{POD}}}": "0x120",
    # Its other replica is replaced, and somebody has misspelt an annotation.
    'irsa_sidecar_webhook_ready{namespace="irsa-sidecar", pod="webhook-2"}': "1x30 0x2 stale",
    f"irsa_sidecar_webhook_certificate_expiration_timestamp_seconds{{{WEBHOOK}}}": f"{30 * 86400}x120",
    f'{REVIEWS}"injected"}}': "0+10x120",
    f'{REVIEWS}"refused"}}': "0x10 3x110",
    f'{REVIEWS}"failed"}}': "0x120",
    f'{REVIEW_SECONDS}"0.01"}}': "0+9.5x120",
    f'{REVIEW_SECONDS}"+Inf"}}': "0+10x120",
}
"""Two hours of Pods and a webhook that are well."""

_UP = 'count by (alertname) (ALERTS{alertstate="firing"})'


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rules_file(tmp_path_factory.mktemp("rules"))


def test_every_alert_is_tried() -> None:
    assert {alert for alert, _, _ in FIRING} == set(alerts())


@pytest.mark.parametrize(("alert", "series", "at"), FIRING)
def test_an_alert_is_up_when_it_should_be(rules: Path, alert: str, series: dict[str, str], at: str) -> None:
    up = {"expr": _UP, "eval_time": at, "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}]}
    _check(rules, series, [up])


def test_no_alert_is_ever_up_while_all_is_well(rules: Path) -> None:
    _check(rules, QUIET, [{"expr": _UP, "eval_time": f"{minute}m", "exp_samples": []} for minute in range(0, 110, 5)])


def test_the_resources_are_those_that_the_operator_defines(cluster: Cluster, namespace: Namespace) -> None:
    install(cluster, OPERATOR)
    objects = documents(cluster.kubectl("kustomize", "k8s/monitoring").stdout)
    assert {found["kind"] for found in objects} == {"ConfigMap", "PodMonitor", "PrometheusRule"}
    of_webhook = documents(cluster.kubectl("kustomize", "k8s/monitoring/webhook").stdout)
    assert {found["kind"] for found in of_webhook} == {"PodMonitor", "PrometheusRule"}
    for found in of_webhook:
        assert found["metadata"].pop("namespace") == "irsa-sidecar"  # which need not be there
    assert "Warning" not in namespace.apply(*objects, *of_webhook, dry_run=True).stderr


def test_every_panel_shows_what_a_real_pod_tells_and_no_alert_is_up(
    node: Cluster, namespace: Namespace, sts: ClusterSts, rules: Path, tmp_path: Path
) -> None:
    namespace.apply(pod("pod/example.yaml", "web", sts, app="tell(who_am_i())\nuntil_told_to_stop()"))
    namespace.logged("web", "app", "arn:aws")
    address = namespace.pod("web")["status"]["podIP"]
    labels = {"namespace": namespace.name, "pod": "web"}
    with prometheus(node, rules, tmp_path, f"{address}:4773", labels) as server:
        server.wait_for("count_over_time(irsa_sidecar_build_info[1m]) > 5")
        empty = [title for title, query in panel_queries() if not server.query(_as_chosen(query))]
        assert empty == ["Roles without credentials"]
        assert server.query('ALERTS{alertstate="firing"}') == []


def _as_chosen(query: str) -> str:
    """What Grafana makes of it, for all namespaces and Pods."""
    for variable, value in {"$__rate_interval": "10s", "$namespace": ".*", "$pod": ".*"}.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return query


def _check(rules: Path, series: dict[str, str], expected: list[dict[str, Any]]) -> None:
    """Promtool's own unit test of rules: `expected` are queries with their results."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in (READY | series).items()],
        "promql_expr_test": expected,
    }
    document = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}
    path = rules.parent / "test.yaml"
    path.write_text(yaml.safe_dump(document))
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
