"""Test alerts and dashboards with a real Prometheus: with invented series, and with the metrics of a real Pod."""

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
from tests.support.manifests import documents
from tests.support.monitoring import FOLDERS, alerts, as_chosen, panel_queries

ROLE = 'namespace="shop", pod="web", role="default"'
POD = 'namespace="shop", pod="web"'
REFRESHES = f"irsa_sidecar_refreshes_total{{{ROLE}, outcome="

WEBHOOK = 'namespace="irsa-sidecar", pod="webhook-1"'
BEGINS_AT = f"irsa_sidecar_webhook_certificate_not_before_timestamp_seconds{{{WEBHOOK}}}"
EXPIRES_AT = f"irsa_sidecar_webhook_certificate_expiration_timestamp_seconds{{{WEBHOOK}}}"
REVIEWS = f"irsa_sidecar_webhook_reviews_total{{{WEBHOOK}, outcome="
REVIEW_SECONDS = f"irsa_sidecar_webhook_review_duration_seconds_bucket{{{WEBHOOK}, le="
READY = {f"irsa_sidecar_webhook_ready{{{WEBHOOK}}}": "1x120"}

FIRING: list[tuple[str, dict[str, str], str]] = [
    ("IrsaSidecarHasNoCredentials", {f"irsa_sidecar_credentials_available{{{ROLE}}}": "0x10"}, "5m"),
    (
        "IrsaSidecarCredentialsExpireSoon",
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
    ("IrsaSidecarRequestsDenied", {f'irsa_sidecar_requests_total{{{POD}, status="403"}}': "0+2x60"}, "30m"),
    (
        "IrsaSidecarConfigurationReloadFailed",
        {f"irsa_sidecar_configuration_last_reload_successful{{{POD}}}": "0x60"},
        "10m",
    ),
    ("IrsaSidecarStsRegionChanged", {f"irsa_sidecar_sts_endpoint_changes_total{{{POD}}}": "0x5 1x60"}, "10m"),
    ("IrsaSidecarWebhookIsNotReady", {f"irsa_sidecar_webhook_ready{{{WEBHOOK}}}": "0x10"}, "5m"),
    ("IrsaSidecarWebhookIsNotReady", {f"irsa_sidecar_webhook_ready{{{WEBHOOK}}}": "1x10 stale"}, "15m"),
    ("IrsaSidecarWebhookLookupsFail", {f'{REVIEWS}"failed"}}': "0+1x60"}, "10m"),
    ("IrsaSidecarWebhookDeniesPods", {f'{REVIEWS}"denied"}}': "0+1x60"}, "30m"),
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
"""
The test data of each alert that is not about certificates.
The data has series by minute in promtool's notation, and a minute when the alert is active.
"""

QUIET = {
    f"irsa_sidecar_credentials_available{{{ROLE}}}": "1x120",
    # A session of one hour that is renewed at half of its lifetime, and the shortest session, renewed at half of 15
    # minutes.
    f"irsa_sidecar_credentials_expiration_timestamp_seconds{{{ROLE}}}": "3600x29 5400x29 7200x29 9000x29",
    'irsa_sidecar_credentials_expiration_timestamp_seconds{namespace="shop", pod="short", role="default"}': " ".join(
        f"{900 + 480 * n}x7" for n in range(16)
    ),
    # STS throttles the Pod every minute, but every tenth minute a refresh succeeds.
    f'{REFRESHES}"Throttling"}}': "0+1x120",
    f'{REFRESHES}"success"}}': "0x9 1x9 2x9 3x9 4x9 5x9 6x9 7x9 8x9 9x9 10x9 11x9",
    f"irsa_sidecar_token_expiration_timestamp_seconds{{{ROLE}}}": "86400x120",
    f"irsa_sidecar_clock_skew_seconds{{{ROLE}}}": "5x120",
    f'irsa_sidecar_requests_total{{{POD}, status="200"}}': "0+100x120",
    f'irsa_sidecar_requests_total{{{POD}, status="401"}}': "1x120",
    f"irsa_sidecar_configuration_last_reload_successful{{{POD}}}": "1x120",
    f"irsa_sidecar_sts_endpoint_changes_total{{{POD}}}": "0x120",
    # The other replica is replaced, and one annotation has a typing error.
    'irsa_sidecar_webhook_ready{namespace="irsa-sidecar", pod="webhook-2"}': "1x30 0x2 stale",
    BEGINS_AT: "0x120",
    EXPIRES_AT: f"{90 * 86400}x120",
    f'{REVIEWS}"injected"}}': "0+10x120",
    f'{REVIEWS}"denied"}}': "0x10 3x110",
    f'{REVIEWS}"failed"}}': "0x120",
    f'{REVIEW_SECONDS}"0.01"}}': "0+9.5x120",
    f'{REVIEW_SECONDS}"+Inf"}}': "0+10x120",
}
"""The series of healthy Pods and a healthy webhook for two hours."""

LIVES = [1, 48, 90 * 24, 365 * 24]
"""The lifetimes of certificates in hours: cert-manager's minimum, and longer lifetimes."""

OF_CERTIFICATES = {"IrsaSidecarWebhookCertificateIsNotRenewed": 0.25, "IrsaSidecarWebhookCertificateExpiresSoon": 0.1}
"""The alerts about certificates, each with the share of the lifetime that is left when the alert fires."""

_UP = 'count by (alertname) (ALERTS{alertstate="firing"})'


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rules_file(tmp_path_factory.mktemp("rules"))


def test_every_alert_is_covered() -> None:
    assert {alert for alert, _, _ in FIRING} | set(OF_CERTIFICATES) == {
        each for whose in FOLDERS for each in alerts(whose)
    }


@pytest.mark.parametrize(("alert", "series", "at"), FIRING)
def test_alert_fires_when_its_condition_is_true(rules: Path, alert: str, series: dict[str, str], at: str) -> None:
    up = {"expr": _UP, "eval_time": at, "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}]}
    _check(rules, series, [up])


def test_no_alert_fires_for_healthy_series(rules: Path) -> None:
    _check(rules, QUIET, [{"expr": _UP, "eval_time": f"{minute}m", "exp_samples": []} for minute in range(0, 110, 5)])


@pytest.mark.parametrize("hours", LIVES)
def test_certificate_renewed_in_time_fires_no_alert(rules: Path, hours: int) -> None:
    """Renew at two thirds of the lifetime, one hour after the start. Use the new certificate two minutes later."""
    life = hours * 3600
    begins_at, renewed_at = 3600 - life * 2 // 3, 3600
    series = {
        BEGINS_AT: f"{begins_at}x61 {renewed_at}x20",
        EXPIRES_AT: f"{begins_at + life}x61 {renewed_at + life}x20",
    }
    _check(rules, series, [{"expr": _UP, "eval_time": f"{minute}m", "exp_samples": []} for minute in range(82)])


@pytest.mark.parametrize("hours", LIVES)
@pytest.mark.parametrize(("alert", "share"), OF_CERTIFICATES.items())
def test_alert_fires_when_little_certificate_lifetime_is_left(
    rules: Path, alert: str, share: float, hours: int
) -> None:
    """Let the share fall to the limit one hour after the start of the series."""
    life = hours * 3600
    expires_at = 3600 + round(life * share)
    series = {BEGINS_AT: f"{expires_at - life}x120", EXPIRES_AT: f"{expires_at}x120"}
    this = f'count by (alertname) (ALERTS{{alertstate="firing", alertname="{alert}"}})'
    up = [{"labels": f'{{alertname="{alert}"}}', "value": 1}]
    expected = [(60, []), (63, up), (115, up)]
    _check(rules, series, [{"expr": this, "eval_time": f"{at}m", "exp_samples": found} for at, found in expected])


def test_monitoring_resources_match_the_operators_definitions(cluster: Cluster, namespace: Namespace) -> None:
    install(cluster, OPERATOR)
    objects = documents(cluster.kubectl("kustomize", "k8s/monitoring").stdout)
    assert {found["kind"] for found in objects} == {"ConfigMap", "PodMonitor", "PrometheusRule"}
    of_webhook = documents(cluster.kubectl("kustomize", "k8s/monitoring/webhook").stdout)
    assert {found["kind"] for found in of_webhook} == {"ConfigMap", "PodMonitor", "PrometheusRule"}
    for found in of_webhook:
        assert found["metadata"].pop("namespace") == "irsa-sidecar"  # the dry run uses the test's namespace
    assert "Warning" not in namespace.apply(*objects, *of_webhook, dry_run=True).stderr


def test_every_panel_shows_metrics_of_a_real_pod(
    node: Cluster, namespace: Namespace, sts: ClusterSts, rules: Path, tmp_path: Path
) -> None:
    namespace.apply(pod("pod/example.yaml", "web", sts, app="report(who_am_i())\nuntil_stopped()"))
    namespace.logged("web", "app", "arn:aws")
    address = namespace.pod("web")["status"]["podIP"]
    pods = {f"{address}:4773": {"namespace": namespace.name, "pod": "web"}}
    with prometheus(node, rules, tmp_path, pods) as server:
        server.wait_for("count_over_time(irsa_sidecar_build_info[1m]) > 5")
        empty = [title for title, query in panel_queries("sidecar") if not server.query(as_chosen(query))]
        assert empty == ["Roles without credentials"]
        assert server.query('ALERTS{alertstate="firing"}') == []


def _check(rules: Path, series: dict[str, str], expected: list[dict[str, Any]]) -> None:
    """Run promtool's unit test for rules. `expected` has queries and their results."""
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
