"""Plan the changes that give an IAM role the wanted settings. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import DEFAULT_POLICY_CHARACTERS
from sidecar.setup.plan import Call, Plan
from sidecar.setup.request_conditions import session_name_remarks
from sidecar.setup.resources import DEFAULT_SESSION_SECONDS, Account, IamRole, tag_list
from sidecar.setup.role_chain import ChainChange, with_permission
from sidecar.setup.trust_policy import (
    REMOVES,
    Change,
    TrustGrant,
    check_size,
    compact,
    own_conditions,
    own_subjects,
    summary,
    with_grant,
)
from sidecar.setup.trust_remarks import remarks_on, still_allowed, without_conditions

ATTACHED_POLICIES = 10
"""IAM's default quota for managed policies on one role. AWS can raise this quota to 20."""


@dataclass(frozen=True, slots=True)
class WantedRole:
    """
    The settings that a person wants for a role.

    None keeps the current value. For a new role, None means IAM's default. Without `grant`, the role must exist, and
    its trust policy is not changed. `chain` adds or removes the permission to assume another role.
    """

    name: str
    grant: TrustGrant | None
    path: str | None = None
    max_session_seconds: int | None = None
    boundary_arn: str | None = None
    policy_arns: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    trust_policy_limit: int = DEFAULT_POLICY_CHARACTERS
    change: Change = Change.ADD
    overwrite_edits: bool = False
    chain: ChainChange | None = None


def plan_role(current: IamRole | None, wanted: WantedRole, account: Account) -> Plan:
    """
    Return the plan that gives the role the wanted settings.

    Raises ConfigurationError if IAM cannot make the changes, or if a role that must exist does not exist.
    """
    planned = _planned(current, wanted, account)
    check_size(planned.trust_policy, wanted.trust_policy_limit, planned.title)
    calls = tuple(_creation(planned)) if current is None else tuple(_update(current, planned))
    return Plan(
        planned,
        current,
        calls,
        tuple(_notes(current, planned, wanted.grant)),
        tuple(_effects(current, planned, wanted)),
    )


def _effects(current: IamRole | None, planned: IamRole, wanted: WantedRole) -> Iterator[str]:
    if wanted.grant is not None:
        before = None if current is None else current.trust_policy
        yield from summary(before, planned.trust_policy, wanted.grant, wanted.trust_policy_limit)
    if wanted.chain is not None and planned.inline_policies != ({} if current is None else current.inline_policies):
        arn = wanted.chain.grant.target.arn
        yield f"{REMOVES} the permission to assume {arn}" if wanted.chain.is_removal else f"allows it to assume {arn}"


def _planned(current: IamRole | None, wanted: WantedRole, account: Account) -> IamRole:
    if current is None:
        if wanted.change is Change.REMOVE:
            raise ConfigurationError(
                f"ROLE is {wanted.name!r}: there is no such role", fix="Check its name", setting="ROLE"
            )
        if wanted.grant is None:
            raise ConfigurationError(
                f"ROLE is {wanted.name!r}: there is no such role, and --service-account is not set",
                fix="Check its name, or set --service-account to create it",
                setting="ROLE",
            )
        path = wanted.path or "/"
        return IamRole(
            account.arn(f"role{path}{wanted.name}"),
            wanted.name,
            path,
            with_grant(None, wanted.grant),
            wanted.max_session_seconds or DEFAULT_SESSION_SECONDS,
            wanted.boundary_arn,
            wanted.policy_arns,
            wanted.tags,
            _inline_policies({}, wanted.chain),
        )
    if wanted.path not in (None, current.path):
        raise ConfigurationError(
            f"--path is {wanted.path!r}, and {current.title} is under {current.path!r}, which IAM cannot change",
            fix="Leave --path out, or choose another name",
            setting="--path",
        )
    return replace(
        current,
        trust_policy=_trust_policy(current, wanted),
        max_session_seconds=wanted.max_session_seconds or current.max_session_seconds,
        boundary_arn=wanted.boundary_arn or current.boundary_arn,
        policy_arns=(*current.policy_arns, *(arn for arn in wanted.policy_arns if arn not in current.policy_arns)),
        tags={**current.tags, **wanted.tags},
        inline_policies=_inline_policies(current.inline_policies, wanted.chain),
    )


