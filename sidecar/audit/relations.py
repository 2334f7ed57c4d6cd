"""
Relate Pods, ServiceAccounts and roles: which identity a Pod has, and which roles a ServiceAccount can assume. Pure.

Rule: trust policies are evaluated by the same code as in `local` and `doctor`. A decision that depends on an element
that cannot be evaluated counts as unknown, and is never reported as a problem of the policy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

from sidecar.audit.inventory import (
    ASSOCIATIONS,
    INSTANCES,
    PROVIDERS,
    ROLES,
    Account,
    Cluster,
    Container,
    EgressPolicy,
    Instance,
    Inventory,
    OidcProvider,
    Pod,
    Role,
    ServiceAccount,
)
from sidecar.injection.eks_webhook import POD_IDENTITY
from sidecar.injection.names import CONTAINER, EKS_AUDIENCE, EKS_ROLE_ARN, ROLE_ARN
from sidecar.injection.options import DEFAULT_AUDIENCE
from sidecar.local.readable_policy import NETWORK_KEYS, SESSION_NAME_KEYS, readable_policy
from sidecar.local.service_account import SERVICE_ACCOUNT_PREFIX
from sidecar.local.trust_policy import ASSUME_ROLE_WITH_WEB_IDENTITY, Decision, Principal, Statement, TrustPolicy
from sidecar.oidc.verification import issuer_key

AWS_PARTS = (ROLES, PROVIDERS, ASSOCIATIONS, INSTANCES)
"""The parts that are read from AWS. Without an account, none of them is known."""

Key = tuple[str, str]
"""Namespace and name of a Kubernetes object."""


class Identity(Enum):
    """The source of a container's AWS credentials."""

    SIDECAR = "irsa-sidecar"
    WEB_IDENTITY = "IRSA"
    POD_IDENTITY = "EKS Pod Identity"
    STATIC_KEYS = "static keys"


class Token(NamedTuple):
    """The claims in a ServiceAccount's tokens that a trust policy compares."""

    subject: str
    audience: str


class Options(NamedTuple):
    """The flags that change the rules. `idle_days` is the number of days after which a role counts as unused."""

    requires_boundary: bool = False
    idle_days: int = 90


NO_OPTIONS = Options()
"""The options without any flag."""


