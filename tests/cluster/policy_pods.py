"""
Generate Pods for the comparison of the policy with `sidecar.injection`: accepted and rejected Pods.

Hypothesis generates the Pods of the unit tests. A generator of random numbers then changes each of them several times,
because Hypothesis prefers the first values of a table.
"""

import random
from collections.abc import Sequence
from copy import deepcopy

import hypothesis

from sidecar.kubernetes.document import Document
from tests.unit.injection.pods import ARN, OTHER_ARN, pods

CHANGES_OF_EACH = 10
"""The number of changed Pods for each Pod that Hypothesis generates."""

LABEL = "irsa-sidecar.io/inject"
OURS, EKS = "irsa-sidecar.io/", "eks.amazonaws.com/"

ROLE = {f"{EKS}role-arn": ARN}

ACCOUNTS: dict[str, dict[str, str]] = {
    "cart": ROLE,
    "tuned": ROLE
    | {f"{EKS}audience": "sts.other", f"{EKS}token-expiration": "100000", f"{EKS}sts-regional-endpoints": "True"},
    "short": ROLE | {f"{EKS}token-expiration": "60"},
    "roleless": {},
    "wrong-role": {f"{EKS}role-arn": "arn:aws:iam::1:role/app"},
    "wrong-audience": ROLE | {f"{EKS}audience": "two words"},
    "wrong-expiration": ROLE | {f"{EKS}token-expiration": "1h"},
}
"""The annotations of each ServiceAccount of the namespace."""

ANNOTATIONS: dict[str, Sequence[str]] = {
    f"{OURS}role-arn": [
        OTHER_ARN,
        "arn:aws-cn:iam::111122223333:role/a/b",
        "role/app",
        "",
        f"{OTHER_ARN}\n",
        "é" * 150,
    ],
    f"{OURS}audience": ["a", "x" * 255, "x" * 256, "", "é"],
    f"{OURS}token-expiration": [
        "600",
        "86400",
        "599",
        "86401",
        "0000000600",
        "1e3",
        "",
        "-600",
        "99999999999999999999",
    ],
    f"{OURS}duration": ["900", "43200", "max", "899", "43201", "MAX", "", "1h"],
    f"{OURS}session-name": [
        "ab",
        "a",
        "x" * 64,
        "x" * 65,
        "{pod}",
        "{pod}" * 20,
        "{node}",
        "{",
        "a b{pod}",
        "é",
        "{a}{",
    ],
    f"{OURS}containers": ["app", "app, app", "app,web", "app,", "nobody", "", "irsa-sidecar", " app ", "setup"],
    f"{OURS}skip-containers": ["app", "web", "web,worker,proxy,log,a,b,setup", "nobody", ","],
    f"{OURS}roles": ["[]", f"- {{name: default, role_arn: '{ARN}'}}"],
    f"{OURS}region": ["eu-west-1"],
    LABEL: ["true"],
    f"{EKS}token-expiration": ["900", "1", "999999999", "x", "1000000000"],
    f"{EKS}skip-containers": ["", "app", "irsa-sidecar", ",", "web,app,web"],
    "kubernetes.io/config.mirror": ["x"],
}
"""The values of annotations, valid and invalid."""

LABELS: dict[str, Sequence[str]] = {
    LABEL: ["yes", "True", ""],
    f"{OURS}containers": ["app"],
    f"{OURS}injected": ["true"],
    f"{EKS}pod-identity": ["enabled", "disabled"],
}

