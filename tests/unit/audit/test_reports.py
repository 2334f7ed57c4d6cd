"""Test each format of the report: its content, and that hostile names stay text."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from sidecar.audit.accepted import Acceptance, read_baseline
from sidecar.audit.finding import SEVERITIES, Severity
from sidecar.audit.inventory import Inventory
from sidecar.audit.judge import AuditReport, judge
from sidecar.audit.relations import Options
from sidecar.audit.report.as_json import as_json
from sidecar.audit.report.graph import graph_of
from sidecar.audit.report.html import as_html
from sidecar.audit.report.junit import as_junit
from sidecar.audit.report.prometheus import as_prometheus
from sidecar.audit.report.sarif import as_sarif
from sidecar.audit.report.text import as_text
from sidecar.audit.rules.all import RULES
from sidecar.printable import printable
from tests.unit.audit.conftest import inventory_of
from tests.unit.audit.documents import NOW, role, role_arn, service_account, sidecar_pod, statement
from tests.unit.audit.sarif_schema import SARIF_PARTS
from tests.unit.audit.world import Case, Parts

HOSTILE = (
    "<script>alert(1)</script>",
    "a\u202eevil",
    "\x1b[31mred",
    "x" * 10_240,
    "quote\"'&<>",
    "line\nbreak",
    "\ud800",
)
"""Names that a cluster's users could choose, if the API server did not check them."""


def hostile_inventory() -> Inventory:
    cases = []
    for name in HOSTILE:
        objects = (service_account(name, role=role_arn(name)), sidecar_pod(name, role_arn("former")))
        cases.append(Case(name, frozenset(), Parts(objects, (role(name, statement(None)),))))
    return inventory_of(cases)


@pytest.fixture(scope="module")
def report(world: Inventory) -> AuditReport:
    return judge(world, NOW.timestamp(), Options())


@pytest.fixture(scope="module")
def hostile() -> AuditReport:
    return judge(hostile_inventory(), NOW.timestamp(), Options())


# Text


def test_text_lists_each_rule_with_its_link_and_next_step(report: AuditReport) -> None:
    text = as_text(report, width=100, colours=False)
    for rule in {finding.rule for finding in report.findings}:
        assert f" {rule}: " in text
        assert f"audit-rules.html#{rule.replace('.', '')}" in text
    assert text.count("next: ") == len(report.findings)


def test_text_fits_the_width(report: AuditReport) -> None:
    lines = as_text(report, width=80, colours=False).splitlines()
    table = lines.index("Estimated calls to STS per day, now and with the longest sessions:")
    # A line is longer than the width only because of one name that must not be split.
    assert not [line for line in lines[1:table] if len(line) > 80 and " " in line.removeprefix("  see ").strip()]


def test_text_cuts_long_lists_without_verbose(report: AuditReport) -> None:
    many = report._replace(findings=report.findings[:1] * 50)
    assert "and 30 more (--verbose lists them)" in as_text(many, width=100, colours=False)
    assert "more (--verbose" not in as_text(many, width=100, colours=False, is_verbose=True)


def test_text_states_that_there_are_no_findings(report: AuditReport) -> None:
    clean = report._replace(findings=(), known=(), accepted=(), calls=())
    assert "Findings: none" in as_text(clean, width=100, colours=False)


def test_text_escapes_hostile_names(hostile: AuditReport) -> None:
    text = as_text(hostile, width=100, colours=False, is_verbose=True)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\u202eevil" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_text_escapes_the_names_in_the_summary(report: AuditReport, name: str) -> None:
    """A saved inventory can come from somebody else."""
    text = as_text(report._replace(context=name, account_id=name), width=100, colours=False)
    assert printable(name) in text
    assert name.isprintable() or name not in text


@pytest.mark.parametrize("instant", [1e300, -1e300, 1e15, -1e15, 0.0])
def test_any_instant_can_be_reported(report: AuditReport, world: Inventory, instant: float) -> None:
    changed = report._replace(read_at=instant)
    assert "read at" in as_text(changed, width=100, colours=False)
    assert all(
        [as_html(changed, world), as_json(changed), as_junit(changed), as_prometheus(changed), as_sarif(changed)]
    )


