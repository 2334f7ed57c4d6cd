"""Write the table of cases as a suite of Gatekeeper's `gator verify`, and run it."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.policies.cases import NAMESPACE, Case, Document
from tests.policies.objects import namespace, service_accounts
from tests.support.manifests import K8S, documents

SAMPLES = K8S / "policies/gatekeeper"

_RESULT = re.compile(r"^ +--- (PASS|FAIL): (\S+)", re.MULTILINE)


def verify(
    gator: Path, folder: Path, cases: Sequence[Case], mode: str, *, labelled: str | None = None
) -> Mapping[str, str]:
    """
    Return `PASS` or `FAIL` for each case, by its name.

    Use the constraints of `mode`. The namespace's label is `labelled`, or `mode` if `labelled` is None.
    """
    inventory = [namespace(labelled or mode), *service_accounts()]
    (folder / "inventory.yaml").write_text(yaml.safe_dump_all(inventory))
    rules = dict.fromkeys(case.rule for case in cases)
    tests = [_test(folder, rule, [case for case in cases if case.rule == rule], mode) for rule in rules]
    suite = {"apiVersion": "test.gatekeeper.sh/v1alpha1", "kind": "Suite", "metadata": {"name": mode}, "tests": tests}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    command = [str(gator), "verify", "-v", str(folder / "suite.yaml")]
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    found = {name: result for result, name in _RESULT.findall(output)}
    assert found.keys() >= {case.name for case in cases}, output
    print(output)
    return found


def constraint(rule: str, mode: str) -> Document:
    """Return the constraint of a rule for namespaces with this mode."""
    (found,) = [
        each
        for each in documents((SAMPLES / f"constraints/{rule}.yaml").read_text())
        if each["metadata"]["name"] == f"irsa-sidecar-{rule}-{mode}"
    ]
    return found


def _test(folder: Path, rule: str, cases: Sequence[Case], mode: str) -> Document:
    """Write the constraint and the objects, and return the test with the names of the files."""
    (folder / f"{rule}.yaml").write_text(yaml.safe_dump(constraint(rule, mode)))
    for case in cases:
        (folder / f"{case.name}.yaml").write_text(yaml.safe_dump(_review(case) if case.before else case.document))
    return {
        "name": rule,
        "template": os.path.relpath(SAMPLES / f"templates/{rule}.yaml", folder),
        "constraint": f"{rule}.yaml",
        "expansion": os.path.relpath(SAMPLES / "templates/expansion.yaml", folder),
        "cases": [_case(case) for case in cases],
    }


def _case(case: Case) -> Document:
    no, yes = {"violations": "no"}, {"violations": 1, "message": re.escape(case.message or "")}
    assertions = [no if case.message is None else yes]
    return {
        "name": case.name,
        "object": f"{case.name}.yaml",
        "inventory": ["inventory.yaml"],
        "assertions": assertions,
    }


def _review(case: Case) -> Document:
    """Return the review of an update, as the API server sends it to Gatekeeper."""
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {
        "uid": case.name,
        "kind": kind,
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "name": case.name,
        "namespace": NAMESPACE,
        "operation": "UPDATE",
        "userInfo": {"username": "admin"},
        "object": case.document,
        "oldObject": case.before,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
