"""Write docs/reference/alerts.md, with every alert in k8s/monitoring."""

import re

from tests.docs.reference import markdown
from tests.docs.reference.alert_rules import Alert, alerts
from tests.docs.reference.markdown import bullets, code, fenced, section, sentences, table

RUNBOOKS = "runbooks.md"

_INTRODUCTION = """
The rules are in [k8s/monitoring/prometheus-rule.yaml](../../k8s/monitoring/prometheus-rule.yaml) for the daemon, and in
[k8s/monitoring/webhook/prometheus-rule.yaml](../../k8s/monitoring/webhook/prometheus-rule.yaml) for the webhook.
Both are objects of the Prometheus Operator.
[Metrics](metrics.md) describes the metrics in the expressions.
"""

_SEVERITIES = (
    ("`critical`", "Applications have no credentials or Pods cannot start, now or soon. Act now."),
    ("`warning`", "One client or workload has a problem, or credentials could expire later. Act today."),
    ("`info`", "A change that can explain other alerts."),
)

_TEMPLATE = re.compile(r"\{\{ *(?:\$labels\.)?(?P<name>\$?\w+)(?: *\|[^}]*)? *\}\}")


def page() -> str:
    rules = list(alerts())
    return markdown.page(
        "Alerts",
        "This page lists every alert of irsa-sidecar, with its expression, its severity and its meaning.",
        sentences(_INTRODUCTION),
        section(2, "Severities", table(("severity", "meaning"), _SEVERITIES)),
        section(2, "All alerts", table(("alert", "severity", "fires after"), map(_row, rules))),
        section(2, "The daemon", *(_section(rule) for rule in rules if rule.whose == "sidecar")),
        section(2, "The webhook", *(_section(rule) for rule in rules if rule.whose == "webhook")),
    )


def _row(rule: Alert) -> tuple[str, str, str]:
    return f"[{rule.name}](#{rule.name.lower()})", code(rule.severity), _pending(rule)


def _pending(rule: Alert) -> str:
    """Return the alert's waiting time in words."""
    if rule.pending == "0s":
        return "0 minutes"
    minutes = int(rule.pending.removesuffix("m"))
    return f"{minutes} minute{'s' if minutes > 1 else ''}"


def _section(rule: Alert) -> str:
    facts = (
        ("Severity", code(rule.severity)),
        ("Fires after", _pending(rule)),
        ("Runbook", _runbook(rule)),
    )
    return section(
        3,
        rule.name,
        sentences(_filled(rule.summary)),
        sentences(_filled(rule.description)),
        bullets(facts),
        fenced(rule.expression, "promql"),
    )


def _filled(text: str) -> str:
    """Return the template with the name of each label in capitals, such as `POD`, instead of the label's value."""
    return _TEMPLATE.sub(lambda match: code(match["name"].lstrip("$").upper()), text)


def _runbook(rule: Alert) -> str:
    """Return a link to the runbook in the rule's annotation."""
    address, _, anchor = rule.runbook_url.partition("#")
    return f"[{rule.name}](../{RUNBOOKS}#{anchor})" if "/runbooks" in address else ""
