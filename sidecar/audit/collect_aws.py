"""
Read the account's roles, OIDC providers and Pod Identity associations, and the nodes' instances.

Rule: every call only reads. A part that cannot be read becomes a problem in the inventory. The other parts are still
read, unless the account itself is unknown. At most MAX_CALLS calls run at the same time, and botocore waits and retries
if AWS throttles them.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from sidecar.audit import aws_kept
from sidecar.audit.inventory import (
    ASSOCIATIONS,
    CALLER,
    INSTANCES,
    PROVIDERS,
    ROLES,
    Account,
    Association,
    Cluster,
    Instance,
    OidcProvider,
    Problem,
    Role,
)
from sidecar.audit.trusting import names_issuer
from sidecar.errors import SidecarError
from sidecar.injection.names import EKS_ROLE_ARN, ROLE_ARN
from sidecar.setup.issuer_choice import Issuer

if TYPE_CHECKING:
    from sidecar.setup.aws import Aws

MAX_CALLS = 10
"""Maximum number of concurrent calls. IAM allows about 20 calls of one read operation per second and account."""

INSTANCES_PER_CALL = 100

ACTIONS = (
    "ec2:DescribeInstances",
    "eks:DescribePodIdentityAssociation",
    "eks:ListPodIdentityAssociations",
    "iam:GetOpenIDConnectProvider",
    "iam:GetRole",
    "iam:ListAttachedRolePolicies",
    "iam:ListOpenIDConnectProviders",
    "iam:ListRolePolicies",
    "iam:ListRoles",
)
"""The IAM actions of an audit, which `audit --print-policy` prints. sts:GetCallerIdentity needs no permission."""

Progress = Callable[[str], None]
_Kept = TypeVar("_Kept")


async def read_account(aws: "Aws", cluster: Cluster, progress: Progress) -> Account:
    """Return the account of the credentials in `aws`. The account's `problems` contain the errors."""
    reader = _Reader(aws, progress)
    caller = await reader.part(CALLER, aws.account)
    if caller is None:
        return Account(problems=tuple(reader.problems))
    roles = await reader.roles(cluster)
    return Account(
        account_id=caller.account_id,
        partition=caller.partition,
        roles=tuple(roles),
        providers=tuple(await reader.providers()),
        associations=tuple(await reader.associations(cluster)),
        instances=tuple(await reader.instances(cluster)),
        problems=tuple(reader.problems),
    )


_UNNAMED = ("the name of the EKS cluster is unknown", "Set --cluster to the cluster's name")
"""The problem and its fix if the issuer is EKS, but the context of the kubeconfig does not name the cluster."""


