"""Every metric and label that an alert or a panel asks for is one that a scrape has."""

import re
from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.admin import RoleState, families
from sidecar.metrics import Metrics, exposition
from sidecar.webhook.metrics import WebhookMetrics
from tests.monitoring import POD_LABELS, alerts, panel_queries, panels

QUERIES = [*alerts().items(), *panel_queries()]

SERIES = re.compile(r"(irsa_sidecar_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")
LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@pytest.fixture(scope="module")
def of_pods() -> Mapping[str, set[str]]:
    """The labels of every series that a sidecar can have."""
    metrics = Metrics()
    metrics.requests[200] = 1
    metrics.count_refresh("default", "success")
    metrics.sts_seconds.observe(0.1)
    metrics.sts_regions["eu-west-1"] = True
    metrics.count_reload(is_taken=True)
    role = RoleState("default", True, None, 0, 1.0, 1.0, 1.0, 3600)  # noqa: FBT003
    return _labels(exposition(families([role], metrics, 0)))


@pytest.fixture(scope="module")
def scraped(of_pods: Mapping[str, set[str]]) -> Mapping[str, set[str]]:
    """And those of the webhook."""
    metrics = WebhookMetrics()
    metrics.certificate_expires_at = 1.0
    return {**of_pods, **_labels(metrics.exposition(is_ready=True, accounts=1, dropped_lines=0))}


def _labels(body: bytes) -> dict[str, set[str]]:
    samples = [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]
    return {sample.name: set(sample.labels) | POD_LABELS for sample in samples}


@pytest.mark.parametrize(("where", "query"), QUERIES)
def test_a_query_asks_for_what_a_scrape_has(scraped: Mapping[str, set[str]], where: str, query: str) -> None:
    found = SERIES.findall(query)
    assert found
    for name, matchers in found:
        assert name in scraped, where
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= scraped[name], where
    grouped = {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",")}
    assert grouped <= set.intersection(*(scraped[name] for name, _ in found)), where


def test_a_panels_legend_names_labels_that_its_query_keeps() -> None:
    for panel in panels():
        for target in panel["targets"]:
            kept = {label.strip() for labels in GROUPING.findall(target["expr"]) for label in labels.split(",")}
            assert set(LEGEND.findall(target["legendFormat"])) <= kept, panel["title"]


def test_every_metric_of_pods_is_in_a_panel(of_pods: Mapping[str, set[str]]) -> None:
    """But for what only tells how something was counted."""
    shown = {name for _, query in panel_queries() for name, _ in SERIES.findall(query)}
    unseen = {name for name in of_pods if not name.endswith(("_created", "_sum", "_count"))} - shown
    assert unseen == {"irsa_sidecar_configuration_reloads_total", "irsa_sidecar_session_duration_seconds"}


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
