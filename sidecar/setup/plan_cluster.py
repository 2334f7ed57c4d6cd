"""Plan to give a new cluster the access of another cluster in all roles, or to remove a cluster from them. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError, Explanation
from sidecar.setup.cluster_trust import ClusterIssuer, differing_copies, trusts, with_cluster, without_cluster
from sidecar.setup.plan import Call, Plan
from sidecar.setup.resources import IamRole
from sidecar.setup.trust_policy import TrustGrant, check_size, compact
from sidecar.setup.trust_remarks import remarks_on

_WIDE = " lets "
"""
Text that only the remark about too many service accounts contains.

Other remarks are not shown, because they concern parts that the copy has in common with its original.
"""


class ClusterPlan(NamedTuple):
    """
    The plans for the roles to change, the number of roles that need no change, and the roles that cannot be changed.

    Each of `obstacles` is a role's name with the problem and the fix.
    """

    plans: tuple[Plan, ...]
    unchanged: int
    obstacles: tuple[tuple[str, Explanation], ...]


def plan_copy(roles: Iterable[IamRole], like: ClusterIssuer, new: ClusterIssuer, limit: int) -> ClusterPlan:
    """
    Return the plan that gives the new cluster the access of the cluster `like` in every role.

    `limit` is the quota for a trust policy, in characters. A role is an obstacle if its policy would be larger, or if
    its statement for the new cluster differs from the copy.
    """

    def change(role: IamRole) -> Mapping[str, Any]:
        for label in differing_copies(role.trust_policy, like, new):
            raise ConfigurationError(
                f"{label} is for the new cluster, but differs from the statement of the other cluster",
                fix="Make both equal, or delete that statement, then run this again",
            )
        document = with_cluster(role.trust_policy, like, new)
        check_size(document, limit, role.title)
        return document

    found = _plan((role for role in roles if trusts(role.trust_policy, like)), change)
    return found._replace(plans=tuple(replace(each, notes=tuple(_wide(each, new))) for each in found.plans))


def _wide(plan: Plan, new: ClusterIssuer) -> Iterator[str]:
    """Yield a remark about each statement that accepts every service account of the new cluster, like its original."""
    grant = TrustGrant(new.provider_arn, new.url, "", ())
    assert isinstance(plan.planned, IamRole)
    for remark in remarks_on(plan.planned.trust_policy, grant):
        _, verb, rest = remark.partition(_WIDE)
        if verb:
            yield f"The copy of a statement{verb}{rest}"


def plan_retirement(roles: Iterable[IamRole], retired: ClusterIssuer) -> ClusterPlan:
    """Return the plan that removes the cluster from every role."""
    trusting = (role for role in roles if trusts(role.trust_policy, retired))
    return _plan(trusting, lambda role: without_cluster(role.trust_policy, retired))


def _plan(roles: Iterable[IamRole], change: Callable[[IamRole], Mapping[str, Any]]) -> ClusterPlan:
    plans: list[Plan] = []
    obstacles: list[tuple[str, Explanation]] = []
    unchanged = 0
    for role in roles:
        try:
            planned = replace(role, trust_policy=change(role))
        except ConfigurationError as error:
            obstacles.append((role.title, error.explanation))
            continue
        if planned == role:
            unchanged += 1
        else:
            plans.append(Plan(planned, role, tuple(_calls(planned)), effects=tuple(_effects(role, planned))))
    return ClusterPlan(tuple(plans), unchanged, tuple(obstacles))


def _calls(planned: IamRole) -> Iterator[Call]:
    document = {"RoleName": planned.name, "PolicyDocument": compact(planned.trust_policy)}
    yield Call("UpdateAssumeRolePolicy", document, "update its trust policy")


def _effects(current: IamRole, planned: IamRole) -> Iterator[str]:
    before, after = len(compact(current.trust_policy)), len(compact(planned.trust_policy))
    yield f"the trust policy has {before} characters now, and {after} afterwards"