class _Reader:
    """The calls of one audit to one account, and the problems that occurred."""

    def __init__(self, aws: "Aws", progress: Progress) -> None:
        self._aws = aws
        self._progress = progress
        self._limiter = trio.CapacityLimiter(MAX_CALLS)
        self.problems: list[Problem] = []

    async def part(self, name: str, call: Callable[[], _Kept]) -> _Kept | None:
        """Return the result of `call`, or None after recording a problem with this part."""
        try:
            return await trio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)
        except SidecarError as error:
            self.problems.append(Problem(name, error.problem, error.fix))
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            self.problems.append(Problem(name, f"AWS's response is in an unknown form ({type(exc).__name__})"))
        return None

    async def each(self, name: str, items: Sequence[Any], call: Callable[[Any], _Kept]) -> list[_Kept | None]:
        """
        Return the result of `call` for each item, in order, or None for an item that could not be read.

        If several items have the same problem, it is recorded once, with the number of items.
        """
        results: list[_Kept | None] = [None] * len(items)
        before, done = len(self.problems), 0

        async def one(index: int, item: Any) -> None:
            nonlocal done
            results[index] = await self.part(name, partial(call, item))
            done += 1
            self._progress(f"{done:,} of {len(items):,} {name}")

        async with trio.open_nursery() as nursery:
            for index, item in enumerate(items):
                nursery.start_soon(one, index, item)
        self.problems[before:] = _joined(self.problems[before:], len(items))
        return results

    async def roles(self, cluster: Cluster) -> Iterable[Role]:
        """Return all roles except service-linked roles. GetRole is called only for roles that concern the cluster."""
        roles = await self.part(ROLES, self._list_roles) or []
        named = _named_roles(cluster)
        concerned = [role for role in roles if role.arn in named or names_issuer(role.trust_policy, cluster.issuer)]
        detailed = await self.each("details of IAM roles", concerned, self._role)
        found = {role.arn: role for role in detailed if role is not None}
        return [found.get(role.arn, role) for role in roles]

    def _list_roles(self) -> list[Role]:
        listed = self._aws.call("iam", "ListRoles")["Roles"]
        return [aws_kept.role(each) for each in listed if not aws_kept.is_service_linked(each["Arn"])]

    def _role(self, role: Role) -> Role:
        document = self._aws.call("iam", "GetRole", RoleName=role.name)["Role"]
        attached = self._aws.call("iam", "ListAttachedRolePolicies", RoleName=role.name)["AttachedPolicies"]
        inline = self._aws.call("iam", "ListRolePolicies", RoleName=role.name)["PolicyNames"]
        return aws_kept.detailed_role(document, attached, inline)

    async def providers(self) -> Iterable[OidcProvider]:
        call = partial(self._aws.call, "iam", "ListOpenIDConnectProviders")
        arns = await self.part(PROVIDERS, lambda: [each["Arn"] for each in call()["OpenIDConnectProviderList"]]) or []
        detailed = await self.each("details of IAM OIDC providers", arns, self._provider)
        return [found or OidcProvider(arn) for arn, found in zip(arns, detailed, strict=True)]

    def _provider(self, arn: str) -> OidcProvider:
        response = self._aws.call("iam", "GetOpenIDConnectProvider", OpenIDConnectProviderArn=arn)
        return aws_kept.provider(arn, response)

    async def associations(self, cluster: Cluster) -> Iterable[Association]:
        """
        Return the cluster's associations. EKS lists them by the cluster's name.

        Without that name, the result is empty. This is a problem only if the issuer shows that the cluster is in EKS.
        """
        if not cluster.name:
            if Issuer(cluster.issuer).eks_region:
                self.problems.append(Problem(ASSOCIATIONS, *_UNNAMED))
            return ()
        cluster_name = cluster.name
        call = partial(self._aws.call, "eks", "ListPodIdentityAssociations", clusterName=cluster_name)
        listed = await self.part(ASSOCIATIONS, lambda: [aws_kept.association(e) for e in call()["associations"]]) or []
        describe = partial(self._association, cluster_name)
        detailed = await self.each("details of EKS Pod Identity associations", listed, describe)
        return [found or each for each, found in zip(listed, detailed, strict=True)]

    def _association(self, cluster_name: str, association: Association) -> Association:
        response = self._aws.call(
            "eks",
            "DescribePodIdentityAssociation",
            clusterName=cluster_name,
            associationId=association.association_id,
        )
        return aws_kept.association(response["association"])

    async def instances(self, cluster: Cluster) -> Iterable[Instance]:
        ids = sorted({node.instance_id for node in cluster.nodes if node.instance_id})
        groups = [ids[start : start + INSTANCES_PER_CALL] for start in range(0, len(ids), INSTANCES_PER_CALL)]
        found = await self.each(INSTANCES, groups, self._instances)
        return [instance for group in found for instance in group or ()]

    def _instances(self, ids: list[str]) -> list[Instance]:
        # The call uses a filter, because a call with InstanceIds fails if one instance has just been terminated.
        filters = [{"Name": "instance-id", "Values": ids}]
        reservations = self._aws.call("ec2", "DescribeInstances", Filters=filters)["Reservations"]
        return [aws_kept.instance(each) for reservation in reservations for each in reservation["Instances"]]


def _named_roles(cluster: Cluster) -> frozenset[str]:
    accounts = (each.annotations.get(EKS_ROLE_ARN) for each in cluster.service_accounts)
    pods = (each.annotations.get(ROLE_ARN) for each in cluster.pods)
    return frozenset(arn for arn in (*accounts, *pods) if arn)


def _joined(problems: Iterable[Problem], total: int) -> list[Problem]:
    """Return one problem for each pair of error and fix, because one missing permission affects every item."""
    found: dict[tuple[str, str], list[Problem]] = {}
    for each in problems:
        found.setdefault((each.reason.partition(":")[0], each.fix), []).append(each)
    return [
        some[0] if len(some) == 1 else Problem(some[0].part, f"{len(some)} of {total} failed. {some[0].reason}", fix)
        for (_, fix), some in found.items()
    ]
