"""
Plan the move of a namespace's Pods from one source of credentials to another. Pure.

Each change names its target with the value before and after. Therefore a change can be checked, repeated and undone.

Rule: the new source works before the old source is removed. A plan never removes a statement of a trust policy.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.injection.names import EKS_AUDIENCE, EKS_ROLE_ARN, INJECT_LABEL, INJECT_TRUE
from sidecar.setup.resources import DEFAULT_AUDIENCE, IamRole
from sidecar.setup.trust_policy import TrustGrant, check_size, normalised, statements_of, with_grant

KUBE2IAM_ROLE = "iam.amazonaws.com/role"
"""Annotation in which kube2iam and kiam read the role of a Pod (README of kube2iam)."""

KUBE2IAM_OTHERS = ("iam.amazonaws.com/external-id", "iam.amazonaws.com/session-name")

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""Annotation that `kubectl rollout restart` writes into a Pod template."""

POD_IDENTITY_STATEMENT = {
    "Effect": "Allow",
    "Principal": {"Service": "pods.eks.amazonaws.com"},
    "Action": ["sts:AssumeRole", "sts:TagSession"],
}
"""The statement for EKS Pod Identity (EKS User Guide, "Assign an IAM role to a Kubernetes service account")."""


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


def plan_migration(service_accounts: tuple[ServiceAccount, ...], roles: Mapping[str, IamRole], goal: Goal) -> Plan:
    """
    Return the plan for all ServiceAccounts that use the source. `roles` are the account's roles by name.

    A ServiceAccount is not moved if a trust policy would become too long, or if our statement in it was edited.
    """
    changes: list[Change] = []
    moved: list[str] = []
    kept: list[str] = []
    lost: list[str] = []
    policies: dict[str, Mapping[str, Any]] = {}
    for service_account in service_accounts:
        wanted = roles_of(service_account, goal.source)
        if not wanted:
            continue
        problem = _problem(service_account, wanted, roles, goal)
        if problem:
            lost.append(f"{service_account.key} is not moved: {problem}")
            continue
        role = roles[role_name(next(iter(wanted)))]
        before = policies.get(role.name, role.trust_policy)
        try:
            after = _trust_policy(before, service_account, goal, role)
        except ConfigurationError as exc:
            lost.append(f"{service_account.key} is not moved: {exc}")
            continue
        if after != before:
            changes.append(_trust_change(role.name, before, after, service_account, goal))
        policies[role.name] = after
        changes += _moves(service_account, role, goal)
        moved.append(service_account.name)
        kept.append(f"{service_account.key} keeps {role.title}")
        lost += _losses(service_account, goal)
    return Plan(_in_order(changes), tuple(moved), tuple(kept), tuple(lost))


def undo_of(made: Iterable[Change]) -> tuple[Change, ...]:
    """
    Return the changes that restore the state before these changes.

    The old source comes first, then the restart of the Pods. The new source is removed last, when no Pod uses it.
    """
    return _in_order(change.undone() for change in reversed([*made]))


