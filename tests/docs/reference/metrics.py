"""Write docs/reference/metrics.md: every metric of the daemon and of the webhook."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from sidecar.metrics import Metrics, exposition
from sidecar.serving.admin import RoleState, families
from sidecar.webhook.certificate.issue import Validity
from sidecar.webhook.metrics import WebhookMetrics
from tests.docs.reference import markdown
from tests.docs.reference.alert_rules import Alert, alerts
from tests.docs.reference.markdown import bullets, code, codes, marked, section, sentences, table
from tests.docs.reference.metric_notes import LABELS, USES

_UNITS = (
    ("_timestamp_seconds", "Unix time, in seconds"),
    ("_seconds", "seconds"),
    ("_bytes", "bytes"),
    ("_ratio", "a share from 0 to 1"),
    ("_total", "a count since the start of the process"),
)

_INTRODUCTION = """
`GET /metrics` returns the text format of Prometheus 0.0.4.
The daemon serves this text on its admin address, port 4773, and the webhook serves it on port 8080.
[Alerts](alerts.md) has the rules that use these metrics.

A sample is missing while its value is unknown.
A labelled counter of the daemon has no sample until it counts for the first time.
"""

_IN_BOTH = "The webhook also has `irsa_sidecar_log_lines_dropped_total`."


class Metric(NamedTuple):
    """One metric as Prometheus scrapes it."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]

    @property
    def unit(self) -> str:
        return next((unit for suffix, unit in _UNITS if self.name.endswith(suffix)), "")


def page() -> str:
    rules, daemon = list(alerts()), of_the_daemon()
    webhook = [metric for metric in of_the_webhook() if metric not in daemon]
    return markdown.page(
        "Metrics",
        "This page lists every metric of the irsa-sidecar daemon and webhook.",
        sentences(_INTRODUCTION),
        section(2, "The daemon", _overview(daemon), *(_section(each, rules) for each in daemon)),
        section(2, "The webhook", _IN_BOTH, _overview(webhook), *(_section(each, rules) for each in webhook)),
        section(2, "Labels", table(("label", "meaning"), ((code(name), text) for name, text in LABELS.items()))),
    )


def of_the_daemon() -> list[Metric]:
    """Return the metrics of a daemon in which every kind of event has happened."""
    metrics = Metrics()
    metrics.requests[200] = metrics.imds_requests[200] = 1
    metrics.count_refresh("default", "success")
    metrics.sts_regions["eu-west-1"] = True
    metrics.count_reload(is_accepted=True)
    metrics.is_ca_bundle_in_use = True
    metrics.count_credentials_file(is_successful=True)
    metrics.count_state_write(is_successful=True)
    metrics.count_task_failure("state")
    role = RoleState("default", True, None, 0, 1.0, 1.0, 1.0, 3600, 1.0, 0.5)  # noqa: FBT003
    return _scraped(exposition(families([role], metrics, 0)))


def of_the_webhook() -> list[Metric]:
    """Return the metrics of a webhook that has a certificate."""
    metrics = WebhookMetrics()
    metrics.certificate = Validity(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
    return _scraped(metrics.exposition(is_ready=True, is_watching=True, accounts=1, dropped_lines=0, closed={}))


def _scraped(body: bytes) -> list[Metric]:
    found = []
    for family in text_string_to_metric_families(body.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels)
        found.append(Metric(name, family.type, family.documentation, tuple(labels)))
    return found


def _overview(metrics: Sequence[Metric]) -> str:
    return table(("metric", "type", "labels"), map(_row, metrics))


def _row(metric: Metric) -> tuple[str, str, str]:
    return f"[{code(metric.name)}](#{metric.name})", metric.kind, codes(metric.labels) or "none"


def _section(metric: Metric, rules: Sequence[Alert]) -> str:
    links = ", ".join(f"[{rule.name}](alerts.md#{rule.name.lower()})" for rule in rules if metric.name in rule.metrics)
    facts = (
        ("Type", metric.kind),
        ("Unit", metric.unit),
        ("Labels", codes(metric.labels)),
        ("Use", marked(USES[metric.name])),
        ("Alerts", links),
    )
    return section(3, code(metric.name), sentences(metric.help), bullets(facts))
