"""Check the policy samples without the engines: kinds, modes, and the patterns that all engines must share."""

import re
from pathlib import Path

import pytest

from tests.docs.yaml_kinds import check_object
from tests.support.manifests import K8S, documents

POLICIES = K8S / "policies"
FILES = sorted(path for path in POLICIES.rglob("*.yaml") if path.name != "kustomization.yaml")
ENGINES = ("validating-admission-policy", "kyverno/enforce", "gatekeeper/templates", "gatekeeper/constraints")
RULES = ("role-needs-sidecar", "label-needs-sidecar", "no-other-credentials", "no-shared-processes", "trusted-image")

_PATTERN = re.compile(r"(?:matches\(r?'|regex\.match\(\s*`)(.*?)(?:'\)|`)", re.DOTALL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(POLICIES)))
def test_policy_sample_objects_are_valid(path: Path) -> None:
    found = documents(path.read_text(encoding="utf-8"))
    assert found
    for document in found:
        check_object(document)


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_has_every_rule_and_applies_it(engine: str) -> None:
    kustomization = (POLICIES / engine / "kustomization.yaml").read_text(encoding="utf-8")
    (listed,) = (document["resources"] for document in documents(kustomization))
    assert {f"{rule}.yaml" for rule in RULES} <= set(listed)
    assert {path.name for path in (POLICIES / engine).glob("*.yaml")} == {*listed, "kustomization.yaml"}


@pytest.mark.parametrize("rule", ["no-other-credentials", "no-shared-processes", "trusted-image"])
def test_engines_use_the_same_patterns(rule: str) -> None:
    texts = [(POLICIES / engine / f"{rule}.yaml").read_text(encoding="utf-8") for engine in ENGINES[:3]]
    api_server, *others = (sorted(_PATTERN.findall(text)) for text in texts)
    assert api_server
    assert others == [api_server, api_server]


@pytest.mark.parametrize("rule", RULES)
def test_policy_of_the_api_server_has_a_binding_per_mode(rule: str) -> None:
    policy, *bindings = documents((POLICIES / ENGINES[0] / f"{rule}.yaml").read_text(encoding="utf-8"))
    modes = {"enforce": ["Deny"], "warn": ["Warn", "Audit"]}
    assert {each["metadata"]["name"] for each in bindings} == {f"{policy['metadata']['name']}-{mode}" for mode in modes}
    for binding in bindings:
        (mode,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"].values()
        assert binding["spec"]["policyName"] == policy["metadata"]["name"]
        assert binding["spec"]["validationActions"] == modes[mode]
