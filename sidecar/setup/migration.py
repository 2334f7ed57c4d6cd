"""
Define the changes of a migration from one source of credentials to another, and their order. Pure.

Each change names its target with the value before and after. Therefore a change can be checked, repeated and undone.

Rule: the new source works before the old source is removed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from sidecar.injection.names import EKS_ROLE_ARN

KUBE2IAM_ROLE = "iam.amazonaws.com/role"
"""Annotation in which kube2iam and kiam read the role of a Pod (README of kube2iam)."""

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""Annotation that `kubectl rollout restart` writes into a Pod template."""


class Source(StrEnum):
    """A source of credentials."""

    IRSA = "irsa"
    POD_IDENTITY = "pod-identity"
    KUBE2IAM = "kube2iam"
    SIDECAR = "sidecar"


class Kind(StrEnum):
    """The kind of a change's target."""

    TRUST_POLICY = "trust-policy"
    ASSOCIATION = "association"
    SERVICE_ACCOUNT = "service-account"
    TEMPLATE = "template"


class Phase(StrEnum):
    """
    The phase of a change.

    PREPARE adds the new source, SWITCH restarts Pods with it, and FINISH removes the old source when no Pod uses it.
    """

    PREPARE = "prepare"
    SWITCH = "switch"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Change:
    """
    One change.

    `target` is the name of a role, the `namespace/name` of a ServiceAccount, or the path of a workload. `before` and
    `after` are a trust policy, the parameters of an association, or the changed labels and annotations by pointer, such
    as `/metadata/annotations/NAME`. None means absent.
    """

    kind: Kind
    target: str
    before: Any
    after: Any
    title: str
    phase: Phase = Phase.PREPARE

    def undone(self) -> "Change":
        """Return the change that restores the former value. It never removes the new source before Pods restart."""
        new_source = self.kind in (Kind.TRUST_POLICY, Kind.ASSOCIATION) and self.phase is not Phase.FINISH
        phase = Phase.FINISH if new_source else Phase.PREPARE if self.phase is Phase.FINISH else Phase.SWITCH
        return replace(self, before=self.after, after=self.before, title=f"undo: {self.title}", phase=phase)


class Workload(NamedTuple):
    """
    A workload that creates Pods. `template` is the pointer of its Pod template's metadata.

    `labels` and `annotations` are those of the template.
    """

    title: str
    path: str
    template: str
    service_account: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A ServiceAccount with its workloads, and its association if it has one (EKS API, PodIdentityAssociation)."""

    namespace: str
    name: str
    annotations: Mapping[str, str]
    workloads: tuple[Workload, ...] = ()
    association: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Goal(NamedTuple):
    """
    The settings of a migration.

    `cluster` is the name of the EKS cluster, or None. `provider_arn` and `issuer` are those of the cluster's tokens.
    """

    source: Source
    target: Source
    cluster: str | None
    issuer: str
    provider_arn: str
    trust_policy_limit: int
    restarted_at: str


class Plan(NamedTuple):
    """
    The changes of a migration, what stays as it is, and what cannot be kept or moved.

    `moved` are the names of the ServiceAccounts that are moved.
    """

    changes: tuple[Change, ...]
    moved: tuple[str, ...]
    kept: tuple[str, ...]
    lost: tuple[str, ...]


def roles_of(service_account: ServiceAccount, source: Source) -> frozenset[str]:
    """Return the roles, as ARNs or names, that the ServiceAccount's Pods get from the source."""
    match source:
        case Source.IRSA:
            found = [service_account.annotations.get(EKS_ROLE_ARN)]
        case Source.POD_IDENTITY:
            found = [(service_account.association or {}).get("roleArn")]
        case _:
            found = [workload.annotations.get(KUBE2IAM_ROLE) for workload in service_account.workloads]
    return frozenset(role for role in found if role)


def role_name(role: str) -> str:
    """Return the role's name in an ARN, a path or a name."""
    return role.rpartition("/")[2] or role


def undo_of(made: Iterable[Change]) -> tuple[Change, ...]:
    """
    Return the changes that restore the state before these changes.

    The old source comes first, then the restart of the Pods. The new source is removed last, when no Pod uses it.
    """
    return in_order(change.undone() for change in reversed([*made]))


def in_order(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return the changes by phase. Pods restart last in their phase, because they read the ServiceAccount then."""
    order = {phase: index for index, phase in enumerate(Phase)}
    return tuple(sorted(changes, key=lambda change: (order[change.phase], change.kind is Kind.TEMPLATE)))


def pointer_to(base: str, part: str, name: str) -> str:
    """Return the JSON pointer (RFC 6901) of a label or annotation."""
    return f"{base}/{part}/{name.replace('~', '~0').replace('/', '~1')}"


def merge_patch(values: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the JSON merge patch that sets the labels and annotations with these pointers."""
    patch: dict[str, Any] = {}
    for pointer, value in values.items():
        *parents, last = _names(pointer)
        place = patch
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return patch


def values_at(document: Mapping[str, Any], pointers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document's values at the pointers. A missing value is None."""
    return {pointer: _value_at(document, pointer) for pointer in pointers}


def _value_at(document: Any, pointer: str) -> Any:
    for name in _names(pointer):
        document = (document or {}).get(name)
    return document


def _names(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]
