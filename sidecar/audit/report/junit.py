"""
Format a report as JUnit XML: one test suite for each rule, and one failed test case for each finding. Pure.

The schema is the one of Jenkins' xunit plugin, which most CI systems read.
"""

import re
from xml.sax.saxutils import escape, quoteattr

from sidecar.audit.finding import Finding, Rule
from sidecar.audit.judge import AuditReport
from sidecar.audit.report.texts import link
from sidecar.audit.rules.all import RULES
from sidecar.printable import printable

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Pattern for the characters that XML 1.0 does not allow (section 2.2)."""


def as_junit(report: AuditReport) -> str:
    by_rule: dict[str, list[Finding]] = {}
    for finding in report.findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    suites = "".join(_suite(rule, by_rule.get(rule.id, [])) for rule in RULES)
    total = len(report.findings)
    tests = total + sum(rule.id not in by_rule for rule in RULES)
    header = f'<testsuites name="irsa-sidecar audit" tests="{tests}" failures="{total}">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{header}\n{suites}</testsuites>\n'


def _suite(rule: Rule, findings: list[Finding]) -> str:
    cases = "".join(_case(finding) for finding in findings)
    if not findings:
        cases = f"    <testcase classname={_attribute(rule.id)} name={_attribute(rule.title)}/>\n"
    tests = max(len(findings), 1)
    header = f'<testsuite name={_attribute(rule.id)} tests="{tests}" failures="{len(findings)}">'
    return f"  {header}\n{cases}  </testsuite>\n"


def _case(finding: Finding) -> str:
    name = f"    <testcase classname={_attribute(finding.rule)} name={_attribute(str(finding.subject))}>\n"
    text = f"{finding.next_step}. See {link(finding.rule)}"
    failure = f"      <failure type={_attribute(finding.severity.value)} message={_attribute(finding.problem)}>"
    return f"{name}{failure}{escape(_legal(text))}</failure>\n    </testcase>\n"


def _attribute(text: str) -> str:
    return quoteattr(_legal(text))


def _legal(text: str) -> str:
    return _NOT_XML.sub("\ufffd", printable(text))