def _trust_policy(current: IamRole, wanted: WantedRole) -> Mapping[str, Any]:
    if wanted.grant is None:
        return current.trust_policy
    return with_grant(current.trust_policy, wanted.grant, wanted.change, overwrite_edits=wanted.overwrite_edits)


def _inline_policies(
    current: Mapping[str, Mapping[str, Any]], chain: ChainChange | None
) -> Mapping[str, Mapping[str, Any]]:
    if chain is None:
        return current
    name = chain.grant.target.policy_name
    policy = with_permission(current.get(name), chain)
    others = {other: document for other, document in current.items() if other != name}
    return others if policy is None else {**others, name: policy}


def _creation(planned: IamRole) -> Iterator[Call]:
    parameters = {
        "RoleName": planned.name,
        "Path": planned.path,
        "AssumeRolePolicyDocument": compact(planned.trust_policy),
        "MaxSessionDuration": planned.max_session_seconds,
        "PermissionsBoundary": planned.boundary_arn,
        "Tags": tag_list(planned.tags),
    }
    yield Call("CreateRole", {name: value for name, value in parameters.items() if value}, "create the role")
    yield from _attachments(planned, planned.policy_arns)
    yield from _inline_changes(planned, {})


def _update(current: IamRole, planned: IamRole) -> Iterator[Call]:
    """Yield the calls that change an existing role. They do not remove policies or tags from other sources."""
    role = {"RoleName": planned.name}
    if planned.trust_policy != current.trust_policy:
        document = {"PolicyDocument": compact(planned.trust_policy)}
        yield Call("UpdateAssumeRolePolicy", role | document, "update its trust policy")
    if planned.max_session_seconds != current.max_session_seconds:
        seconds = planned.max_session_seconds
        yield Call(
            "UpdateRole", role | {"MaxSessionDuration": seconds}, f"set its maximum session duration to {seconds} s"
        )
    if planned.boundary_arn != current.boundary_arn:
        boundary = {"PermissionsBoundary": planned.boundary_arn}
        yield Call(
            "PutRolePermissionsBoundary", role | boundary, f"set its permissions boundary to {planned.boundary_arn}"
        )
    if tags := {key: value for key, value in planned.tags.items() if current.tags.get(key) != value}:
        yield Call("TagRole", role | {"Tags": tag_list(tags)}, f"tag it with {', '.join(tags)}")
    yield from _attachments(planned, [arn for arn in planned.policy_arns if arn not in current.policy_arns])
    yield from _inline_changes(planned, current.inline_policies)


def _attachments(planned: IamRole, arns: tuple[str, ...] | list[str]) -> Iterator[Call]:
    for arn in arns:
        yield Call("AttachRolePolicy", {"RoleName": planned.name, "PolicyArn": arn}, f"attach {arn}")


def _inline_changes(planned: IamRole, before: Mapping[str, Mapping[str, Any]]) -> Iterator[Call]:
    for name, document in planned.inline_policies.items():
        if before.get(name) != document:
            parameters = {"RoleName": planned.name, "PolicyName": name, "PolicyDocument": compact(document)}
            yield Call("PutRolePolicy", parameters, f"write the inline policy {name}")
    for name in before:
        if name not in planned.inline_policies:
            parameters = {"RoleName": planned.name, "PolicyName": name}
            yield Call("DeleteRolePolicy", parameters, f"delete the inline policy {name}")


def _notes(current: IamRole | None, planned: IamRole, grant: TrustGrant | None) -> Iterator[str]:
    if grant is not None and current is not None:
        yield from still_allowed(current.trust_policy, planned.trust_policy, grant)
    if grant is not None:
        yield from remarks_on(planned.trust_policy, grant)
        yield from without_conditions(planned.trust_policy, grant)
        conditions = own_conditions(planned.trust_policy, grant)
        yield from session_name_remarks(conditions, own_subjects(planned.trust_policy, grant))
    if len(planned.policy_arns) > ATTACHED_POLICIES:
        yield (
            f"The role would have {len(planned.policy_arns)} managed policies, and IAM's default quota is "
            f"{ATTACHED_POLICIES}. Merge some, or request a higher quota (Managed policies attached to an IAM role)."
        )
