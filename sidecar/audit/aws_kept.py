"""
Reduce the responses of IAM, EKS and EC2 to the inventory. Pure.

A response that is not in AWS's form raises KeyError, TypeError, AttributeError or ValueError.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sidecar.audit.inventory import Association, AttachedPolicy, Instance, OidcProvider, Role

SERVICE_ROLE_PATH = ":role/aws-service-role/"
"""Part of the ARN of each service-linked role. Only its AWS service can assume such a role."""

Response = Mapping[str, Any]


def is_service_linked(role_arn: str) -> bool:
    return SERVICE_ROLE_PATH in role_arn


def role(document: Response) -> Role:
    """Return the role from an item of ListRoles, which contains neither the boundary nor the last use."""
    return Role(
        arn=document["Arn"],
        trust_policy=_policy(document.get("AssumeRolePolicyDocument")),
        created_at=_seconds(document.get("CreateDate")) or 0.0,
        max_session_seconds=int(document.get("MaxSessionDuration") or 3600),
    )


def detailed_role(document: Response, attached: Iterable[Response], inline: Iterable[str]) -> Role:
    """Return the role from the response of GetRole, with its attached and inline permissions policies."""
    listed = role(document)
    return Role(
        arn=listed.arn,
        trust_policy=listed.trust_policy,
        created_at=listed.created_at,
        max_session_seconds=listed.max_session_seconds,
        boundary=(document.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn") or "",
        last_used_at=_seconds((document.get("RoleLastUsed") or {}).get("LastUsedDate")),
        policies=(
            *(AttachedPolicy(each["PolicyName"], each["PolicyArn"]) for each in attached),
            *(AttachedPolicy(name) for name in inline),
        ),
        is_detailed=True,
    )


def provider(arn: str, document: Response) -> OidcProvider:
    return OidcProvider(
        arn,
        client_ids=tuple(document.get("ClientIDList") or ()),
        thumbprints=tuple(document.get("ThumbprintList") or ()),
        is_detailed=True,
    )


def association(document: Response) -> Association:
    """Return the association from an item of ListPodIdentityAssociations, or from DescribePodIdentityAssociation."""
    return Association(
        document["namespace"],
        document["serviceAccount"],
        document.get("associationId") or "",
        document.get("roleArn") or "",
    )


def instance(document: Response) -> Instance:
    options = document.get("MetadataOptions") or {}
    return Instance(
        document["InstanceId"],
        hop_limit=int(options.get("HttpPutResponseHopLimit") or 1),
        is_token_required=options.get("HttpTokens") == "required",
        is_metadata_on=options.get("HttpEndpoint") != "disabled",
        profile_arn=(document.get("IamInstanceProfile") or {}).get("Arn") or "",
    )


def _policy(document: Any) -> dict[str, Any]:
    """Return the trust policy, or an empty one if there is none. botocore decodes IAM's percent-encoded JSON."""
    return dict(document) if isinstance(document, Mapping) else {}


def _seconds(instant: Any) -> float | None:
    return instant.timestamp() if isinstance(instant, datetime) else None
