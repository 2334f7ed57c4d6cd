"""Plan the change of the role that another role assumes. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sidecar.setup.plan import Call, Plan
from sidecar.setup.resources import IamRole
from sidecar.setup.role_chain import ChainChange, granted, with_trust
from sidecar.setup.trust_policy import REMOVES, check_size, compact

_SMALLER = "Let the role trust fewer roles, or use a second role"
"""The fix for a trust policy that is too long because of its other statements."""


def plan_target(current: IamRole | None, wanted: ChainChange, limit: int) -> Plan:
    """
    Return the changes to the role that is assumed. If `current` is None, the role is created without permissions.

    Raises ConfigurationError if IAM cannot make the changes.
    """
    before = None if current is None else current.trust_policy
    target, policy = wanted.grant.target, with_trust(before, wanted)
    check_size(policy, limit, target.title, _SMALLER)
    effects = tuple(_effects(before, policy, wanted, limit))
    if current is not None:
        planned = replace(current, trust_policy=policy)
        return Plan(planned, current, tuple(_update(current, planned)), effects=effects)
    planned = IamRole(target.arn, target.name, target.path, policy)
    return Plan(planned, None, (_creation(planned),), (_no_permissions(planned),), effects)


def _creation(planned: IamRole) -> Call:
    parameters = {"RoleName": planned.name, "Path": planned.path}
    return Call(
        "CreateRole", parameters | {"AssumeRolePolicyDocument": compact(planned.trust_policy)}, "create the role"
    )


def _update(current: IamRole, planned: IamRole) -> Iterator[Call]:
    if planned.trust_policy != current.trust_policy:
        document = {"RoleName": planned.name, "PolicyDocument": compact(planned.trust_policy)}
        yield Call("UpdateAssumeRolePolicy", document, "update its trust policy")


def _no_permissions(planned: IamRole) -> str:
    return f"The new {planned.title} has no permissions. Attach its policies with `aws iam attach-role-policy`."


def _effects(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], wanted: ChainChange, limit: int
) -> Iterator[str]:
    if before == after:
        return
    source_arn = wanted.grant.source_arn
    if wanted.is_removal:
        yield f"{REMOVES} the trust in {source_arn}"
    else:
        external_id = granted(before, wanted).external_id
        yield f"trusts {source_arn} " + (
            f"with the external id {external_id}" if external_id else "without external id"
        )
    yield f"the trust policy has {len(compact(after))} of {limit} characters"
