"""Check that the reference has every check of doctor, under the id that reports show."""

import ast
from pathlib import Path

from sidecar.doctor.checks import endpoint, settings, sts
from sidecar.doctor.checks.pod_container import CONTAINER_CHECKS
from sidecar.doctor.run import GROUPS
from tests.docs.reference.check_findings import CodedFinding, findings_of
from tests.docs.reference.check_placeholders import OF_EXPRESSIONS
from tests.docs.reference.doctor_checks import ABOUT, entries
from tests.docs.reference.pages import path_of
from tests.unit.doctor.broken_set_ups import BROKEN


def test_every_group_is_described() -> None:
    assert list(ABOUT) == list(GROUPS)


def test_page_has_a_heading_for_every_check_and_set_up() -> None:
    text = path_of("doctor-checks").read_text(encoding="utf-8")
    found = {line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")}
    assert found == {entry.id for group in GROUPS for entry in entries(group)}
    assert {row.check for row in BROKEN} <= found


def test_every_check_belongs_to_one_entry() -> None:
    listed = [check for group in GROUPS for entry in entries(group) for check in entry.checks]
    expected = [check for checks in GROUPS.values() for check in checks]
    assert sorted(map(id, listed)) == sorted(map(id, expected))
    assert {f"endpoint.{check.name}" for check in CONTAINER_CHECKS} <= {entry.id for entry in entries("endpoint")}


def test_findings_are_read_from_the_code() -> None:
    encryption = next(check for check in settings.CHECKS if check.name == "encryption")
    assert findings_of(encryption.evaluate) == [
        CodedFinding("warning", "STS is at URL: the token is sent unencrypted", "Use an https:// address")
    ]


def test_findings_of_called_functions_are_included() -> None:
    address = next(check for check in endpoint.CHECKS if check.name == "address")
    assert any("is https, but irsa-sidecar serves plain http" in found.text for found in findings_of(address.evaluate))
    connect = next(check for check in sts.CHECKS if check.name == "connect")
    assert ". Or: " in findings_of(connect.evaluate)[0].next_step


def test_every_named_value_is_in_a_check() -> None:
    folder = Path(settings.__file__).parent
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in folder.glob("*.py"))
    values = {
        ast.unparse(node.value) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)
    }
    assert OF_EXPRESSIONS.keys() <= values
