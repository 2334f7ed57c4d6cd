"""
Format a report as metrics in Prometheus' text format, for the textfile collector or a Pushgateway. Pure.

Rule: labels hold only rules, severities and kinds of objects, so the number of series does not grow with the cluster.
"""

from collections import Counter
from collections.abc import Iterator

from sidecar.audit.judge import AuditReport
from sidecar.audit.rules.all import RULES

PREFIX = "irsa_sidecar_audit"


def as_prometheus(report: AuditReport) -> str:
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: AuditReport) -> Iterator[str]:
    counts = Counter(finding.rule for finding in report.findings)
    yield from _header("findings", "Findings of the last audit that are neither accepted nor in the baseline.")
    for rule in RULES:
        yield f'{PREFIX}_findings{{rule="{rule.id}",severity="{rule.severity.value}"}} {counts[rule.id]}'
    yield from _header("accepted_findings", "Findings of the last audit that a person accepted.")
    yield f"{PREFIX}_accepted_findings {len(report.accepted)}"
    yield from _header("objects", "Objects that the last audit read, by kind.")
    for kind, total in report.totals._asdict().items():
        yield f'{PREFIX}_objects{{kind="{kind}"}} {total}'
    yield from _header("sts_calls_per_day", "Estimated calls to STS of all Pods per day.")
    yield f"{PREFIX}_sts_calls_per_day {sum(each.calls_per_day for each in report.calls)}"
    yield from _header("timestamp_seconds", "Time of the last audit, in Unix seconds.")
    yield f"{PREFIX}_timestamp_seconds {report.read_at:.0f}"


def _header(name: str, text: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}_{name} {text}"
    yield f"# TYPE {PREFIX}_{name} gauge"
