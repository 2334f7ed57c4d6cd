"""Describe the keys of the roles file. Tests compare them with the readers, and pass the values to the parser."""

from collections.abc import Mapping
from typing import NamedTuple

from sidecar.config.roles_file import MAX_ROLES
from sidecar.config.yaml_values import MAX_ITEMS, MAX_TAGS
from sidecar.role import (
    MAX_CHAIN_STEPS,
    MAX_CHAINED_SECONDS,
    MAX_DURATION_SECONDS,
    MAX_POLICY_ARNS,
    MAX_POLICY_CHARACTERS,
    MIN_DURATION_SECONDS,
)


class KeyNote(NamedTuple):
    """One key: its meaning, its form, its default, and examples of accepted and rejected YAML."""

    meaning: str
    form: str
    default: str
    example: str
    rejected: str


_NAME_OR_TEMPLATE = (
    "2 to 64 ASCII letters, digits and `_+=,.@-`, or a template with `{namespace}`, `{service_account}`, `{pod}`, "
    "`{uid}` and `{role}`"
)
_POLICY = "{Version: 2012-10-17, Statement: [{Effect: Allow, Action: 's3:Get*', Resource: '*'}]}"
_MAPPING = (
    "a mapping, or a string with JSON. "
    f"The policy and `policy_arns` together have at most {MAX_POLICY_CHARACTERS} characters"
)

_SESSION: Mapping[str, KeyNote] = {
    "session_name": KeyNote(
        "The name of the session, which CloudTrail shows.",
        _NAME_OR_TEMPLATE,
        "AWS_ROLE_SESSION_NAME, else `{namespace}.{pod}`",
        '"{namespace}.{pod}"',
        '"a b"',
    ),
    "policy": KeyNote(
        "A session policy, which restricts the permissions of the role.", _MAPPING, "none", _POLICY, "[]"
    ),
    "policy_arns": KeyNote(
        "Managed policies, which restrict the permissions of the role as session policies.",
        f"a list of at most {MAX_POLICY_ARNS} ARNs",
        "none",
        "[arn:aws:iam::aws:policy/ReadOnlyAccess]",
        "[ReadOnlyAccess]",
    ),
}

_ONLY_IN_A_CHAIN = KeyNote("A key that only a step of `chain` has.", "none", "none", "", "{}")

OF_A_ROLE: Mapping[str, KeyNote] = {
    "name": KeyNote(
        "The name of the role in the URL, in metrics and in logs. The role `default` is served on `/v1/credentials`, "
        "another role on `/v1/credentials/NAME`.",
        "1 to 64 letters, digits and `_.-`",
        "required",
        "reporting",
        "a/b",
    ),
    "role_arn": KeyNote(
        "The role to assume with the token.",
        "the ARN of an IAM role",
        "required",
        "arn:aws:iam::111122223333:role/reporting",
        "reporting",
    ),
    **_SESSION,
    "token_file": KeyNote(
        "The file of the service account token.",
        "a path",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "/var/run/secrets/reporting/token",
        '""',
    ),
    "duration": KeyNote(
        "The duration of the session to request. A role with a chain cannot have `max`.",
        f"whole seconds from {MIN_DURATION_SECONDS} to {MAX_DURATION_SECONDS}, or `max`",
        "IRSA_SIDECAR_DURATION",
        "7200",
        "60",
    ),
    "authorization_token_file": KeyNote(
        "The file of the secret that clients of this role must send. The daemon creates a missing file.",
        "a path",
        "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE",
        "/run/irsa-sidecar/reporting/token",
        '""',
    ),
    "allow_uids": KeyNote(
        "The users of the Pod that get the credentials. Other users get a 403. This key works on Linux only.",
        f"a list of at most {MAX_ITEMS} user IDs",
        "every user",
        "[1001]",
        "[app]",
    ),
    "containers": KeyNote(
        "The containers that get the role. Only injection uses this key, in the annotation `irsa-sidecar.io/roles`.",
        f"a list of at most {MAX_ITEMS} names",
        "all containers that are in no other role",
        "[exporter]",
        "exporter",
    ),
    "chain": KeyNote(
        "The roles to assume from this role, one after the other. The daemon serves the credentials of the last role.",
        f"a list of at most {MAX_CHAIN_STEPS} steps",
        "none",
        "[{role_arn: arn:aws:iam::444455556666:role/data}]",
        "[{external_id: agreed}]",
    ),
    "tags": _ONLY_IN_A_CHAIN,
    "transitive_tags": _ONLY_IN_A_CHAIN,
    "source_identity": _ONLY_IN_A_CHAIN,
    "external_id": _ONLY_IN_A_CHAIN,
}
"""The keys of a role, in the order of the code."""

OF_A_STEP: Mapping[str, KeyNote] = {
    "role_arn": KeyNote(
        "The role to assume with the credentials of the previous step.",
        "the ARN of an IAM role",
        "required",
        "arn:aws:iam::444455556666:role/data",
        "data",
    ),
    **_SESSION,
    "session_name": _SESSION["session_name"]._replace(default="the session name of the role"),
    "duration": KeyNote(
        "The duration of the session.",
        f"whole seconds from {MIN_DURATION_SECONDS} to {MAX_CHAINED_SECONDS}, which is the maximum in IAM",
        str(MAX_CHAINED_SECONDS),
        "1800",
        "7200",
    ),
    "external_id": KeyNote(
        "The external ID that the trust policy of this step's role requires.",
        "2 to 1224 letters, digits and `_+=,.@:/-`",
        "none",
        "agreed-with-them",
        "a b",
    ),
    "tags": KeyNote(
        "The session tags of this step.",
        f"a mapping of at most {MAX_TAGS} keys, each of 1 to 128 characters with a value of at most 256",
        "none",
        "{team: data}",
        "[team]",
    ),
    "transitive_tags": KeyNote(
        "The names of the tags that the sessions of the next steps keep.",
        "a list of keys of `tags`",
        "none",
        "[team]",
        "team",
    ),
    "source_identity": KeyNote(
        "The identity behind the session, for CloudTrail. It stays the same along the chain.",
        "2 to 64 letters, digits and `_+=,.@-`",
        "none",
        "cart",
        "a b",
    ),
}
"""The keys of a step of a chain, in the order of the code."""

LIMITS = f"A file has 1 to {MAX_ROLES} roles, and each name occurs once."
