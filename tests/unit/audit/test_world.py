"""Test that exactly the expected rules find each wrong object of the world."""

import pytest

from sidecar.audit.finding import Finding
from sidecar.audit.inventory import Inventory
from sidecar.audit.judge import judge
from sidecar.audit.relations import Options
from sidecar.audit.rules.all import RULES
from tests.unit.audit.conftest import inventory_of
from tests.unit.audit.documents import NOW
from tests.unit.audit.world import CASES, RIGHT, WRONG, Case

OTHERWISE_TESTED = {
    "broken.provider-audience",
    "broken.provider-missing",
    "broken.provider-thumbprint",
    "incomplete.source",
    "incomplete.unread",
    "wide.no-boundary",
}
"""Rules about the whole account, and rules that need a flag. test_rules.py tests these rules."""


def concerns(finding: Finding, case: Case) -> bool:
    """Return whether the finding is about an object of the case. Objects of a case have the case's name."""
    _, name, namespace = finding.subject
    return case.name in {namespace, name.rpartition("/")[2], name.removeprefix("a-")}


@pytest.fixture(scope="module")
def findings(world: Inventory) -> tuple[Finding, ...]:
    return judge(world, NOW.timestamp(), Options()).findings


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_has_exactly_its_findings(case: Case, findings: tuple[Finding, ...]) -> None:
    found = {finding.rule for finding in findings if concerns(finding, case)}
    assert found == case.rules


def test_each_finding_concerns_a_case(findings: tuple[Finding, ...]) -> None:
    assert [each for each in findings if not any(concerns(each, case) for case in CASES)] == []


def test_world_has_forty_cases_and_every_rule() -> None:
    assert len(RIGHT) >= 10
    assert len(CASES) >= 40
    tested = {rule for case in WRONG for rule in case.rules}
    assert tested | OTHERWISE_TESTED == {rule.id for rule in RULES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_alone_has_the_same_findings(case: Case) -> None:
    report = judge(inventory_of([case]), NOW.timestamp(), Options())
    assert {finding.rule for finding in report.findings} == case.rules
