"""Validate injected Pods against the schemas of each supported Kubernetes version."""

from typing import Any, NamedTuple

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.injection.inject import inject
from sidecar.injection.settings import Settings
from sidecar.kubernetes.document import Document
from tests.support.kubernetes_versions import VERSIONS, check
from tests.unit.injection.pods import (
    ACCOUNT,
    AMAZONS_MOUNT,
    AMAZONS_VARIABLES,
    AMAZONS_VOLUME,
    ARN,
    OTHER_ARN,
    PLAIN,
    SETTINGS,
    P,
    app,
    pod,
    pods,
)

GUARANTEED = {"limits": {"cpu": "1", "memory": "1Gi"}}
ROLES = f"- {{name: default, role_arn: '{ARN}'}}\n- {{name: other, role_arn: '{OTHER_ARN}', containers: [app]}}"


class Case(NamedTuple):
    """A Pod, and the first minor version of Kubernetes that has all its fields."""

    pod: Document
    first: int = 29


def restarting_all() -> Document:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    return app(restartPolicy="Never", restartPolicyRules=[rule])


CASES = {
    "plain": Case(pod()),
    "Guaranteed": Case(pod(app(resources=GUARANTEED))),
    "two roles": Case(pod(app(), {"name": "web", "image": "web"}, annotations={f"{P}roles": ROLES})),
    "every duration": Case(pod(annotations={f"{P}duration": "max", f"{P}token-expiration": "600"})),
    "a proxy": Case(pod(app(("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", ".svc")))),
    "Amazon's parts": Case(
        pod(
            {"name": "app", "image": "app", "env": AMAZONS_VARIABLES, "volumeMounts": [AMAZONS_MOUNT]},
            volumes=[AMAZONS_VOLUME],
        )
    ),
    "other native sidecars": Case(pod(initContainers=[{"name": "log", "image": "log", "restartPolicy": "Always"}])),
    "a shared process namespace": Case(pod(shareProcessNamespace=True)),
    "a user namespace": Case(pod(hostUsers=False)),
    "a resize policy": Case(pod(app(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}]))),
    "resources of the Pod": Case(pod(app(), resources=GUARANTEED), first=32),
    "a restart of all containers": Case(pod(restarting_all()), first=35),
}
KINDS = {"native": SETTINGS, "ordinary": PLAIN}


def both_kinds() -> list[Any]:
    return [
        pytest.param(version, kind, name, id=f"{version}-{kind}-{name}")
        for version in VERSIONS
        for kind in KINDS
        for name, case in CASES.items()
        if int(version[2:]) >= case.first
    ]


@pytest.mark.parametrize(("version", "kind", "name"), both_kinds())
def test_injected_pod_is_valid_in_each_kubernetes_version(version: str, kind: str, name: str) -> None:
    original = CASES[name].pod
    result = inject(original, ACCOUNT, KINDS[kind]).pod
    assert result != original
    check(result, version)


@pytest.mark.parametrize("version", VERSIONS)
@hypothesis.settings(max_examples=max(1, hypothesis.settings().max_examples // 10))
@given(pods(), st.sampled_from(list(KINDS.values())))
def test_any_injected_pod_is_valid_in_each_kubernetes_version(version: str, pod: Document, settings: Settings) -> None:
    check(inject(pod, ACCOUNT, settings).pod, version)
