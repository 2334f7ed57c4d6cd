"""Test the policy's objects without an API server. tests/cluster/test_policy.py evaluates the expressions."""

import re
from itertools import product
from typing import Any

import pytest

from sidecar.errors import ConfigurationError
from sidecar.injection.known_names import check_names
from sidecar.injection.names import ANNOTATIONS, PREFIX, REJECTION
from sidecar.policy.cel import Cel, constructed, filled, message, whole
from sidecar.policy.manifest import manifest
from sidecar.policy.rejection import MISSPELT_PREFIX
from sidecar.role import ROLE_ARN
from tests.support.manifests import documents
from tests.unit.injection.pods import SETTINGS, injected, pod

PREFIXES = [
    f"{start}{sign}sidecar{more}{dot}{end}/"
    for start, sign, more, dot, end in product(
        ("irsa", "IRSA"), ("-", "_", ".", ""), ("", "s"), (".", "-"), ("io", "com", "dev", "net", "org")
    )
]


def variables(settings: Any = SETTINGS) -> dict[str, str]:
    found = documents(manifest(settings))[0]["spec"]["variables"]
    return {each["name"]: each["expression"] for each in found}


def test_manifest_has_two_policies_and_a_binding_for_each() -> None:
    kinds = [found["kind"] for found in documents(manifest(SETTINGS))]
    names = ("MutatingAdmissionPolicy", "ValidatingAdmissionPolicy")
    assert kinds == [f"{name}{kind}" for name in names for kind in ("", "Binding")]


def test_settings_are_variables_that_an_operator_can_change() -> None:
    resources = {"requests": {"cpu": "20m"}, "limits": {"memory": "96Mi", "ephemeral-storage": "1Gi"}}
    settings = SETTINGS._replace(environment=(("HTTPS_PROXY", 'http://"x"'),), resources=resources)
    found = variables(settings)
    assert list(found)[:5] == ["image", "region", "environment", "requests", "limits"]
    assert (found["image"], found["region"]) == ('"registry.example.com/irsa-sidecar:1"', '"eu-west-1"')
    assert found["environment"] == r'[{"name": "HTTPS_PROXY", "value": "http://\"x\""}]'
    assert found["requests"] == '{"cpu": "20m"}'
    assert found["limits"] == '{"memory": "96Mi", "ephemeral-storage": "1Gi"}'


def test_expressions_contain_no_marker_of_an_example() -> None:
    assert not re.search("[①②③④]", manifest(SETTINGS))


def test_expressions_are_readable_blocks() -> None:
    """Check that YAML writes no expression of several lines in quotes."""
    assert r"\n" not in manifest(SETTINGS)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_misspelt_prefix_is_rejected_by_injection_too(prefix: str) -> None:
    names = [prefix + name.removeprefix(PREFIX) for name in ANNOTATIONS]
    for name in names:
        if name not in ANNOTATIONS and re.match(MISSPELT_PREFIX, name):
            with pytest.raises(ConfigurationError):
                check_names({"annotations": {name: ""}})


def test_webhook_removes_the_reason_of_a_policy() -> None:
    assert REJECTION not in injected(pod(annotations={REJECTION: "x"}))["metadata"]["annotations"]


def test_long_repetition_is_divided_for_re2() -> None:
    assert whole(ROLE_ARN).endswith(r"role/[\\x21-\\x7e]{1,1000}[\\x21-\\x7e]{0,1000})$\"".replace(r"\"", '"'))
    assert whole("[a]{1,255}") == '"^(?:[a]{1,255})$"'


def test_mapping_becomes_an_object_of_the_type_for_its_path() -> None:
    document = {"name": Cel("variables.name"), "ports": [{"containerPort": 80}], "readOnly": True}
    assert constructed(document, "Object.spec.containers") == (
        "Object.spec.containers{name: variables.name, "
        "ports: [Object.spec.containers.ports{containerPort: 80}], readOnly: true}"
    )


def test_sentence_contains_the_values_of_expressions() -> None:
    assert filled('Use "①" or ②.', {"①": "a", "②": "b"}) == r'"Use \"" + a + "\" or " + b + "."'


def test_example_that_a_check_accepts_is_an_error() -> None:
    with pytest.raises(ValueError, match="check_names accepted"):
        message(check_names, {})
