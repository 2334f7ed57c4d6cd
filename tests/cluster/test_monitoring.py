"""Alerts and dashboard, evaluated by Prometheus itself: over made-up hours, and over what a real Pod tells."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.applications import pod
from tests.cluster.cluster import Cluster, Done
from tests.cluster.namespace import Namespace
from tests.cluster.sts import ClusterSts
from tests.manifests import documents
from tests.monitoring import alerts, panel_queries, rule_groups
from tests.processes import GUARD_SECONDS

OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
"""A Go module whose folder holds the operator's resource definitions."""

ROLE = 'namespace="shop", pod="web", role="default"'
POD = 'namespace="shop", pod="web"'
REFRESHES = f"irsa_sidecar_refreshes_total{{{ROLE}, outcome="

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
}
"""Two hours of Pods that are well."""

_UP = 'count by (alertname) (ALERTS{alertstate="firing"})'


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("promtool") is None:
        pytest.fail("promtool is missing: apt-get install prometheus")
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(rule_groups()))
    return path


def test_every_alert_is_tried() -> None:
    assert {alert for alert, _, _ in FIRING} == set(alerts())


@pytest.mark.parametrize(("alert", "series", "at"), FIRING)
def test_an_alert_is_up_when_it_should_be(rules: Path, alert: str, series: dict[str, str], at: str) -> None:
    up = {"expr": _UP, "eval_time": at, "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}]}
    _check(rules, series, [up])


def test_no_alert_is_ever_up_while_all_is_well(rules: Path) -> None:
    _check(rules, QUIET, [{"expr": _UP, "eval_time": f"{minute}m", "exp_samples": []} for minute in range(0, 110, 5)])


def test_the_resources_are_those_that_the_operator_defines(cluster: Cluster, namespace: Namespace) -> None:
    downloaded = subprocess.run(
        ["go", "mod", "download", "-json", OPERATOR], capture_output=True, text=True, check=True
    )
    definitions = Path(json.loads(downloaded.stdout)["Dir"], "example", "prometheus-operator-crd")
    for kind in ("podmonitors", "prometheusrules"):
        file = definitions / f"monitoring.coreos.com_{kind}.yaml"
        cluster.kubectl("apply", "--server-side", f"--filename={file}")
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{kind}.monitoring.coreos.com")
    objects = documents(cluster.kubectl("kustomize", "k8s/monitoring").stdout)
    assert {found["kind"] for found in objects} == {"ConfigMap", "PodMonitor", "PrometheusRule"}
    assert "Warning" not in namespace.apply(*objects, dry_run=True).stderr


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


class Prometheus:
    """A server that scrapes one Pod each second."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self._promtool = [*cluster.inside(), "promtool", "query", "instant", "--format=json", url]

    def query(self, expression: str) -> list[Any]:
        """What it is now. Raises AssertionError for what is no query."""
        done = self._run(expression)
        assert done.returncode == 0, f"{expression}: {done.stderr}"
        found: list[Any] = json.loads(done.stdout)
        return found

    def wait_for(self, expression: str) -> None:
        deadline = time.monotonic() + GUARD_SECONDS
        while True:
            done = self._run(expression)
            if done.returncode == 0 and json.loads(done.stdout):
                return
            assert time.monotonic() < deadline, f"never: {expression}\n{done.stderr}"
            time.sleep(0.5)

    def _run(self, expression: str) -> Done:
        return subprocess.run([*self._promtool, expression], capture_output=True, text=True, check=False)


@contextmanager
def prometheus(
    cluster: Cluster, rules: Path, folder: Path, target: str, labels: dict[str, str]
) -> Iterator[Prometheus]:
    address = "127.0.0.1:9090"
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "pods", "static_configs": [{"targets": [target], "labels": labels}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    flags = [f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    command = [*cluster.inside(), "prometheus", *flags, f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Prometheus(cluster, f"http://{address}")
    finally:
        server.terminate()
        server.wait(GUARD_SECONDS)


def _check(rules: Path, series: dict[str, str], expected: list[dict[str, Any]]) -> None:
    """Promtool's own unit test of rules: `expected` are queries with their results."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": expected,
    }
    document = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}
    path = rules.parent / "test.yaml"
    path.write_text(yaml.safe_dump(document))
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
