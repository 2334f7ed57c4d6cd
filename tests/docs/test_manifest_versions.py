"""Validate every manifest of k8s/ outside of the chart against the schemas of each Kubernetes version since 1.29."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.kubernetes_versions import VERSIONS, check, is_builtin, versions_of
from tests.support.manifests import K8S, pods, read

FILES = sorted(str(path.relative_to(K8S)) for path in K8S.rglob("*.yaml") if "chart" not in path.parts)
"""The manifests outside of the chart. `make test-chart` validates the objects that Helm renders."""


def is_patch(file: str) -> bool:
    return Path(file).name.startswith("patch")


def objects(file: str) -> list[dict[str, Any]]:
    """Return the objects of built-in kinds in the file, or the Pods of a patch, which is only a part of a workload."""
    found = read(file)
    if is_patch(file):
        return [pod | {"spec": {"containers": []} | pod["spec"]} for pod in pods(found)]
    return [document for document in found if is_builtin(document)]


CHECKED = [
    (version, file, index)
    for file in FILES
    for index, document in enumerate(objects(file))
    for version in versions_of(document["kind"])
]


@pytest.mark.parametrize(("version", "file", "index"), CHECKED)
def test_manifest_is_valid_in_each_kubernetes(version: str, file: str, index: int) -> None:
    check(objects(file)[index], version)


def test_manifests_are_checked_in_every_version() -> None:
    assert {version for version, file, _ in CHECKED if file == "pod/example.yaml"} == set(VERSIONS)
    assert {"pod/roles.yaml", "pod/patch.yaml", "job/cronjob.yaml", "webhook/deployment.yaml"} <= {
        file for _, file, _ in CHECKED
    }
    assert VERSIONS[0] == "1.29"
    assert VERSIONS[-1] >= "1.37"
