"""Check that every metric and label in an alert or a panel exists in a scrape."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.metrics import Metrics, exposition
from sidecar.serving.admin import RoleState, families
from sidecar.webhook.certificate.issue import Validity
from sidecar.webhook.metrics import WebhookMetrics
from tests.support.manifests import K8S
from tests.support.monitoring import FOLDERS, POD_LABELS, alerts, choices, dashboard, panel_queries, panels

QUERIES = [
    (whose, where, query)
    for whose in FOLDERS
    for where, query in [*alerts(whose).items(), *panel_queries(whose), *choices(whose)]
]

SERIES = re.compile(r"(irsa_sidecar_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
OFFERED = re.compile(r"label_values\(.*, (\w+)\)$")
LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")

Scraped = Mapping[str, Mapping[str, set[str]]]
"""The labels of each series that a scrape can return, for the sidecar and for the webhook."""


@pytest.fixture(scope="module")
def scraped() -> Scraped:
    return {"sidecar": _labels(_of_a_pod()), "webhook": _labels(_of_the_webhook())}


def _of_a_pod() -> bytes:
    metrics = Metrics()
    metrics.requests[200] = 1
    metrics.count_refresh("default", "success")
    metrics.sts_seconds.observe(0.1)
    metrics.sts_regions["eu-west-1"] = True
    metrics.count_reload(is_accepted=True)
    role = RoleState("default", True, None, 0, 1.0, 1.0, 1.0, 3600)  # noqa: FBT003
    return exposition(families([role], metrics, 0))


def _of_the_webhook() -> bytes:
    metrics = WebhookMetrics()
    metrics.certificate = Validity(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
    return metrics.exposition(is_ready=True, is_watching=True, accounts=1, dropped_lines=0, closed={})


def _labels(body: bytes) -> dict[str, set[str]]:
    samples = [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]
    return {sample.name: set(sample.labels) | POD_LABELS for sample in samples}


@pytest.mark.parametrize(("whose", "where", "query"), QUERIES)
def test_query_uses_only_scraped_metrics_and_labels(scraped: Scraped, whose: str, where: str, query: str) -> None:
    found = SERIES.findall(query)
    assert found
    there = scraped[whose]
    for name, matchers in found:
        assert name in there, where
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= there[name], where
    assert (_kept(query) | set(OFFERED.findall(query))) <= set.intersection(*(there[name] for name, _ in found)), where


def test_every_rule_and_every_dashboard_is_checked() -> None:
    for name in ("prometheus-rule.yaml", "dashboard.json"):
        found = {str(path.parent.relative_to(K8S)) for path in (K8S / "monitoring").rglob(name)}
        assert found == set(FOLDERS.values())
    assert len({dashboard(whose)["uid"] for whose in FOLDERS}) == len(FOLDERS)


@pytest.mark.parametrize("whose", FOLDERS)
def test_panel_legend_uses_only_labels_of_its_query(whose: str) -> None:
    for panel in panels(whose):
        for target in panel["targets"]:
            assert set(LEGEND.findall(target["legendFormat"])) <= _kept(target["expr"]), panel["title"]


def _kept(query: str) -> set[str]:
    return {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",")}


@pytest.mark.parametrize(
    ("whose", "unseen"),
    [
        ("sidecar", {"irsa_sidecar_configuration_reloads_total", "irsa_sidecar_session_duration_seconds"}),
        ("webhook", set()),
    ],
)
def test_every_metric_is_in_a_panel(scraped: Scraped, whose: str, unseen: set[str]) -> None:
    """Exclude the metrics in `unseen`, and the series that the client library adds to a metric."""
    shown = {name for _, query in panel_queries(whose) for name, _ in SERIES.findall(query)}
    told = {name for name in scraped[whose] if not name.endswith(("_created", "_sum", "_count"))}
    assert told - shown == unseen


@pytest.mark.parametrize("whose", FOLDERS)
def test_panels_of_a_dashboard_do_not_overlap(whose: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(whose):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
