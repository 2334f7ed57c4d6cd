"""Read the queries of all alerts, dashboard panels and dashboard variables in k8s/monitoring."""

import json
from typing import Any

from tests.support.manifests import K8S, read

FOLDERS = {"sidecar": "monitoring", "webhook": "monitoring/webhook"}
"""The folders with the alerts and the dashboard, for the sidecar and for the webhook."""

POD_LABELS = {"namespace", "pod"}
"""The labels that a PodMonitor adds to every series."""


def rule_groups() -> dict[str, Any]:
    """Return the rule groups as Prometheus reads them."""
    return {"groups": [group for whose in FOLDERS for group in _groups(whose)]}


def alerts(whose: str) -> dict[str, str]:
    """Return the query of each alert by its name."""
    return {rule["alert"]: rule["expr"] for group in _groups(whose) for rule in group["rules"]}


def _groups(whose: str) -> list[dict[str, Any]]:
    return [group for rule in read(f"{FOLDERS[whose]}/prometheus-rule.yaml") for group in rule["spec"]["groups"]]


def dashboard(whose: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((K8S / FOLDERS[whose] / "dashboard.json").read_text())
    return found


def panels(whose: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard(whose)["panels"]
    return found


def panel_queries(whose: str) -> list[tuple[str, str]]:
    """Return each panel's title with each of its queries."""
    return [(panel["title"], target["expr"]) for panel in panels(whose) for target in panel["targets"]]


def choices(whose: str) -> list[tuple[str, str]]:
    """Return each query variable's name with its query, Grafana's `label_values(SERIES, LABEL)`."""
    variables = dashboard(whose)["templating"]["list"]
    return [(each["name"], each["definition"]) for each in variables if each["type"] == "query"]


def as_chosen(query: str) -> str:
    """Return the query that Grafana sends for all namespaces and Pods."""
    for variable, value in {"$__rate_interval": "10s", "$namespace": ".*", "$pod": ".*"}.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return query
