"""
The two AWS resources that IRSA needs, as values. Pure.

Rule: a value holds what a person can choose and no more, so that two are equal when nothing has to be changed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sidecar.errors import ConfigurationError
from sidecar.oidc.verification import issuer_key

DEFAULT_AUDIENCE = "sts.amazonaws.com"
"""Of EKS's tokens in every partition, China included: a name that was agreed on, and no address of STS."""

DEFAULT_SESSION_SECONDS = 3600
"""What IAM gives a role that names none."""

_POLICY_ARN = re.compile(r"arn:(aws[a-z-]*):iam::(aws|[0-9]{12}):policy/[\x21-\x7e]+")


class Resource(Protocol):
    """What a step makes."""

    @property
    def title(self) -> str:
        """What a person calls it, as `role arn:…`."""
        ...

    def document(self) -> dict[str, Any]:
        """Itself in the names of the IAM API, without what is empty."""
        ...


@dataclass(frozen=True, slots=True)
class Account:
    """Where IAM's resources are. `partition` is as in ARNs: `aws`, `aws-cn`…"""

    account_id: str
    partition: str

    def arn(self, resource: str) -> str:
        return f"arn:{self.partition}:iam::{self.account_id}:{resource}"

    def check_policy_arn(self, setting: str, arn: str) -> str:
        """Raises ConfigurationError for what is no managed policy, or one that this account cannot attach."""
        match = _POLICY_ARN.fullmatch(arn)
        if match is None:
            raise ConfigurationError(
                f"{setting} is {arn!r}: give the ARN of a managed policy, as "
                f"arn:{self.partition}:iam::aws:policy/AmazonS3ReadOnlyAccess or {self.arn('policy/NAME')}."
            )
        if match[1] != self.partition:
            raise ConfigurationError(
                f"{setting} is {arn!r}, of the partition {match[1]}, and account {self.account_id} is in "
                f"{self.partition}: begin it with arn:{self.partition}:."
            )
        if match[2] not in ("aws", self.account_id):
            raise ConfigurationError(
                f"{setting} is {arn!r}, of account {match[2]}: a role of account {self.account_id} can have policies "
                "of its own account and AWS's only."
            )
        return arn


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An IAM OIDC provider: an issuer whose tokens the account takes, for these audiences ("client ids")."""

    arn: str
    issuer: str
    audiences: tuple[str, ...]
    thumbprints: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"OIDC provider {self.arn}"

    def document(self) -> dict[str, Any]:
        return _without_empty(
            Url=self.issuer,
            ClientIDList=list(self.audiences),
            ThumbprintList=list(self.thumbprints),
            Tags=tag_list(self.tags),
        )


@dataclass(frozen=True, slots=True)
class Role:
    """An IAM role. `policy_arns` are the managed policies that are attached to it, as far as anybody asked."""

    arn: str
    name: str
    path: str
    trust_policy: Mapping[str, Any]
    max_session_seconds: int = DEFAULT_SESSION_SECONDS
    boundary_arn: str | None = None
    policy_arns: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"role {self.arn}"

    def document(self) -> dict[str, Any]:
        return _without_empty(
            RoleName=self.name,
            Path=self.path,
            MaxSessionDuration=self.max_session_seconds,
            AssumeRolePolicyDocument=self.trust_policy,
            PermissionsBoundary=self.boundary_arn,
            ManagedPolicyArns=list(self.policy_arns),
            Tags=tag_list(self.tags),
        )


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def provider_arn(account: Account, issuer: str) -> str:
    """IAM names a provider after its issuer, without the scheme."""
    return account.arn(f"oidc-provider/{issuer_key(issuer)}")


def _without_empty(**elements: Any) -> dict[str, Any]:
    return {name: value for name, value in elements.items() if value not in (None, [], {})}
