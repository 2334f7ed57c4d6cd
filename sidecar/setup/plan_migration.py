"""
Plan which roles, ServiceAccounts and workloads of a namespace a migration changes. Pure.

Rule: the new source works before the old source is removed. A plan never removes a statement of a trust policy.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.injection.names import EKS_AUDIENCE, EKS_ROLE_ARN, INJECT_LABEL, INJECT_TRUE
from sidecar.setup.migration import (
    KUBE2IAM_ROLE,
    RESTARTED_AT,
    Change,
    Goal,
    Kind,
    Phase,
    Plan,
    ServiceAccount,
    Source,
    Workload,
    in_order,
    pointer_to,
    role_name,
    roles_of,
)
from sidecar.setup.resources import DEFAULT_AUDIENCE, IamRole
from sidecar.setup.trust_policy import TrustGrant, check_size, normalised, statements_of, with_grant

POD_IDENTITY_STATEMENT = {
    "Effect": "Allow",
    "Principal": {"Service": "pods.eks.amazonaws.com"},
    "Action": ["sts:AssumeRole", "sts:TagSession"],
}
"""The statement for EKS Pod Identity (EKS User Guide, "Assign an IAM role to a Kubernetes service account")."""


KUBE2IAM_OTHERS = ("iam.amazonaws.com/external-id", "iam.amazonaws.com/session-name")


class _Move(NamedTuple):
    """The move of one ServiceAccount. `trust_policy` is the role's trust policy afterwards."""

    service_account: ServiceAccount
    role: IamRole
    trust_policy: Mapping[str, Any]
    changes: tuple[Change, ...]


Roles = Mapping[str, IamRole | str]
"""The account's roles by name. The value of a role that cannot be read is the reason."""


def plan_migration(service_accounts: Iterable[ServiceAccount], roles: Roles, goal: Goal) -> Plan:
    """
    Return the plan for all ServiceAccounts that use the source.

    A ServiceAccount is not moved if a trust policy would become too long, or if our statement in it was edited.
    """
    moves: list[_Move] = []
    lost: list[str] = []
    policies: dict[str, Mapping[str, Any]] = {}
    for service_account in service_accounts:
        wanted = roles_of(service_account, goal.source)
        if not wanted:
            continue
        move = _move(service_account, wanted, roles, policies, goal)
        if isinstance(move, str):
            lost.append(f"{service_account.key} is not moved: {move}")
            continue
        policies[move.role.name] = move.trust_policy
        moves.append(move)
        lost += _losses(service_account, goal)
    return _joined(moves, lost)


def _joined(moves: Iterable[_Move], lost: Iterable[str]) -> Plan:
    found = [*moves]
    return Plan(
        in_order(change for move in found for change in move.changes),
        tuple(move.service_account.name for move in found),
        tuple(f"{move.service_account.key} keeps {move.role.title}" for move in found),
        tuple(lost),
    )


def _move(
    service_account: ServiceAccount,
    wanted: frozenset[str],
    roles: Roles,
    policies: Mapping[str, Mapping[str, Any]],
    goal: Goal,
) -> _Move | str:
    """
    Return the move of a ServiceAccount with these roles, or the reason why it cannot be moved.

    `policies` are the trust policies after the moves of other ServiceAccounts, by the role's name.
    """
    role = _role(wanted, roles)
    problem = role if isinstance(role, str) else _obstacle(service_account, role, goal)
    if isinstance(role, str) or problem is not None:
        return str(problem)
    before = policies.get(role.name, role.trust_policy)
    try:
        after = _trust_policy(before, service_account, goal, role)
    except ConfigurationError as exc:
        return str(exc)
    trust = () if after == before else (_trust_change(role.name, before, after, service_account, goal),)
    return _Move(service_account, role, after, (*trust, *_changes(service_account, role, goal)))


def _role(wanted: frozenset[str], roles: Roles) -> IamRole | str:
    """Return the only role that a ServiceAccount's Pods use, or the reason why there is no such role."""
    if len({*map(role_name, wanted)}) > 1:
        return (
            f"its workloads use the roles {', '.join(sorted(wanted))}. Create a ServiceAccount for each role, and run "
            "this again"
        )
    found = roles.get(role_name(next(iter(wanted))))
    for role in sorted(wanted):
        if found is None or (isinstance(found, IamRole) and role.startswith("arn:") and found.arn != role):
            return f"{role} is not a role of this account. Create one here, or chain from a role of this account"
    assert found is not None
    return found


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


def _changes(service_account: ServiceAccount, role: IamRole, goal: Goal) -> Iterator[Change]:
    """Yield the changes of one ServiceAccount, besides the trust policy."""
    make = _changes_to_sidecar if goal.target is Source.SIDECAR else _changes_to_pod_identity
    yield from make(service_account, role, goal)


def _changes_to_sidecar(service_account: ServiceAccount, role: IamRole, goal: Goal) -> Iterator[Change]:
    key = service_account.key
    if EKS_ROLE_ARN not in service_account.annotations:
        yield _annotation(service_account, None, role.arn, f"annotate ServiceAccount {key} with {role.arn}")
    yield from (_switched(workload, goal) for workload in service_account.workloads if not _is_done(workload))
    if service_account.association is not None:
        title = f"delete the association of {key} with {role.arn}"
        yield Change(Kind.ASSOCIATION, key, service_account.association, None, title, Phase.FINISH)


def _changes_to_pod_identity(service_account: ServiceAccount, role: IamRole, goal: Goal) -> Iterator[Change]:
    key = service_account.key
    yield Change(Kind.ASSOCIATION, key, None, {"roleArn": role.arn}, f"associate {key} with {role.arn}")
    if EKS_ROLE_ARN in service_account.annotations:
        # An SDK prefers the token of IRSA, so the annotation must be gone before the Pods restart.
        title = f"remove the annotation {EKS_ROLE_ARN} of ServiceAccount {key}"
        yield _annotation(service_account, service_account.annotations[EKS_ROLE_ARN], None, title, Phase.SWITCH)
    yield from (_switched(workload, goal) for workload in service_account.workloads)


def _annotation(
    service_account: ServiceAccount, before: str | None, after: str | None, title: str, phase: Phase = Phase.PREPARE
) -> Change:
    pointer = pointer_to("/metadata", "annotations", EKS_ROLE_ARN)
    return Change(Kind.SERVICE_ACCOUNT, service_account.key, {pointer: before}, {pointer: after}, title, phase)


def _is_done(workload: Workload) -> bool:
    return workload.labels.get(INJECT_LABEL) == INJECT_TRUE and KUBE2IAM_ROLE not in workload.annotations


def _switched(workload: Workload, goal: Goal) -> Change:
    """Return the change of a Pod template. Every change of a template restarts the workload's Pods."""
    after: dict[str, str | None] = {}
    if goal.source is Source.KUBE2IAM:
        after |= {
            pointer_to(workload.template, "annotations", name): None
            for name in (KUBE2IAM_ROLE, *KUBE2IAM_OTHERS)
            if name in workload.annotations
        }
    if goal.target is Source.SIDECAR:
        after[pointer_to(workload.template, "labels", INJECT_LABEL)] = INJECT_TRUE
    else:
        after[pointer_to(workload.template, "annotations", RESTARTED_AT)] = goal.restarted_at
    values = {
        pointer_to(workload.template, part, name): value
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
