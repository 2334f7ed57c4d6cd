"""
Define the table of Pods and workloads that the policy samples of k8s/policies accept or reject.

Rule: all engines run the same table, so a test fails if the policies of two engines differ.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.manifests import SIDECAR

Document = dict[str, Any]

ROLE, LABELLED, CREDENTIALS, PROCESSES, IMAGE = (
    "role-needs-sidecar",
    "label-needs-sidecar",
    "no-other-credentials",
    "no-shared-processes",
    "trusted-image",
)
"""The rules. Each engine has a policy file with the name of the rule."""

NAMESPACE = "shop"

WITH_ROLE, WITHOUT_ROLE, EMPTY_ROLE = "with-role", "without-role", "empty-role"

ACCOUNTS: Mapping[str, str | None] = {
    WITH_ROLE: "arn:aws:iam::111122223333:role/cart",
    WITHOUT_ROLE: None,
    EMPTY_ROLE: "",
    "default": None,
}
"""The ServiceAccounts of the namespace, each with the role in its annotation, or None for no annotation."""

LABEL = "irsa-sidecar.io/inject"
DIGEST = "sha256:" + "0123456789abcdef" * 4
TRUSTED = f"ghcr.io/irsa-sidecar/irsa-sidecar@{DIGEST}"
PER_CONTAINER = "- name: a\n  role_arn: arn:aws:iam::111122223333:role/a\n  containers: [web]\n"
ONE_ROLE = "- name: default\n  role_arn: arn:aws:iam::111122223333:role/a\n"


@dataclass(frozen=True)
class Case:
    """A request, and the expected decision of the rule's policy. `message` has words of the rejection, if any."""

    name: str
    rule: str
    document: Document
    message: str | None = None
    before: Document | None = None
    """The object before an update, or None if the request creates the object."""

    @property
    def is_matched(self) -> bool:
        """Return whether the policy applies to the kind of the object. One rule ignores Pod templates."""
        return self.rule != LABELLED or self.document["kind"] == "Pod"

    @property
    def is_unchanged(self) -> bool:
        """Return whether the request is an update without a change of the fields that the policy reads."""
        return self.before is not None and self.before["spec"] == self.document["spec"] and self.message is None


@dataclass(frozen=True)
class PodParts:
    """The parts of a Pod that the rules read."""

    label: str | None = None
    account: str | None = WITHOUT_ROLE
    roles: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    web: Document = field(default_factory=dict)
    sidecar: str | None = None
    """The image of the sidecar, or None for a Pod without a sidecar."""
    spec: Document = field(default_factory=dict)


