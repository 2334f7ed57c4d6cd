"""The queries of k8s/monitoring: of every alert and of every panel."""

import json
from typing import Any

from tests.manifests import K8S, read

RULES = ["monitoring/prometheus-rule.yaml", "monitoring/webhook/prometheus-rule.yaml"]

POD_LABELS = {"namespace", "pod"}
"""What a scrape by the PodMonitor adds to every series."""


def rule_groups() -> dict[str, Any]:
    """As Prometheus itself reads rules."""
    rules = [rule for file in RULES for rule in read(file)]
    return {"groups": [group for rule in rules for group in rule["spec"]["groups"]]}


def alerts() -> dict[str, str]:
    """By the alert's name, its query."""
    return {rule["alert"]: rule["expr"] for group in rule_groups()["groups"] for rule in group["rules"]}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((K8S / "monitoring" / "dashboard.json").read_text())["panels"]
    return found


def panel_queries() -> list[tuple[str, str]]:
    """Each panel's title with each of its queries."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
