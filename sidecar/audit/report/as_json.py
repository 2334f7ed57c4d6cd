"""Format a report as one JSON document, which is also the input of --baseline. Pure."""

import json
from typing import Any

from sidecar.audit.accepted import Acceptance
from sidecar.audit.finding import SEVERITIES, Finding
from sidecar.audit.judge import AuditReport
from sidecar.audit.report.texts import link
from sidecar.clock import instant_text
from sidecar.printable import printable_json

SCHEMA_VERSION = 1
"""Version of the document. It increases when a name is removed or changes its meaning, not when a name is added."""


def as_json(report: AuditReport) -> str:
    document = {
        "version": SCHEMA_VERSION,
        "context": report.context,
        "account": report.account_id,
        "issuer": report.issuer,
        "read_at": instant_text(report.read_at),
        "totals": report.totals._asdict(),
        "counts": {severity.value: report.total(severity) for severity in SEVERITIES},
        "findings": [_finding(each) for each in report.findings],
        "known": [_finding(each) for each in report.known],
        "accepted": [_finding(each) for each in report.accepted],
        "unused_acceptances": [_acceptance(each) for each in report.unused],
        "ended_acceptances": [_acceptance(each) for each in report.ended],
        "unread": list(report.unread),
        "sts_calls": [{**each._asdict(), "share_of_quota": each.share_of_quota} for each in report.calls],
    }
    return printable_json(json.dumps(document, indent=2))


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "fingerprint": finding.fingerprint,
        "rule": finding.rule,
        "severity": finding.severity.value,
        "subject": finding.subject._asdict(),
        "problem": finding.problem,
        "next_step": finding.next_step,
        "link": link(finding.rule),
    }


def _acceptance(acceptance: Acceptance) -> dict[str, Any]:
    return {"rule": acceptance.rule, "subject": acceptance.subject, "line": acceptance.line}
