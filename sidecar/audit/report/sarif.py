"""
Format a report as SARIF 2.1.0 (OASIS standard). Pure.

Code scanners need a file for each result, and the objects of an audit have none. So each object's name is a logical
location. An artificial file name is its physical location, because GitHub rejects a result without a file name.
"""

import hashlib
import json
from typing import Any
from urllib.parse import quote

from sidecar import __version__
from sidecar.audit.finding import Finding, Rule
from sidecar.audit.judge import AuditReport
from sidecar.audit.report.texts import link
from sidecar.audit.rules.all import RULES
from sidecar.errors import sentences
from sidecar.printable import printable, printable_json

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"


def as_sarif(report: AuditReport) -> str:
    used = {finding.rule for finding in (*report.findings, *report.accepted, *report.known)}
    driver = {
        "name": "irsa-sidecar audit",
        "version": __version__,
        "rules": [_rule(rule) for rule in RULES if rule.id in used],
    }
    results = [_result(each) for each in report.findings]
    results += [_result(each) | {"baselineState": "unchanged"} for each in report.known]
    results += [_result(each) | {"suppressions": [{"kind": "external"}]} for each in report.accepted]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return printable_json(json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2))


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": sentences(rule.title)},
        "fullDescription": {"text": rule.reason},
        "helpUri": link(rule.id),
        "defaultConfiguration": {"level": rule.severity.value},
    }


def _result(finding: Finding) -> dict[str, Any]:
    subject = finding.subject
    name = printable(f"{subject.namespace}/{subject.name}" if subject.namespace else subject.name)
    parts = (subject.kind, subject.namespace, subject.name)
    uri = "/".join(quote(part, safe="", errors="backslashreplace") for part in parts if part)
    location = {
        "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}},
        "logicalLocations": [{"name": printable(subject.name), "fullyQualifiedName": name, "kind": "object"}],
    }
    return {
        "ruleId": finding.rule,
        "level": finding.severity.value,
        "message": {"text": printable(f"{subject}: {sentences(finding.problem, finding.next_step)}")},
        "locations": [location],
        "partialFingerprints": {
            "irsaSidecar/v1": hashlib.sha256(finding.fingerprint.encode(errors="backslashreplace")).hexdigest()
        },
    }
