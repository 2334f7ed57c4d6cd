"""Check the chart's objects against the schemas of every Kubernetes version from 1.29 to the newest."""

import json

import pytest
import yaml
from kubernetes_validate import validate

from tests.chart.rendering import AUTHORITY, CHART, OPTIONS, Helm
from tests.support.kubernetes_versions import VERSIONS, check, is_builtin
from tests.support.manifests import documents


def test_newest_kubernetes_schemas_are_installed() -> None:
    assert VERSIONS[-1] >= "1.37"


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_valid_in_each_kubernetes(helm_4: Helm, version: str, name: str) -> None:
    objects = documents(helm_4.template(OPTIONS[name], f"--kube-version={version}.0").stdout)
    builtin = [found for found in objects if is_builtin(found)]
    assert len(builtin) >= 3
    for found in builtin:
        check(found, version)


@pytest.mark.parametrize("word", ["123", "1e3", "true", "null"])
def test_name_that_looks_like_a_number_stays_a_string(helm: Helm, word: str) -> None:
    """Check that templates quote names. Without quotes, the API server would get a number, a boolean or null."""
    values = {
        "region": "eu-west-1",
        "nameOverride": word,
        "image": {"repository": "1", "tag": "2"},
        "serviceAccount": {"name": word},
        "priorityClassName": word,
        "certificate": {"from": "existingSecret", "existingSecret": word, "caBundle": AUTHORITY},
    }
    names = values | ({} if word[0].isdigit() else {"fullnameOverride": word})
    flags = ("--values=-", "--kube-version=1.34.0", f"--namespace={word}")
    done = helm.run("template", word, CHART, *flags, stdin=json.dumps(names))
    for found in documents(done.stdout):
        validate(found, "1.34", strict=True)


@pytest.mark.parametrize("name", OPTIONS)
def test_helm_lint_finds_no_error(helm: Helm, name: str) -> None:
    values = yaml.safe_dump({"region": "eu-west-1"} | OPTIONS[name])
    helm.run("lint", "--strict", CHART, "--kube-version=1.34.0", "--values=-", stdin=values)