# JSON


def test_json_report_is_a_baseline(report: AuditReport, world: Inventory) -> None:
    baseline = read_baseline(as_json(report).encode(), "last.json")
    again = judge(world, NOW.timestamp(), Options(), baseline=baseline)
    assert again.findings == ()
    assert len(again.known) == len(report.findings)


def test_json_counts_findings_by_severity(report: AuditReport) -> None:
    document = json.loads(as_json(report))
    assert sum(document["counts"].values()) == len(document["findings"]) == len(report.findings)
    assert set(document["counts"]) == {"error", "warning", "note"}


def test_json_of_hostile_names_is_ascii(hostile: AuditReport) -> None:
    assert as_json(hostile).isascii()


# SARIF


@pytest.mark.parametrize("name", ["report", "hostile"])
def test_sarif_has_the_required_properties(name: str, request: pytest.FixtureRequest) -> None:
    document = json.loads(as_sarif(request.getfixturevalue(name)))
    jsonschema.validate(document, SARIF_PARTS)
    run = document["runs"][0]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run["results"]} == rules


def test_sarif_marks_known_and_accepted_findings(report: AuditReport) -> None:
    first, second, *others = report.findings
    changed = report._replace(findings=tuple(others), known=(first,), accepted=(second,))
    results = json.loads(as_sarif(changed))["runs"][0]["results"]
    assert next(result for result in results if "suppressions" in result)["ruleId"] == second.rule
    assert next(result for result in results if result.get("baselineState") == "unchanged")["ruleId"] == first.rule


def test_fingerprints_of_different_objects_differ(report: AuditReport) -> None:
    results = json.loads(as_sarif(report))["runs"][0]["results"]
    assert len({result["partialFingerprints"]["irsaSidecar/v1"] for result in results}) == len(report.findings)


# JUnit


@pytest.mark.parametrize("name", ["report", "hostile"])
def test_junit_has_a_failure_for_each_finding(name: str, request: pytest.FixtureRequest) -> None:
    report: AuditReport = request.getfixturevalue(name)
    root = ET.fromstring(as_junit(report))
    assert int(root.attrib["failures"]) == len(report.findings) == len(root.findall(".//failure"))
    assert int(root.attrib["tests"]) == len(root.findall(".//testcase"))
    assert len(root.findall("testsuite")) == len(RULES)


# Prometheus


def test_prometheus_has_one_series_for_each_rule(hostile: AuditReport) -> None:
    lines = as_prometheus(hostile).splitlines()
    series = [line for line in lines if line.startswith("irsa_sidecar_audit_findings{")]
    assert len(series) == len(RULES)
    assert sum(int(line.rpartition(" ")[2]) for line in series) == len(hostile.findings)
    for line in lines:
        assert re.fullmatch(r'# (HELP|TYPE) .+|[a-z_]+(\{([a-z]+="[a-z_.-]*",?)+\})? [0-9.]+', line), line


# HTML


class Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def test_page_has_a_row_for_each_finding(report: AuditReport, world: Inventory) -> None:
    page = Page(as_html(report, world))
    rows = [attributes for tag, attributes in page.elements if tag == "tr" and "data-severity" in attributes]
    assert len(rows) == len(report.findings)
    assert {row["data-severity"] for row in rows} == {severity.value for severity in SEVERITIES}


def test_page_loads_nothing(report: AuditReport, world: Inventory) -> None:
    page = Page(as_html(report, world))
    loading = {"src", "srcset", "data", "poster", "background", "action", "formaction"}
    assert not [tag for tag, attributes in page.elements if loading & set(attributes)]
    assert not [tag for tag, _ in page.elements if tag in {"link", "iframe", "img", "object", "embed", "base"}]
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_page_shows_hostile_names_as_text(hostile: AuditReport) -> None:
    text = as_html(hostile, hostile_inventory())
    page = Page(text)
    assert page.count("script") == 1
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "<script>alert(1)</script>" in "".join(page.texts)
    assert max(len(line) for line in text.splitlines()) < 40_000


