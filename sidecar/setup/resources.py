"""
Model the two AWS resources that IRSA needs, as values. Pure.

Rule: a value contains only settings that a person can choose, so two values are equal if nothing has to change.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sidecar.errors import ConfigurationError
from sidecar.oidc.verification import issuer_key

DEFAULT_AUDIENCE = "sts.amazonaws.com"
"""The audience of EKS's tokens in every partition, including China. It is a fixed name that looks like a host."""

DEFAULT_SESSION_SECONDS = 3600
"""The maximum session duration that IAM gives a role by default."""

_POLICY_ARN = re.compile(r"arn:(aws[a-z-]*):iam::(aws|[0-9]{12}):policy/[\x21-\x7e]+")


class Resource(Protocol):
    """An AWS resource that a step creates or changes."""

    @property
    def title(self) -> str:
        """Return the name for people, such as `role arn:…`."""
        ...

    def document(self) -> dict[str, Any]:
        """Return the resource with the names in the IAM API, without empty elements."""
        ...


@dataclass(frozen=True, slots=True)
class Account:
    """An AWS account. `partition` is the partition in its ARNs, such as `aws` or `aws-cn`."""

    account_id: str
    partition: str

    def arn(self, resource: str) -> str:
        return f"arn:{self.partition}:iam::{self.account_id}:{resource}"

    def check_policy_arn(self, setting: str, arn: str) -> str:
        """
        Return the ARN.

        Raises ConfigurationError if this account cannot attach it as a managed policy.
        """
        match = _POLICY_ARN.fullmatch(arn)
        if match is None:
            raise ConfigurationError(
                f"{setting} is {arn!r}, which is not the ARN of a managed policy",
                fix=(
                    "Use the ARN of a managed policy, such as "
                    f"arn:{self.partition}:iam::aws:policy/AmazonS3ReadOnlyAccess or {self.arn('policy/NAME')}"
                ),
                setting=setting,
            )
        if match[1] != self.partition:
            raise ConfigurationError(
                f"{setting} is {arn!r}, of the partition {match[1]}, and account {self.account_id} is in "
                f"{self.partition}",
                fix=f"Begin it with arn:{self.partition}:",
                setting=setting,
            )
        if match[2] not in ("aws", self.account_id):
            raise ConfigurationError(
                f"{setting} is {arn!r}, of account {match[2]}",
                fix=f"Use a policy of account {self.account_id} or of AWS: a role accepts no other policies",
                setting=setting,
            )
        return arn


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An IAM OIDC provider, with the audiences ("client ids") for which an account accepts an issuer's tokens."""

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
class IamRole:
    """
    An IAM role. `policy_arns` are its attached managed policies, or empty if they were not read.

    `inline_policies` are the inline policies that were read, by name.
    """

    arn: str
    name: str
    path: str
    trust_policy: Mapping[str, Any]
    max_session_seconds: int = DEFAULT_SESSION_SECONDS
    boundary_arn: str | None = None
    policy_arns: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    inline_policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

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
            Policies=[{"PolicyName": name, "PolicyDocument": item} for name, item in self.inline_policies.items()],
            Tags=tag_list(self.tags),
        )


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def provider_arn(account: Account, issuer: str) -> str:
    """Return the ARN of the issuer's provider. IAM names a provider after its issuer's URL, without the scheme."""
    return account.arn(f"oidc-provider/{issuer_key(issuer)}")


def _without_empty(**elements: Any) -> dict[str, Any]:
    return {name: value for name, value in elements.items() if value not in (None, [], {})}
