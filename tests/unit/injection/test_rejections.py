"""Test Pods that are rejected, each with a message that names the necessary change."""

from typing import Any

import pytest

from sidecar.injection.names import ANNOTATIONS
from sidecar.kubernetes.document import Document
from tests.unit.injection.pods import (
    ACCOUNT,
    ARN,
    PLAIN,
    P,
    app,
    container,
    injected,
    pod,
    rejection,
)

ROLE = f"name: a, role_arn: '{ARN}'"

WRONG_ANNOTATIONS: dict[str, tuple[str, str]] = {
    "role-arn": (
        "arn:aws:iam::1:role/a",
        "annotation irsa-sidecar.io/role-arn is 'arn:aws:iam::1:role/a', ",
    ),
    "roles": (
        f"- {{{ROLE}}}\n- {{name: a, role_arm: x}}",
        "annotation irsa-sidecar.io/roles, line 2: role_arm is not a setting. Did you mean role_arn?",
    ),
    "containers": (
        "app,lgo",
        "annotation irsa-sidecar.io/containers names 'lgo', which is not a container of the Pod. Use one of app.",
    ),
    "skip-containers": ("app,,", "annotation irsa-sidecar.io/skip-containers is 'app,,', "),
    "audience": ("", "annotation irsa-sidecar.io/audience is '', "),
    "token-expiration": (
        "1h",
        "is '1h', which is not a valid number of seconds. Use whole seconds from 600 to 86400.",
    ),
    "duration": ("899", "whole seconds from 900 to 43200, or max"),
    "session-name": ("{podd}", "session-name is '{podd}', in which {podd} is not"),
}


def test_table_has_a_wrong_value_for_each_annotation() -> None:
    assert {P + name for name in WRONG_ANNOTATIONS} == set(ANNOTATIONS)


@pytest.mark.parametrize("name", WRONG_ANNOTATIONS)
def test_rejection_of_a_wrong_annotation_names_the_fix(name: str) -> None:
    value, words = WRONG_ANNOTATIONS[name]
    message = rejection(pod(annotations={P + name: value}))
    assert words in message
    assert "\n" not in message


def roles(*items: str) -> Document:
    return pod(
        app(), {"name": "log", "image": "i"}, annotations={f"{P}roles": "\n".join(f"- {{{each}}}" for each in items)}
    )


def annotated(**annotations: Any) -> Document:
    return pod(annotations={P + name.replace("_", "-"): value for name, value in annotations.items()})