def pod(parts: PodParts) -> Document:
    """Return the metadata and the spec of a Pod, without its name."""
    annotations = {**parts.notes} | ({"irsa-sidecar.io/roles": parts.roles} if parts.roles is not None else {})
    spec: Document = {"containers": [{"name": "web", "image": "web", **parts.web}], **parts.spec}
    if parts.account is not None:
        spec["serviceAccountName"] = parts.account
    if parts.sidecar is not None:
        spec["initContainers"] = [_sidecar(parts.sidecar), *spec.get("initContainers", ())]
    labels = {"app": "web"} | ({LABEL: parts.label} if parts.label is not None else {})
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def _sidecar(image: str) -> Document:
    token = {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/irsa-sidecar/token"}
    return {"name": SIDECAR, "image": image, "restartPolicy": "Always", "env": [token]}


API_VERSIONS = {
    "Pod": "v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}
"""The API versions of the kinds whose Pods the policies check."""


def workload(kind: str, name: str, template: Document) -> Document:
    """Return a workload of this kind that creates the Pod, or the Pod if the kind is Pod."""
    if kind == "Pod":
        return _object(kind, name, **template)
    if kind in {"Job", "CronJob"}:
        template = {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}
        job: Document = {"template": template}
        cron_job = {"schedule": "0 0 * * *", "jobTemplate": {"spec": job}}
        return _object(kind, name, spec=job if kind == "Job" else cron_job)
    more = {"serviceName": "web"} if kind == "StatefulSet" else {}
    return _object(kind, name, spec={"selector": {"matchLabels": {"app": "web"}}, "template": template, **more})


def _object(kind: str, name: str, **parts: Any) -> Document:
    metadata = {**parts.pop("metadata", {}), "name": name, "namespace": NAMESPACE}
    return {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": metadata, **parts}


def variable(name: str, value: str | None = None, **source: Any) -> Document:
    """Return an entry of `env` with a value or a source."""
    return {"name": name, **({"valueFrom": source} if source else {"value": value})}


def from_secret(key: str, secret: str = "app") -> Document:
    return {"secretKeyRef": {"name": secret, "key": key}}


def _cases() -> tuple[Case, ...]:
    """Return all cases."""
    return tuple(_pods()) + tuple(_workloads()) + tuple(_updates())


def _pods() -> Iterator[Case]:
    for (rule, name), (parts, message) in _PODS.items():
        document = workload("Pod", f"{rule}-{name}", pod(parts if rule == LABELLED else _injected(parts)))
        yield Case(f"{rule}-{name}", rule, document, message)
    bare: Document = {"spec": {"containers": [{"name": "web", "image": "web"}]}}
    for rule in (ROLE, LABELLED, CREDENTIALS, PROCESSES, IMAGE):
        yield Case(f"{rule}-bare", rule, workload("Pod", f"{rule}-bare", bare))


def _injected(parts: PodParts) -> PodParts:
    """Return the parts with a sidecar if the label is `true`, so that only one rule rejects the Pod."""
    return replace(parts, sidecar=TRUSTED) if parts.label == "true" and parts.sidecar is None else parts


def _workloads() -> Iterator[Case]:
    """Yield one rejected and one accepted workload of each kind for each rule. LABELLED rejects no workload."""
    for rule, (bad, good, message) in _EXAMPLES.items():
        for kind in API_VERSIONS:
            if kind != "Pod":
                for name, parts, text in (("bad", bad, message), ("good", good, None)):
                    full = f"{rule}-{kind.lower()}-{name}"
                    yield Case(full, rule, workload(kind, full, pod(parts)), text)
    for kind in API_VERSIONS:
        if kind != "Pod":
            full = f"{LABELLED}-{kind.lower()}"
            yield Case(full, LABELLED, workload(kind, full, pod(PodParts("true"))), None)


def _updates() -> Iterator[Case]:
    for (rule, name), (before, after, message) in _UPDATES.items():
        full = f"{rule}-update-{name}"
        documents = [workload("Pod", full, pod(parts)) for parts in (before, after)]
        yield Case(full, rule, documents[1], message, documents[0])


def _env(*variables: Document) -> Document:
    return {"env": list(variables)}


def _key(name: str = "AWS_ACCESS_KEY_ID", **source: Any) -> Document:
    return _env(variable(name, None if source else "AKIAIOSFODNN7EXAMPLE", **source))


def _secret(name: str) -> Document:
    return {"envFrom": [{"secretRef": {"name": name}}]}


_NO_SIDECAR = 'The label irsa-sidecar.io/inject is not "true": ServiceAccount with-role has a role'
_NOT_INJECTED = 'The label irsa-sidecar.io/inject is "true", but the Pod has no container irsa-sidecar: '
_KEYS = "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is set in web: "
_SECRETS = "A Secret with AWS keys is in the environment of web: "
_TOKENS = "AWS_WEB_IDENTITY_TOKEN_FILE is set in web: "
_SHARED = "shareProcessNamespace is true: "
_UNTRUSTED = "The image of container irsa-sidecar is not ghcr.io/irsa-sidecar/irsa-sidecar with a digest: "

_TAG = "irsa-sidecar:0.1.0"
_SHARING: Document = {"shareProcessNamespace": True}
_FIRST: Document = {"initContainers": [{"name": "first", "image": "first", **_key()}]}
_NOTED = {"note": "changed"}

_PODS: Mapping[tuple[str, str], tuple[PodParts, str | None]] = {
    (ROLE, "without-label"): (PodParts(account=WITH_ROLE), _NO_SIDECAR),
    (ROLE, "label-false"): (PodParts("false", WITH_ROLE), _NO_SIDECAR),
    (ROLE, "label-yes"): (PodParts("yes", WITH_ROLE), _NO_SIDECAR),
    (ROLE, "label-true"): (PodParts("true", WITH_ROLE), None),
    (ROLE, "sidecar-in-manifest"): (PodParts(account=WITH_ROLE, sidecar=TRUSTED), None),
    (ROLE, "account-without-role"): (PodParts(account=WITHOUT_ROLE), None),
    (ROLE, "account-with-empty-role"): (PodParts(account=EMPTY_ROLE), None),
    (ROLE, "default-account"): (PodParts(account=None), None),
    (LABELLED, "without-container"): (PodParts("true"), _NOT_INJECTED),
    (LABELLED, "native-sidecar"): (PodParts("true", sidecar=TRUSTED), None),
    (LABELLED, "plain-sidecar"): (
        PodParts("true", spec={"containers": [{"name": SIDECAR, "image": TRUSTED}]}),
        None,
    ),
    (LABELLED, "label-false"): (PodParts("false"), None),
    (LABELLED, "no-label"): (PodParts(), None),
    (CREDENTIALS, "key-id"): (PodParts("true", web=_key()), _KEYS),
    (CREDENTIALS, "secret-key"): (PodParts("true", web=_key("AWS_SECRET_ACCESS_KEY")), _KEYS),
    (CREDENTIALS, "key-from-secret"): (PodParts("true", web=_key(**from_secret("id"))), _KEYS),
    (CREDENTIALS, "key-in-init-container"): (PodParts("true", spec=_FIRST), "AWS_SECRET_ACCESS_KEY is set in first: "),
    (CREDENTIALS, "keys-in-two-containers"): (PodParts("true", web=_key(), spec=_FIRST), " is set in first, web: "),
    (CREDENTIALS, "key-beside-manifest"): (PodParts(sidecar=TRUSTED, web=_key()), _KEYS),
    (CREDENTIALS, "renamed-key"): (PodParts("true", web=_key("ID", **from_secret("AWS_ACCESS_KEY_ID"))), _SECRETS),
    (CREDENTIALS, "renamed-key-small"): (
        PodParts("true", web=_key("K", **from_secret("aws-secret-access-key"))),
        _SECRETS,
    ),
    (CREDENTIALS, "whole-secret"): (PodParts("true", web=_secret("shop-aws-credentials")), _SECRETS),
    (CREDENTIALS, "token-file"): (
        PodParts("true", web=_env(variable("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"))),
        _TOKENS,
    ),
    (CREDENTIALS, "no-variables"): (PodParts("true", sidecar=TRUSTED), None),
    (CREDENTIALS, "empty-variables"): (
        PodParts("true", web=_env(variable("AWS_ACCESS_KEY_ID", ""), variable("AWS_WEB_IDENTITY_TOKEN_FILE", ""))),
        None,
    ),
    (CREDENTIALS, "other-secrets"): (
        PodParts("true", web={**_key("PASSWORD", **from_secret("password")), **_secret("aws-keyspaces")}),
        None,
    ),
    (CREDENTIALS, "config-map"): (
        PodParts("true", web={"envFrom": [{"configMapRef": {"name": "aws-credentials"}}]}),
        None,
    ),
    (CREDENTIALS, "keys-without-sidecar"): (PodParts(web=_key()), None),
    (CREDENTIALS, "keys-with-label-false"): (PodParts("false", web=_key()), None),
    (PROCESSES, "role-per-container"): (PodParts("true", roles=PER_CONTAINER, spec=_SHARING), _SHARED),
    (PROCESSES, "role-per-container-json"): (
        PodParts("true", roles='[{"name":"a","containers":["web"]}]', spec=_SHARING),
        _SHARED,
    ),
    (PROCESSES, "one-role"): (PodParts("true", roles=ONE_ROLE, spec=_SHARING), None),
    (PROCESSES, "no-roles"): (PodParts("true", spec=_SHARING), None),
    (PROCESSES, "not-shared"): (PodParts("true", roles=PER_CONTAINER), None),
    (PROCESSES, "sharing-off"): (
        PodParts("true", roles=PER_CONTAINER, spec={"shareProcessNamespace": False}),
        None,
    ),
    (IMAGE, "other-repository"): (PodParts(sidecar=f"ghcr.io/somebody/irsa-sidecar@{DIGEST}"), _UNTRUSTED),
    (IMAGE, "longer-repository"): (PodParts(sidecar=f"ghcr.io/irsa-sidecar/irsa-sidecar-2@{DIGEST}"), _UNTRUSTED),
    (IMAGE, "tag"): (PodParts(sidecar="ghcr.io/irsa-sidecar/irsa-sidecar:0.1.0"), _UNTRUSTED),
    (IMAGE, "repository-of-the-same-length"): (PodParts(sidecar=TRUSTED.replace("/irsa-", "/evil-")), _UNTRUSTED),
    (IMAGE, "short-digest"): (PodParts(sidecar=TRUSTED[:-1]), _UNTRUSTED),
    (IMAGE, "long-digest"): (PodParts(sidecar=f"{TRUSTED}0"), _UNTRUSTED),
    (IMAGE, "plain-container"): (
        PodParts(spec={"containers": [{"name": SIDECAR, "image": _TAG}]}),
        _UNTRUSTED,
    ),
    (IMAGE, "digest"): (PodParts(sidecar=TRUSTED), None),
    (IMAGE, "tag-and-digest"): (PodParts(sidecar=f"ghcr.io/irsa-sidecar/irsa-sidecar:0.1.0@{DIGEST}"), None),
    (IMAGE, "no-sidecar"): (PodParts(), None),
}
"""The parts of each Pod and the message of the rejection, by the rule and a name."""

_EXAMPLES: Mapping[str, tuple[PodParts, PodParts, str]] = {
    ROLE: (PodParts(account=WITH_ROLE), PodParts("true", WITH_ROLE), _NO_SIDECAR),
    CREDENTIALS: (PodParts("true", web=_key()), PodParts("true"), _KEYS),
    PROCESSES: (PodParts(roles=PER_CONTAINER, spec=_SHARING), PodParts(roles=PER_CONTAINER), _SHARED),
    IMAGE: (PodParts(sidecar=_TAG), PodParts(sidecar=TRUSTED), _UNTRUSTED),
}
"""A rejected and an accepted Pod template for each rule, and the message of the rejection."""

_UPDATES: Mapping[tuple[str, str], tuple[PodParts, PodParts, str | None]] = {
    (ROLE, "of-older-pod"): (PodParts(account=WITH_ROLE), PodParts(account=WITH_ROLE, notes=_NOTED), None),
    (ROLE, "removes-label"): (PodParts("true", WITH_ROLE), PodParts(None, WITH_ROLE), _NO_SIDECAR),
    (LABELLED, "of-older-pod"): (PodParts("true"), PodParts("true", notes=_NOTED), None),
    (CREDENTIALS, "of-older-pod"): (PodParts("true", web=_key()), PodParts("true", web=_key(), notes=_NOTED), None),
    (CREDENTIALS, "adds-label"): (PodParts(web=_key()), PodParts("true", web=_key()), _KEYS),
    (PROCESSES, "of-older-pod"): (
        PodParts(roles=PER_CONTAINER, spec=_SHARING),
        PodParts(roles=PER_CONTAINER, spec=_SHARING, notes=_NOTED),
        None,
    ),
    (PROCESSES, "adds-roles"): (
        PodParts(roles=ONE_ROLE, spec=_SHARING),
        PodParts(roles=PER_CONTAINER, spec=_SHARING),
        _SHARED,
    ),
    (IMAGE, "of-older-pod"): (
        PodParts(sidecar=_TAG),
        PodParts(sidecar=_TAG, notes=_NOTED),
        None,
    ),
    (IMAGE, "changes-image"): (PodParts(sidecar=TRUSTED), PodParts(sidecar=_TAG), _UNTRUSTED),
}
"""The updates of Pods: the Pod before, the Pod after, and the message of the rejection."""

CASES = _cases()
"""The table of all cases."""
