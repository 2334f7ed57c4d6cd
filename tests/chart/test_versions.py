"""Check the chart's objects against the schemas of every Kubernetes that we support, from 1.29 to the newest."""

import pytest
import yaml
from kubernetes_validate import latest_version, validate

from tests.chart.rendering import CHART, OPTIONS, Helm
from tests.support.manifests import documents

FIRST = 29
VERSIONS = [f"1.{minor}" for minor in range(FIRST, int(latest_version().split(".")[1]) + 1)]


def test_schemas_of_the_newest_kubernetes_are_here() -> None:
    assert VERSIONS[-1] >= "1.37"


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_valid_in_each_kubernetes(helm_4: Helm, version: str, name: str) -> None:
    objects = documents(helm_4.template(OPTIONS[name], f"--kube-version={version}.0").stdout)
    builtin = [found for found in objects if ".k8s.io" in found["apiVersion"] or "." not in found["apiVersion"]]
    assert len(builtin) >= 3
    for found in builtin:
        validate(found, version, strict=True)


@pytest.mark.parametrize("name", OPTIONS)
def test_helm_lint_finds_no_error(helm: Helm, name: str) -> None:
    values = yaml.safe_dump({"region": "eu-west-1"} | OPTIONS[name])
    helm.run("lint", "--strict", CHART, "--kube-version=1.34.0", "--values=-", stdin=values)