@dataclass(frozen=True)
class Relations:
    """
    An inventory, and the relations between its objects. Each relation is computed on first use.

    `now` is in Unix seconds.
    """

    inventory: Inventory
    now: float
    options: Options = NO_OPTIONS

    @property
    def cluster(self) -> Cluster:
        return self.inventory.cluster

    @property
    def account(self) -> Account:
        return self.inventory.account

    @cached_property
    def unread(self) -> frozenset[str]:
        """The parts of the inventory that could not be read."""
        return frozenset(each.part for each in (*self.cluster.problems, *self.account.problems))

    def is_read(self, part: str) -> bool:
        return part not in self.unread and not (part in AWS_PARTS and not self.account.account_id)

    def is_of_this_account(self, role_arn: str) -> bool:
        return role_arn.split(":")[4:5] == [self.account.account_id]

    @cached_property
    def provider_arn(self) -> str:
        """The ARN that the cluster's OIDC provider has in this account, whether it exists or not."""
        key = issuer_key(self.cluster.issuer)
        return f"arn:{self.account.partition}:iam::{self.account.account_id}:oidc-provider/{key}"

    @cached_property
    def provider(self) -> OidcProvider | None:
        return next((each for each in self.account.providers if each.arn == self.provider_arn), None)

    @cached_property
    def service_accounts(self) -> Mapping[Key, ServiceAccount]:
        return {(each.namespace, each.name): each for each in self.cluster.service_accounts}

    @cached_property
    def running_pods(self) -> tuple[Pod, ...]:
        return tuple(pod for pod in self.cluster.pods if not pod.is_finished)

    @cached_property
    def pods_of(self) -> Mapping[Key, tuple[Pod, ...]]:
        """The running Pods of each ServiceAccount. A ServiceAccount without Pods is absent."""
        found: dict[Key, list[Pod]] = {}
        for pod in self.running_pods:
            found.setdefault((pod.namespace, pod.service_account), []).append(pod)
        return {key: tuple(pods) for key, pods in found.items()}

    @cached_property
    def roles(self) -> Mapping[str, Role]:
        return {role.arn: role for role in self.account.roles}

    @cached_property
    def policies(self) -> Mapping[str, TrustPolicy]:
        """The trust policy of each role that trusts the cluster's OIDC provider, by the role's ARN."""
        assumed = NETWORK_KEYS | SESSION_NAME_KEYS
        found = ((role.arn, readable_policy(role.trust_policy, assumed)) for role in self.account.roles)
        return {arn: policy for arn, policy in found if self.trusts(policy)}

    @cached_property
    def associated(self) -> Mapping[Key, str]:
        """The role of each ServiceAccount with an EKS Pod Identity association. It is empty if it is not known."""
        return {(each.namespace, each.service_account): each.role_arn for each in self.account.associations}

    @cached_property
    def annotated(self) -> Mapping[Key, str]:
        """The role that each ServiceAccount's annotation names. A ServiceAccount without annotation is absent."""
        found = ((key, each.annotations.get(EKS_ROLE_ARN, "")) for key, each in self.service_accounts.items())
        return {key: role_arn for key, role_arn in found if role_arn}

    @cached_property
    def named_roles(self) -> frozenset[str]:
        """The roles that a ServiceAccount, a Pod or an association names, and all other kept values of variables."""
        of_pods = {pod.annotations[ROLE_ARN] for pod in self.running_pods if ROLE_ARN in pod.annotations}
        of_variables = {v.value for pod in self.running_pods for c in pod.containers for v in c.variables if v.value}
        return frozenset({*self.annotated.values(), *self.associated.values(), *of_pods, *of_variables})

    @cached_property
    def accepted(self) -> Mapping[str, tuple[ServiceAccount, ...]]:
        """The ServiceAccounts of this cluster that can assume each role, by the role's ARN."""
        return {arn: tuple(self._accepted_by(arn)) for arn in self.policies}

    @cached_property
    def _instances(self) -> Mapping[str, Instance]:
        by_id = {each.instance_id: each for each in self.account.instances}
        return {node.name: by_id[node.instance_id] for node in self.cluster.nodes if node.instance_id in by_id}

    def instance_of(self, pod: Pod) -> Instance | None:
        """Return the EC2 instance that the Pod runs on, or None if it is not known."""
        return self._instances.get(pod.node)

    @cached_property
    def _egress_policies(self) -> Mapping[str, list[EgressPolicy]]:
        found: dict[str, list[EgressPolicy]] = {}
        for policy in self.cluster.egress_policies:
            found.setdefault(policy.namespace, []).append(policy)
        return found

    def egress_policies_of(self, namespace: str) -> Sequence[EgressPolicy]:
        """Return the namespace's network policies that restrict outgoing traffic."""
        return self._egress_policies.get(namespace, ())

    def trusts(self, policy: TrustPolicy) -> bool:
        """Return whether a statement of the policy allows tokens of the cluster's issuer in some cases."""
        return any(self.provider_arn in each.principals for each in policy.statements if each.is_allow)

    def statements(self, role_arn: str) -> Iterator[Statement]:
        """Yield the statements of the role that allow tokens of the cluster's issuer in some cases."""
        for statement in self.policies[role_arn].statements:
            if statement.is_allow and self.provider_arn in statement.principals:
                yield statement

    def decide(self, role_arn: str, token: Token) -> Decision:
        """Return the decision of the role's trust policy on the token, with the reason."""
        policy = self.policies.get(role_arn)
        if policy is None:
            return Decision(is_allowed=False, reason=f"no statement allows {self.provider_arn}")
        return self._evaluate(policy, token)

    def is_denied(self, role_arn: str, token: Token) -> bool:
        """Return whether the role's trust policy rejects the token only because of its Deny statements."""
        policy = self.policies.get(role_arn)
        if policy is None or self._evaluate(policy, token).is_allowed:
            return False
        return self._evaluate(TrustPolicy(tuple(each for each in policy.statements if each.is_allow)), token).is_allowed

    def _evaluate(self, policy: TrustPolicy, token: Token) -> Decision:
        key = issuer_key(self.cluster.issuer).lower()
        context = {f"{key}:sub": (token.subject,), f"{key}:aud": (token.audience,)}
        return policy.evaluate(ASSUME_ROLE_WITH_WEB_IDENTITY, Principal((self.provider_arn,), None), context)

    def _accepted_by(self, arn: str) -> Iterator[ServiceAccount]:
        for key in self._candidates(arn):
            account = self.service_accounts[key]
            if self.decide(arn, token_of(account)).is_allowed:
                yield account

    def _candidates(self, arn: str) -> Iterator[Key]:
        """
        Yield the ServiceAccounts that the role's statements can accept.

        Most policies name a few ServiceAccounts, so a large cluster needs no evaluation of every ServiceAccount with
        every role.
        """
        named: set[str] = set()
        for statement in self.statements(arn):
            subjects = literal_subjects(statement)
            if subjects is None:
                yield from self.service_accounts
                return
            named |= subjects
        for subject in sorted(named):
            namespace, _, name = subject.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
            if (namespace, name) in self.service_accounts:
                yield namespace, name


def literal_subjects(statement: Statement) -> frozenset[str] | None:
    """Return the only subjects that the statement accepts, or None if it may accept others."""
    for condition in statement.conditions:
        is_exact = condition.text == "StringEquals" and not condition.is_optional
        if is_exact and condition.key.lower().endswith(":sub"):
            return frozenset(condition.wanted)
    return None


def token_of(account: ServiceAccount) -> Token:
    """Return the claims of the ServiceAccount's tokens for STS."""
    return Token(subject_of(account.namespace, account.name), account.annotations.get(EKS_AUDIENCE) or DEFAULT_AUDIENCE)


def subject_of(namespace: str, name: str) -> str:
    return f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"


def sidecar_of(pod: Pod) -> Container | None:
    return next((container for container in pod.containers if container.name == CONTAINER), None)


def applications_of(pod: Pod) -> Iterator[Container]:
    """Yield the Pod's containers except our sidecar."""
    return (container for container in pod.containers if container.name != CONTAINER)


def identities_of(pod: Pod, container: Container) -> frozenset[Identity]:
    """Return the sources of credentials that the container's variables and volumes name."""
    names = {variable.name for variable in container.variables if not variable.is_empty}
    found = set()
    if sidecar_of(pod) is not None and "AWS_CONTAINER_CREDENTIALS_FULL_URI" in names:
        found.add(Identity.SIDECAR)
    elif POD_IDENTITY[0] in container.volumes:
        found.add(Identity.POD_IDENTITY)
    if "AWS_WEB_IDENTITY_TOKEN_FILE" in names:
        found.add(Identity.WEB_IDENTITY)
    if {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & names:
        found.add(Identity.STATIC_KEYS)
    return frozenset(found)


def role_in_use(pod: Pod) -> str | None:
    """
    Return the value of AWS_ROLE_ARN in the Pod, or None if no container has it.

    In a Pod with the sidecar, only the sidecar's variables count.
    """
    sidecar = sidecar_of(pod)
    for container in [sidecar] if sidecar else pod.containers:
        for variable in container.variables:
            if variable.name == "AWS_ROLE_ARN" and variable.value:
                return variable.value
    return None