VARIABLES: list[Document] = [
    {"name": "NO_PROXY", "value": "*"},
    {"name": "no_proxy", "value": " 127.0.0.1 ,x"},
    {"name": "NO_PROXY", "value": ""},
    {"name": "ALL_PROXY", "value": "socks5://proxy"},
    {"name": "http_proxy", "value": ""},
    {"name": "AWS_REGION", "value": ""},
    {"name": "AWS_DEFAULT_REGION", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": ""},
    {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://127.0.0.1:4772/v1/credentials"},
    {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": "/run/irsa-sidecar/token"},
    {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN", "value": ""},
    {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN", "value": "secret"},
    {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"},
    {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    {"name": "AWS_STS_REGIONAL_ENDPOINTS", "value": "legacy"},
]

MOUNTS: list[Document] = [
    {"name": "data", "mountPath": "/run/irsa-sidecar"},
    {"name": "data", "mountPath": "/run/irsa-sidecar/x/"},
    {"name": "data", "mountPath": "/run/irsa-sidecar-2"},
    {"name": "data", "mountPath": "/run"},
    {"name": "aws-iam-token", "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount/"},
    {"name": "irsa-sidecar-token", "mountPath": "/token"},
    {"name": "irsa-sidecar-state", "mountPath": "/state"},
    {"name": "irsa-sidecar-authorization", "mountPath": "/secret"},
]

RESOURCES: list[Document] = [
    {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}},
    {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
    {"limits": {"cpu": "0", "memory": "1Gi"}},
    {"limits": {"memory": "1Gi"}},
    {"requests": {"cpu": "1", "memory": "1Gi"}},
]

PORTS: list[Document] = [{"containerPort": 4772}, {"containerPort": 4773, "protocol": "UDP"}, {"containerPort": 4773}]

SPECS: list[Document] = [
    {"hostNetwork": True},
    {"hostNetwork": False},
    {"os": {"name": "windows"}},
    {"os": {"name": "linux"}},
    {"nodeSelector": {"kubernetes.io/os": "windows"}},
    {"nodeSelector": {"beta.kubernetes.io/os": "windows"}},
    {"nodeSelector": {"kubernetes.io/os": "linux"}},
    {"resources": {"limits": {"cpu": "2", "memory": "8Gi"}}},
    {"resources": {}},
    {"restartPolicy": "Never"},
    {"serviceAccountName": None},
    {"automountServiceAccountToken": False},
]

ALL_GUARANTEED = {"limits": {"cpu": "1", "memory": "1Gi"}}


def generated(count: int) -> list[Document]:
    """Return this number of Pods, the same in each run."""
    found: list[Document] = []

    @hypothesis.settings(
        max_examples=-(-count // CHANGES_OF_EACH),
        phases=[hypothesis.Phase.generate],
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(pods())
    def collect(pod: Document) -> None:
        found.append(pod)

    collect()
    chance = random.Random(0)
    return [changed(pod, chance) for pod in found for _ in range(CHANGES_OF_EACH)][:count]


def changed(original: Document, chance: random.Random) -> Document:
    """Return a changed copy of the Pod, with parts that the API server and injection accept or reject."""
    pod = deepcopy(original)
    spec, metadata = pod["spec"], pod["metadata"]
    spec.pop("ephemeralContainers", None)
    spec["serviceAccountName"] = chance.choice(["cart"] * 12 + ["tuned"] * 6 + list(ACCOUNTS))
    annotations = metadata.setdefault("annotations", {})
    annotations.pop(f"{OURS}roles", None)
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    if _happens(chance, 0.4):
        annotations.update(chance.choices(_pairs(ANNOTATIONS), k=chance.randint(1, 2)))
    if _happens(chance, 0.05):
        metadata["labels"].update([chance.choice(_pairs(LABELS))])
    if _happens(chance, 0.15):
        spec.update(chance.choice(SPECS))
    if _happens(chance, 0.15):
        for container in containers:
            container["resources"] = ALL_GUARANTEED
    _change_containers(containers, chance)
    return completed(pod)


def _change_containers(containers: list[Document], chance: random.Random) -> None:
    for part, values, probability in (("env", VARIABLES, 0.5), ("volumeMounts", MOUNTS, 0.1), ("ports", PORTS, 0.08)):
        if _happens(chance, probability):
            container = chance.choice(containers)
            container[part] = [*container.get(part, ()), chance.choice(values)]
    if _happens(chance, 0.15):
        chance.choice(containers)["resources"] = chance.choice(RESOURCES)
    if _happens(chance, 0.02):
        chance.choice(containers)["name"] = "irsa-sidecar"


def _happens(chance: random.Random, probability: float) -> bool:
    return chance.random() < probability


def _pairs(table: dict[str, Sequence[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, values in table.items() for value in values]


def completed(pod: Document) -> Document:
    """Return the Pod with a name, with the volumes that its containers mount, and without repeated paths."""
    spec = pod["spec"]
    spec["volumes"] = list({each["name"]: each for each in spec.get("volumes", ())}.values())
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", ())}
        if "volumeMounts" in container:
            container["volumeMounts"] = list(mounts.values())
        for name in sorted({mount["name"] for mount in mounts.values()} - {each["name"] for each in spec["volumes"]}):
            spec["volumes"].append({"name": name, "emptyDir": {}})
    pod["metadata"] = {"name": "cart", **{key: pod["metadata"][key] for key in ("labels", "annotations")}}
    return pod
