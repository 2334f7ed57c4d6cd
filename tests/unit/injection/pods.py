"""Create Pods as users write them, and Pods that other webhooks have changed."""

from typing import Any

import pytest
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.injection.inject import inject
from sidecar.injection.settings import ServiceAccount, Settings
from sidecar.kubernetes.document import Document

ARN = "arn:aws:iam::111122223333:role/app"
OTHER_ARN = "arn:aws:iam::444455556666:role/reporting"
SETTINGS = Settings(image="registry.example.com/irsa-sidecar:1", region="eu-west-1")
PLAIN = SETTINGS._replace(is_native=False)
ACCOUNT = ServiceAccount("shop", "cart", {"eks.amazonaws.com/role-arn": ARN})

AMAZONS_DIRECTORY = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
AMAZONS_VARIABLES = [
    {"name": "AWS_ROLE_ARN", "value": ARN},
    {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": f"{AMAZONS_DIRECTORY}/token"},
]
AMAZONS_MOUNT = {"name": "aws-iam-token", "mountPath": AMAZONS_DIRECTORY, "readOnly": True}
AMAZONS_VOLUME = {
    "name": "aws-iam-token",
    "projected": {"sources": [{"serviceAccountToken": {"audience": "sts.amazonaws.com", "path": "token"}}]},
}

POD_IDENTITY_DIRECTORY = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
POD_IDENTITY_VARIABLES = [
    {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"},
    {
        "name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "value": f"{POD_IDENTITY_DIRECTORY}/eks-pod-identity-token",
    },
]
POD_IDENTITY_MOUNT = {"name": "eks-pod-identity-token", "mountPath": POD_IDENTITY_DIRECTORY, "readOnly": True}


def pod(*containers: Document, annotations: dict[str, Any] | None = None, **spec: Any) -> Document:
    """Return a Pod with these containers, or with the container `app` if none is given."""
    metadata: Document = {"name": "cart-0"} | ({"annotations": annotations} if annotations else {})
    listed = list(containers or [{"name": "app", "image": "app"}])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": listed, **spec}}


def variables(container: Document) -> dict[str, Any]:
    return {variable["name"]: variable.get("value") for variable in container.get("env", [])}


def container(found: Document, name: str) -> Document:
    lists = (found["spec"].get("initContainers", []), found["spec"]["containers"])
    return next(each for containers in lists for each in containers if each["name"] == name)


# Any Pod

_values = st.sampled_from(["x", "true", "10.0.0.0/8,.svc", "127.0.0.1", "*", "http://proxy:3128", ""])
_variables = st.lists(
    st.one_of(
        st.builds(
            lambda name, value: {"name": name, "value": value},
            st.sampled_from(
                [
                    "PATH",
                    "AWS_REGION",
                    "AWS_DEFAULT_REGION",
                    "AWS_PROFILE",
                    "NO_PROXY",
                    "no_proxy",
                    "HTTP_PROXY",
                    "AWS_ROLE_ARN",
                    "AWS_EC2_METADATA_DISABLED",
                    "AWS_STS_REGIONAL_ENDPOINTS",
                    "AWS_ACCESS_KEY_ID",
                    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                    "AWS_WEB_IDENTITY_TOKEN_FILE",
                ]
            ),
            _values,
        ),
        st.just({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}),
        st.just({"name": "NO_PROXY", "valueFrom": {"configMapKeyRef": {"name": "proxy", "key": "none"}}}),
        st.just({"name": "HTTP_PROXY", "valueFrom": {"configMapKeyRef": {"name": "proxy", "key": "http"}}}),
        st.just({"name": "AWS_ACCESS_KEY_ID", "value": None}),
    ),
    max_size=4,
    unique_by=lambda variable: variable["name"],
)
_MOUNTS: list[Document] = [
    {"name": "data", "mountPath": "/data"},
    {"name": "data", "mountPath": "/var/lib/app", "subPath": "app", "readOnly": True},
    {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True},
]
_mounts = st.lists(st.sampled_from(_MOUNTS), max_size=2, unique_by=lambda mount: str(mount["mountPath"]))


@st.composite
def _containers(draw: st.DrawFn, name: str) -> Document:
    container: Document = {"name": name, "image": draw(st.sampled_from(["app", "app:1"]))}
    env, mounts = draw(_variables), draw(_mounts)
    own = {"AWS_ROLE_ARN", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"}
    if draw(st.booleans()) and not own & {variable["name"] for variable in env}:
        env, mounts = [*env[:1], *AMAZONS_VARIABLES, *env[1:]], [*mounts, AMAZONS_MOUNT]
    elif draw(st.booleans()):
        env, mounts = [*env, *POD_IDENTITY_VARIABLES], [*mounts, POD_IDENTITY_MOUNT]
    container |= {key: value for key, value in (("env", env), ("volumeMounts", mounts)) if value or draw(st.booleans())}
    if draw(st.booleans()):
        container["ports"] = [{"containerPort": draw(st.sampled_from([80, 4771, 8080]))}]
    if draw(st.booleans()):
        container["envFrom"] = [{"configMapRef": {"name": "app"}}]
    container |= draw(st.sampled_from([{}, {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]))
    if draw(st.booleans()):
        container["securityContext"] = {"runAsUser": draw(st.sampled_from([0, 1000]))}
    return container


@st.composite
def pods(draw: st.DrawFn) -> Document:
    """Return a Pod with any of the parts that matter to injection. At least one container gets credentials."""
    names = draw(st.lists(st.sampled_from(["web", "worker", "proxy", "log"]), min_size=1, max_size=3, unique=True))
    app: Document = {"name": "app", "image": "app"}
    app |= draw(st.sampled_from([{}, {"resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}]))
    spec: Document = {"containers": [*(draw(_containers(name)) for name in names), app]}
    if draw(st.booleans()):
        spec["initContainers"] = [
            draw(_containers(name)) for name in draw(st.sampled_from([[], ["setup"], ["a", "b"]]))
        ]
        for container in spec["initContainers"]:
            if draw(st.booleans()):
                container["restartPolicy"] = "Always"
    volumes = draw(st.sampled_from([None, [], [{"name": "data", "emptyDir": {}}], [AMAZONS_VOLUME]]))
    if volumes is not None:
        spec["volumes"] = volumes
    if draw(st.booleans()):
        spec["securityContext"] = draw(
            st.sampled_from([{}, {"runAsUser": 1000}, {"fsGroup": 1000, "runAsNonRoot": True}])
        )
    spec |= draw(
        st.sampled_from(
            [
                {},
                {"terminationGracePeriodSeconds": 0},
                {"terminationGracePeriodSeconds": 10**6},
                {"shareProcessNamespace": True},
                {"ephemeralContainers": [{"name": "debug"}]},
                {"nodeName": "n"},
            ]
        )
    )
    return {"apiVersion": "v1", "kind": "Pod", "metadata": draw(_metadata(names)), "spec": spec}


@st.composite
def _metadata(draw: st.DrawFn, names: list[str]) -> Document:
    metadata: Document = {"generateName": "cart-", "labels": {"irsa-sidecar.io/inject": "true"}}
    annotations: dict[str, str] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "example.com/owner": st.just("me"),
                "eks.amazonaws.com/skip-containers": st.sampled_from(["web", "log, proxy"]),
                "irsa-sidecar.io/audience": st.just("sts.example.com"),
                "irsa-sidecar.io/token-expiration": st.just("3600"),
                "irsa-sidecar.io/duration": st.sampled_from(["900", "max"]),
                "irsa-sidecar.io/session-name": st.just("{namespace}.{pod}"),
            },
        )
    )
    if draw(st.booleans()):
        annotations["irsa-sidecar.io/skip-containers"] = draw(st.sampled_from(names))
    elif draw(st.booleans()):
        annotations["irsa-sidecar.io/roles"] = (
            f"- {{name: default, role_arn: '{ARN}'}}\n- {{name: Rep.1, role_arn: '{OTHER_ARN}', containers: [app]}}"
        )
    return metadata | ({"annotations": annotations} if annotations else {})


P = "irsa-sidecar.io/"


def injected(
    original: Document, settings: Settings = SETTINGS, service_account: ServiceAccount | None = ACCOUNT
) -> Document:
    return inject(original, service_account, settings).pod


def rejection(
    original: Document, settings: Settings = SETTINGS, service_account: ServiceAccount | None = ACCOUNT
) -> str:
    with pytest.raises(ConfigurationError) as caught:
        inject(original, service_account, settings)
    assert caught.value.fix
    return str(caught.value)


def app(*env: tuple[str, str], **more: Any) -> Document:
    return {"name": "app", "image": "app", "env": [{"name": name, "value": value} for name, value in env], **more}


EMPTY: dict[str, Document] = {
    "an empty text": {"value": ""},
    "null": {"value": None},
    "no value": {},
    "no value and no source": {"valueFrom": None},
    "an empty text and no source": {"value": "", "valueFrom": None},
}
VALUE_FROM: list[Document] = [
    {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    {"valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
    {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    {"value": "", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
]