REJECTED: dict[str, tuple[Document, str]] = {
    "misspelt annotation": (
        annotated(role_arm=ARN),
        "irsa-sidecar.io/role-arm is not a name that irsa-sidecar uses. Did you mean irsa-sidecar.io/role-arn?",
    ),
    "unknown annotation": (annotated(xyzzy=""), "After irsa-sidecar.io/, use one of role-arn, "),
    "label as an annotation": (annotated(inject="true"), "Move it to metadata.labels"),
    "role and list of roles": (
        annotated(roles=f"- {{{ROLE}}}", role_arn=ARN),
        "both annotations irsa-sidecar.io/roles and irsa-sidecar.io/role-arn",
    ),
    "chosen and skipped containers": (
        annotated(containers="app", skip_containers="app"),
        "irsa-sidecar.io/containers and irsa-sidecar.io/skip-containers",
    ),
    "no container left": (
        annotated(skip_containers="app"),
        "No container would get credentials: the annotations exclude all",
    ),
    "application with the sidecar's name": (
        pod({"name": "irsa-sidecar", "image": "i"}),
        "No container would get credentials: the Pod has only irsa-sidecar",
    ),
    "annotation that is not a text": (
        annotated(duration=900),
        "irsa-sidecar.io/duration is 900, which is not a string",
    ),
    "token file": (roles(f"{ROLE}, token_file: /x"), "a token_file for role a"),
    "secret's file in a role": (
        roles(f"{ROLE}, authorization_token_file: /x"),
        "an authorization_token_file for role a",
    ),
    "role for no container": (roles(f"{ROLE}, containers: []"), "role a to no container"),
    "role for an unknown container": (
        roles(f"{ROLE}, containers: [lgo]"),
        "role a names 'lgo', which is not a container of the Pod. Use one of app, log.",
    ),
    "two roles for all containers": (
        roles(ROLE, f"name: b, role_arn: '{ARN}'"),
        "several roles without `containers` (a, b)",
    ),
    "two roles for one container": (
        roles(f"{ROLE}, containers: [app]", f"name: b, role_arn: '{ARN}', containers: [app]"),
        "container app the roles a and b",
    ),
    "longest session of a chain": (roles(f"{ROLE}, duration: max, chain: [{{role_arn: '{ARN}'}}]"), "an hour at most"),
    "too long list of roles": (
        annotated(roles="[" + "a," * 40_000 + "]"),
        "irsa-sidecar.io/roles has 80002 characters. Use at most 8192",
    ),
    "too long annotations": (
        pod(annotations={"a": "x" * 262_144}),
        "metadata.annotations has 262145 characters, and Kubernetes accepts 262144",
    ),
    "too many containers": (
        pod(*[app()] * 1000, initContainers=[app()]),
        "The Pod has 1001 containers. Use at most 1000.",
    ),
    "too long name of a container": (
        pod(app(), {"name": "x" * 2_000_000, "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "x"}]}),
        f"spec.containers[1] has a name of 2000000 characters, {'x' * 63}…. Use at most 63.",
    ),
    "value that is not a text": (
        pod({"name": "app", "env": [{"name": "PASSWORD", "value": 12345}]}),
        "spec.containers[0].env: PASSWORD has a value that is not a string (int)",
    ),
    "static Pod": (pod(annotations={"kubernetes.io/config.mirror": "x"}), "is static"),
    "token volume of another kind": (
        pod(volumes=[{"name": "irsa-sidecar-token", "secret": {"secretName": "mine"}}]),
        "The Pod's volume irsa-sidecar-token is secret",
    ),
    "secret volume of another kind": (
        pod(volumes=[{"name": "irsa-sidecar-authorization", "hostPath": {"path": "/"}}]),
        "The Pod's volume irsa-sidecar-authorization is hostPath",
    ),
    "state volume of another kind": (
        pod(volumes=[{"name": "irsa-sidecar-state", "persistentVolumeClaim": {"claimName": "mine"}}]),
        "The Pod's volume irsa-sidecar-state is persistentVolumeClaim",
    ),
    "container with the sidecar's name": (
        pod(app(), {"name": "irsa-sidecar", "image": "i", "command": ["sh"], "envFrom": []}),
        "Container irsa-sidecar has a command",
    ),
    "init container with the sidecar's name": (
        pod(initContainers=[{"name": "irsa-sidecar", "image": "i", "command": ["sh"]}]),
        "Container irsa-sidecar has a command",
    ),
    "no containers": ({"spec": {}}, "no spec.containers"),
    "container without a name": (pod({"image": "i"}), "spec.containers[0] has no name"),
    "Windows by the field os": (pod(os={"name": "windows"}), "for Windows"),
    "Windows by the node selector": (pod(nodeSelector={"kubernetes.io/os": "windows"}), "for Windows"),
    "host network": (pod(hostNetwork=True), "hostNetwork"),
    "port of the sidecar": (pod(app(ports=[{"containerPort": 4773}])), "Container app has port 4773"),
    "port of the endpoint": (pod(app(ports=[{"containerPort": 4772}])), "Container app has port 4772"),
    "mounted token": (
        pod(app(volumeMounts=[{"name": "irsa-sidecar-token", "mountPath": "/t"}])),
        "mounts irsa-sidecar-token",
    ),
    "mounted state": (
        pod(app(volumeMounts=[{"name": "irsa-sidecar-state", "mountPath": "/s"}])),
        "Container app mounts irsa-sidecar-state",
    ),
    "mount at the secret's path": (
        pod(app(volumeMounts=[{"name": "x", "mountPath": "/run/irsa-sidecar/"}])),
        "mounts x at /run/irsa-sidecar/",
    ),
}


@pytest.mark.parametrize("case", REJECTED)
def test_rejection_of_an_unsuitable_pod_is_one_line(case: str) -> None:
    original, words = REJECTED[case]
    message = rejection(original)
    assert words in message
    assert "\n" not in message
    assert message.endswith((".", "?"))


def test_port_of_another_protocol_is_accepted() -> None:
    ports = [{"containerPort": 4772, "protocol": "UDP"}, {"containerPort": 4773, "protocol": "SCTP"}]
    assert container(injected(pod(app(ports=ports))), "app")["ports"] == ports


def test_container_that_is_chosen_and_excluded_is_rejected() -> None:
    original = roles(f"{ROLE}, containers: [log]")
    for annotation, names in (("containers", "app"), ("skip-containers", "log")):
        annotations = {**original["metadata"]["annotations"], P + annotation: names}
        message = rejection(original | {"metadata": {"annotations": annotations}})
        assert f"container log, which {P}{annotation} excludes" in message


def test_rejection_without_a_role_names_both_annotations() -> None:
    assert "annotation eks.amazonaws.com/role-arn on ServiceAccount shop/cart" in rejection(
        pod(), service_account=ACCOUNT._replace(annotations={})
    )
    assert "annotation irsa-sidecar.io/role-arn on the Pod, or" in rejection(pod(), service_account=None)
    bad = ACCOUNT._replace(annotations={"eks.amazonaws.com/role-arn": "app"})
    assert "annotation eks.amazonaws.com/role-arn of ServiceAccount shop/cart is 'app'" in rejection(
        pod(), service_account=bad
    )


def test_pod_that_needs_native_sidecars_is_rejected() -> None:
    assert "irsa-sidecar exec" in rejection(pod(restartPolicy="Never"), PLAIN)
    assert "credentials for container migrate, but the container runs before" in rejection(
        pod(initContainers=[{"name": "migrate", "image": "i"}], annotations={f"{P}containers": "migrate"}), PLAIN
    )