def _in_order(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return the changes by phase. Pods restart last in their phase, because they read the ServiceAccount then."""
    order = {phase: index for index, phase in enumerate(Phase)}
    return tuple(sorted(changes, key=lambda change: (order[change.phase], change.kind is Kind.TEMPLATE)))


def _problem(
    service_account: ServiceAccount, wanted: frozenset[str], roles: Mapping[str, IamRole], goal: Goal
) -> str | None:
    """Return the reason why the ServiceAccount cannot be moved, or None."""
    if len({*map(role_name, wanted)}) > 1:
        return (
            f"its workloads use the roles {', '.join(sorted(wanted))}. Create a ServiceAccount for each role, and run "
            "this again"
        )
    for role in sorted(wanted):
        found = roles.get(role_name(role))
        if found is None or (role.startswith("arn:") and found.arn != role):
            return f"{role} is not a role of this account. Create one here, or chain from a role of this account"
    found = roles[role_name(next(iter(wanted)))]
    return _obstacle(service_account, found, goal)


def _obstacle(service_account: ServiceAccount, found: IamRole, goal: Goal) -> str | None:
    """Return the reason why a ServiceAccount with one existing role cannot be moved, or None."""
    others = [workload.title for workload in service_account.workloads if KUBE2IAM_ROLE not in workload.annotations]
    if goal.source is Source.KUBE2IAM and others:
        return (
            f"{', '.join(others)} would get the role too. Create a ServiceAccount for the workloads with the role, and "
            "run this again"
        )
    association = service_account.association or {}
    if goal.source is Source.POD_IDENTITY and (settings := [name for name in _ROLES_FILE if association.get(name)]):
        return f"its association has {', '.join(settings)}, which needs a roles file. Move it by hand (docs/migrate.md)"
    if goal.target is Source.SIDECAR and service_account.annotations.get(EKS_ROLE_ARN, found.arn) != found.arn:
        return f"it is annotated with another role, {service_account.annotations[EKS_ROLE_ARN]}. Remove the annotation"
    if goal.target is Source.POD_IDENTITY and service_account.association is not None:
        return "it already has an association. Delete the association, or remove the other source"
    if not service_account.workloads:
        return "no Deployment, StatefulSet, DaemonSet or CronJob uses it, so nothing would be restarted"
    return None


def _trust_policy(
    before: Mapping[str, Any], service_account: ServiceAccount, goal: Goal, role: IamRole
) -> Mapping[str, Any]:
    if goal.target is Source.SIDECAR:
        audience = service_account.annotations.get(EKS_AUDIENCE, DEFAULT_AUDIENCE)
        subject = f"system:serviceaccount:{service_account.namespace}:{service_account.name}"
        after: Mapping[str, Any] = with_grant(before, TrustGrant(goal.provider_arn, goal.issuer, audience, (subject,)))
    else:
        statements = statements_of(before)
        is_there = any(_is_for_pod_identity(statement) for statement in statements)
        after = before if is_there else {**before, "Statement": [*statements, POD_IDENTITY_STATEMENT]}
    check_size(after, goal.trust_policy_limit, role.title)
    return after


def _is_for_pod_identity(statement: Any) -> bool:
    """Return whether the statement lets every association use the role, without conditions."""
    return isinstance(statement, Mapping) and bool(normalised(statement) == normalised(POD_IDENTITY_STATEMENT))


def _trust_change(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], service_account: ServiceAccount, goal: Goal
) -> Change:
    whom = service_account.key if goal.target is Source.SIDECAR else "EKS Pod Identity"
    return Change(Kind.TRUST_POLICY, name, before, after, f"let role {name} trust {whom}")


def _moves(service_account: ServiceAccount, role: IamRole, goal: Goal) -> Iterator[Change]:
    """Yield the changes of one ServiceAccount, besides the trust policy."""
    if goal.target is Source.SIDECAR:
        if EKS_ROLE_ARN not in service_account.annotations:
            yield _annotation(
                service_account, None, role.arn, f"annotate ServiceAccount {service_account.key} with {role.arn}"
            )
        yield from (_switched(workload, goal) for workload in service_account.workloads if not _is_done(workload))
        if service_account.association is not None:
            title = f"delete the association of {service_account.key} with {role.arn}"
            yield Change(Kind.ASSOCIATION, service_account.key, service_account.association, None, title, Phase.FINISH)
        return
    created = {"roleArn": role.arn}
    yield Change(
        Kind.ASSOCIATION, service_account.key, None, created, f"associate {service_account.key} with {role.arn}"
    )
    if EKS_ROLE_ARN in service_account.annotations:
        # An SDK prefers the token of IRSA, so the annotation must be gone before the Pods restart.
        title = f"remove the annotation {EKS_ROLE_ARN} of ServiceAccount {service_account.key}"
        yield _annotation(service_account, service_account.annotations[EKS_ROLE_ARN], None, title, Phase.SWITCH)
    yield from (_switched(workload, goal) for workload in service_account.workloads)


def _annotation(
    service_account: ServiceAccount, before: str | None, after: str | None, title: str, phase: Phase = Phase.PREPARE
) -> Change:
    pointer = _pointer("/metadata", "annotations", EKS_ROLE_ARN)
    return Change(Kind.SERVICE_ACCOUNT, service_account.key, {pointer: before}, {pointer: after}, title, phase)


def _is_done(workload: Workload) -> bool:
    return workload.labels.get(INJECT_LABEL) == INJECT_TRUE and KUBE2IAM_ROLE not in workload.annotations


def _switched(workload: Workload, goal: Goal) -> Change:
    """Return the change of a Pod template. Every change of a template restarts the workload's Pods."""
    after: dict[str, str | None] = {}
    if goal.source is Source.KUBE2IAM:
        after |= {
            _pointer(workload.template, "annotations", name): None
            for name in (KUBE2IAM_ROLE, *KUBE2IAM_OTHERS)
            if name in workload.annotations
        }
    if goal.target is Source.SIDECAR:
        after[_pointer(workload.template, "labels", INJECT_LABEL)] = INJECT_TRUE
    else:
        after[_pointer(workload.template, "annotations", RESTARTED_AT)] = goal.restarted_at
    values = {
        _pointer(workload.template, part, name): value
        for part, found in (("labels", workload.labels), ("annotations", workload.annotations))
        for name, value in found.items()
    }
    before = {pointer: values.get(pointer) for pointer in after}
    return Change(Kind.TEMPLATE, workload.path, before, after, f"restart {workload.title}", Phase.SWITCH)


_ROLES_FILE = ("targetRoleArn", "policy")
"""The parameters of an association that change the permissions of the Pods, and that only a roles file can replace."""


def _losses(service_account: ServiceAccount, goal: Goal) -> Iterator[str]:
    """Yield a sentence for each setting that the target does not have."""
    if goal.source is Source.POD_IDENTITY:
        yield f"{service_account.key} loses the session tags of EKS Pod Identity. A web identity session has none"
    if goal.target is Source.POD_IDENTITY:
        audience = service_account.annotations.get(EKS_AUDIENCE)
        if audience not in (None, DEFAULT_AUDIENCE):
            yield f"{service_account.key} loses its audience {audience}, because EKS Pod Identity has a fixed audience"
        if goal.source is Source.IRSA:
            yield f"the Pods of {service_account.key} need SDKs that support EKS Pod Identity, and nodes with its agent"
    for workload in service_account.workloads:
        for name in KUBE2IAM_OTHERS:
            if goal.source is Source.KUBE2IAM and name in workload.annotations:
                yield f"{workload.title} loses its annotation {name}"


def _pointer(base: str, part: str, name: str) -> str:
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