def test_page_without_findings_has_no_filters(report: AuditReport, world: Inventory) -> None:
    page = Page(as_html(report._replace(findings=()), world))
    assert page.count("form") == 0
    assert "There are none." in page.texts


def test_graph_shows_the_severity_of_objects_with_findings(report: AuditReport, world: Inventory) -> None:
    text = as_html(report, world)
    assert 'class="error"><title>trust-deny/app (error)' in text
    assert f"<title>{role_arn('any-subject')} (warning)" in text


def test_graph_of_a_large_cluster_is_limited() -> None:
    cases = [
        Case(f"ns-{n}", frozenset(), Parts((service_account(f"ns-{n}", role=role_arn(f"role-{n}")),)))
        for n in range(1000)
    ]
    inventory = inventory_of(cases)
    text = as_html(judge(inventory, NOW.timestamp(), Options()), inventory)
    assert text.count("<rect") <= 3 * 400


# Acceptances, the threshold and the order of findings


def test_accepted_findings_do_not_fail_the_audit(world: Inventory, report: AuditReport) -> None:
    entries = [Acceptance(each.rule, "*", "known", NOW.timestamp() + 1) for each in report.findings]
    accepted = judge(world, NOW.timestamp(), Options(), entries)
    assert not accepted.fails(Severity.NOTE)
    assert len(accepted.accepted) == len(report.findings)
    assert accepted.unused == ()


def test_acceptance_ends_at_its_date(world: Inventory, report: AuditReport) -> None:
    entry = Acceptance(report.findings[0].rule, "*", "known", NOW.timestamp())
    assert judge(world, NOW.timestamp(), Options(), [entry]).findings == report.findings


def test_acceptance_of_another_object_is_reported_as_unused(world: Inventory) -> None:
    entry = Acceptance("wide.pattern", "Role arn:aws:iam::123456789012:role/gone", "old", NOW.timestamp() + 1, line=3)
    result = judge(world, NOW.timestamp(), Options(), [entry])
    assert result.unused == (entry,)
    assert "The acceptance in line 3 matches no finding" in as_text(result, width=100, colours=False)


def test_threshold_decides_whether_the_audit_fails(report: AuditReport) -> None:
    of = {severity: tuple(f for f in report.findings if f.severity is severity) for severity in SEVERITIES}
    for higher, lower in pairwise(SEVERITIES):
        only_lower = report._replace(findings=of[lower])
        assert only_lower.fails(lower)
        assert not only_lower.fails(higher)
    assert not report.fails(None)


def test_acceptance_that_ended_is_named(world: Inventory, report: AuditReport) -> None:
    """Check the name. Without it, nobody would know why an accepted finding is reported again."""
    entry = Acceptance(report.findings[0].rule, "*", "known", NOW.timestamp(), line=3)
    result = judge(world, NOW.timestamp(), Options(), [entry])
    assert (result.ended, result.unused) == ((entry,), ())
    assert "The acceptance in line 3 has expired" in as_text(result, width=100, colours=False)
    assert [each["line"] for each in json.loads(as_json(result))["ended_acceptances"]] == [3]


def test_summary_names_unread_parts_before_the_findings(world: Inventory, report: AuditReport) -> None:
    partial = report._replace(unread=("AWS account", "Kubernetes Nodes"))
    lines = as_text(partial, width=100, colours=False).splitlines()
    assert lines[3].startswith("Not read: AWS account, Kubernetes Nodes. ")
    assert "Not read: AWS account, Kubernetes Nodes." in "".join(Page(as_html(partial, world)).texts)


def test_findings_begin_with_the_highest_severity(report: AuditReport) -> None:
    order = [SEVERITIES.index(each.severity) for each in report.findings]
    assert order == sorted(order)


def test_graph_lists_objects_with_findings_first(report: AuditReport, world: Inventory) -> None:
    boxes = [node for node in graph_of(world, report.findings).nodes if node.column == 0]
    classes = [node.severity for node in boxes]
    assert classes[0] is Severity.ERROR
    assert classes[-1] is None
