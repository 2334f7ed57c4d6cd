"""Write Pods and workloads as a test of `kyverno test`, and run it."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.policies.cases import NAMESPACE, Document
from tests.policies.objects import POLICIES_LABEL, namespace, service_accounts

ACCEPTED = "success"
"""The message of the command for an object that a policy accepts."""

NOT_APPLIED = ("Excluded", "skip")
"""The messages of the command for an object that a policy does not match, or whose match conditions are false."""


@dataclass(frozen=True)
class Expectation:
    """An object, and the expected result: `pass`, `fail` or `skip`."""

    document: Document
    result: str
    operation: str = "CREATE"


def run_tests(
    kyverno: Path, folder: Path, policy: Path, expectations: Sequence[Expectation], mode: str, *flags: str
) -> Mapping[str, str | None]:
    """
    Return the message for each object by its name, or None if the policy does not apply to the object.

    Raises AssertionError if a result differs from the expected result. The command compiles its policies again for each
    object, so tests run it once for each policy.
    """
    _write(folder, policy, expectations, mode)
    command = [
        str(kyverno),
        "test",
        str(folder),
        "--detailed-results",
        "--output-format=json",
        "--require-tests",
        *flags,
    ]
    environment = os.environ | {"HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return _messages(json.loads(done.stdout[done.stdout.index("\n[") : done.stdout.rindex("]") + 1]))


def _messages(rows: Sequence[Mapping[str, str]]) -> Mapping[str, str | None]:
    """Return the message for each object, from the policy or from the automatic rule that applied."""
    found: dict[str, str | None] = {}
    for row in rows:
        name = row["RESOURCE"].rpartition("/")[2]
        message = None if row["Message"] in NOT_APPLIED else row["Message"]
        assert message is None or found.get(name) is None, f"two results for {name}"
        found[name] = found.get(name) or message
    return found


def _write(folder: Path, policy: Path, expectations: Sequence[Expectation], mode: str) -> None:
    kind = yaml.safe_load(policy.read_text())["kind"]
    test = {
        "apiVersion": "cli.kyverno.io/v1alpha1",
        "kind": "Test",
        "metadata": {"name": mode},
        "policies": [os.path.relpath(policy, folder)],
        "resources": ["resources.yaml"],
        "clusterResources": ["cluster.yaml"],
        "variables": "values.yaml",
        "results": [_result(policy, kind, each) for each in expectations],
    }
    cluster = _cli("ClusterResource", spec={"resources": [namespace(mode), *service_accounts()]})
    values = _cli("Value", namespaceSelector=[{"name": NAMESPACE, "labels": {POLICIES_LABEL: mode}}])
    (folder / "kyverno-test.yaml").write_text(yaml.safe_dump(test))
    (folder / "resources.yaml").write_text(yaml.safe_dump_all([each.document for each in expectations]))
    (folder / "cluster.yaml").write_text(yaml.safe_dump(cluster))
    (folder / "values.yaml").write_text(yaml.safe_dump(values))


def _result(policy: Path, kind: str, expectation: Expectation) -> Document:
    return {
        "policy": f"irsa-sidecar-{policy.stem}",
        f"is{kind}": True,
        "kind": expectation.document["kind"],
        "resources": [expectation.document["metadata"]["name"]],
        "result": expectation.result,
        "operation": expectation.operation,
    }


def _cli(kind: str, **parts: Any) -> Document:
    return {"apiVersion": "cli.kyverno.io/v1alpha1", "kind": kind, "metadata": {"name": "cases"}, **parts}
