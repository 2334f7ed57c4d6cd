"""Read an IAM role from an account."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sidecar.errors import SidecarError
from sidecar.setup.aws_error import AwsError
from sidecar.setup.aws_steps import tags_of
from sidecar.setup.resources import DEFAULT_SESSION_SECONDS, IamRole

if TYPE_CHECKING:
    from sidecar.setup.aws import Aws


def read_role(aws: "Aws", name: str, *, with_policies: bool = False, inline: Iterable[str] = ()) -> IamRole | None:
    """
    Return the current role, or None if it does not exist.

    Attached policies are read only if `with_policies` is true. `inline` are the names of the inline policies to read.

    Raises SidecarError if a call to AWS fails, or a policy is not a JSON object.
    """
    try:
        found = aws.call("iam", "GetRole", RoleName=name)["Role"]
    except AwsError as exc:
        if exc.code == "NoSuchEntity":
            return None
        raise
    if not isinstance(found["AssumeRolePolicyDocument"], dict):
        raise SidecarError(
            f"The trust policy of {found['Arn']} is not a JSON object",
            fix="Correct it in the console first",
        )
    policies = aws.call("iam", "ListAttachedRolePolicies", RoleName=name)["AttachedPolicies"] if with_policies else []
    role = role_of(found, tuple(policy["PolicyArn"] for policy in policies))
    documents = {each: _inline_policy(aws, name, each) for each in inline}
    return replace(role, inline_policies={each: item for each, item in documents.items() if item is not None})


def _inline_policy(aws: "Aws", role_name: str, name: str) -> Mapping[str, Any] | None:
    try:
        document = aws.call("iam", "GetRolePolicy", RoleName=role_name, PolicyName=name)["PolicyDocument"]
    except AwsError as exc:
        if exc.code == "NoSuchEntity":
            return None
        raise
    if not isinstance(document, Mapping):
        raise SidecarError(
            f"The inline policy {name} of role {role_name} is not a JSON object", fix="Correct it in the console first"
        )
    return document


def role_of(found: Mapping[str, Any], policy_arns: tuple[str, ...] = ()) -> IamRole:
    """Return the role in a response of IAM. ListRoles returns neither the boundary nor the tags."""
    return IamRole(
        found["Arn"],
        found["RoleName"],
        found["Path"],
        found["AssumeRolePolicyDocument"],
        found.get("MaxSessionDuration", DEFAULT_SESSION_SECONDS),
        found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
        policy_arns,
        tags_of(found),
    )
