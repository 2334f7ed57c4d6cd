"""Run the table of cases through the constraints of k8s/policies/gatekeeper, with Gatekeeper's own command."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.policies.cases import CASES, Case
from tests.policies.gatekeeper import SAMPLES, verify
from tests.support.manifests import documents

MODES = ("enforce", "warn")


@pytest.fixture(scope="module", params=MODES)
def results(gator: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the result of each case with the constraints of one mode."""
    return verify(gator, tmp_path_factory.mktemp(request.param), CASES, request.param)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gatekeeper_makes_the_expected_decision(results: Mapping[str, str], case: Case) -> None:
    assert results[case.name] == "PASS"


def test_policy_does_not_apply_in_a_namespace_of_another_mode(gator: Path, tmp_path: Path) -> None:
    """Expect rejections in a namespace in which the constraints do not apply, so that every expectation fails."""
    refused = [case for case in CASES if case.message]
    results = verify(gator, tmp_path, refused, "enforce", labelled="other")
    assert set(results.values()) == {"FAIL"}


def test_sync_set_has_the_kinds_that_templates_read(gator: Path) -> None:
    files = [f"--filename={path}" for path in sorted((SAMPLES / "templates").glob("[!k]*.yaml"))]
    command = [str(gator), "sync", "test", "--force-omit-gvk-manifest", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_warning_constraints_differ_only_in_mode(gator: Path) -> None:
    for path in sorted((SAMPLES / "constraints").glob("[!k]*.yaml")):
        enforce, warn = documents(path.read_text())
        assert (enforce["spec"]["enforcementAction"], warn["spec"]["enforcementAction"]) == ("deny", "warn")
        renamed = yaml.safe_dump(enforce).replace("enforce\n", "warn\n").replace(": deny\n", ": warn\n")
        assert yaml.safe_load(renamed) == warn
