"""Run the table of cases through the policies of k8s/policies/kyverno, with Kyverno's own command."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.policies.cases import CASES, Case
from tests.policies.kyverno import ACCEPTED, Expectation, run_tests
from tests.support.manifests import K8S

SAMPLES = K8S / "policies/kyverno/enforce"
RULES = tuple(dict.fromkeys(case.rule for case in CASES))

CREATED = [case for case in CASES if case.before is None]
UNCHANGED = [case for case in CASES if case.is_unchanged]
"""The updates that the command can test, because the command uses the new object also as the old object."""


@pytest.fixture(scope="module")
def messages(kyverno: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str | None]:
    """Return the message for each case by its name, or None if the policy does not apply to the case."""
    found: dict[str, str | None] = {}
    for rule in RULES:
        expectations = [_expectation(case, _result(case)) for case in CREATED if case.rule == rule]
        expectations += [_expectation(case, "skip", "UPDATE") for case in UNCHANGED if case.rule == rule]
        found |= run_tests(kyverno, tmp_path_factory.mktemp(rule), SAMPLES / f"{rule}.yaml", expectations, "enforce")
    return found


@pytest.mark.parametrize("case", CREATED, ids=lambda case: case.name)
def test_kyverno_makes_the_expected_decision(messages: Mapping[str, str | None], case: Case) -> None:
    if case.message is None:
        assert messages[case.name] == (ACCEPTED if case.is_matched else None)
    else:
        assert case.message in str(messages[case.name])


@pytest.mark.parametrize("case", UNCHANGED, ids=lambda case: case.name)
def test_update_that_changes_nothing_is_accepted(messages: Mapping[str, str | None], case: Case) -> None:
    assert messages[case.name] is None


@pytest.mark.parametrize("rule", RULES)
def test_policy_does_not_apply_in_a_namespace_of_another_mode(kyverno: Path, tmp_path: Path, rule: str) -> None:
    expectations = [_expectation(case, "skip") for case in CREATED if case.message and case.rule == rule]
    found = run_tests(kyverno, tmp_path, SAMPLES / f"{rule}.yaml", expectations, "warn")
    assert set(found.values()) == {None}


def _result(case: Case) -> str:
    if case.message:
        return "fail"
    return "pass" if case.is_matched else "skip"


def _expectation(case: Case, result: str, operation: str = "CREATE") -> Expectation:
    return Expectation(case.document, result, operation)
