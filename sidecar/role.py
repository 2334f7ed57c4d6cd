"""
Hold the settings of one role in a frozen value, and parse its parts.

The arguments of each `parse_…` function are the setting's name (a variable, or a location in a file) and the value. The
function returns the parsed value, or raises ConfigurationError with setting, value and fix. The limits are those of STS
(API reference, AssumeRoleWithWebIdentity and AssumeRole). Rule: this module must import fast, because the daemon
imports it before it binds the listener.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.redaction import holds_token

CREDENTIALS_PATH = "/v1/credentials"
"""The path of the default role's credentials. The credentials of other roles are below this path."""

DEFAULT_ROLE = "default"
"""The name of the role whose path has no name."""

MIN_DURATION_SECONDS, MAX_DURATION_SECONDS = 900, 43_200
"""The limits of DurationSeconds. A role may allow less."""

MAX_CHAINED_SECONDS = 3600
"""The longest session of a role that is assumed with another role's credentials (IAM User Guide, role chaining)."""

MAX_CHAIN_STEPS = 10
"""Maximum number of steps of a chain. Each step has a deadline, and admin.py reports a loop that waits too long."""

ROLE_ARN = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\x21-\x7e]{1,2000}"
"""Pattern of the ARN of an IAM role."""

WHOLE_NUMBER = r"[0-9]{1,9}"
"""Pattern of a number of seconds."""

LONGEST = "max"
"""The value for the longest duration that the role allows (refresh/max_duration.py)."""

MAX_POLICY_CHARACTERS = 2048
"""Limit for the session policy and the policy ARNs together, in characters of plain text."""

MAX_POLICY_ARNS = 10
"""Maximum number of policy ARNs of one session."""


class PodNames(NamedTuple):
    """The Pod's names from the Downward API. A token lacks these names if its issuer is not Kubernetes."""

    namespace: str | None = None
    service_account: str | None = None
    pod: str | None = None
    uid: str | None = None


class ChainStep(NamedTuple):
    """
    One AssumeRole call, signed with the credentials of the previous step.

    If `session_name` is None, the step uses the role's session name.
    """

    role_arn: str
    session_name: str | None = None
    duration_seconds: int = MAX_CHAINED_SECONDS
    external_id: str | None = None
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    transitive_tags: tuple[str, ...] = ()
    source_identity: str | None = None


class Role(NamedTuple):
    """
    The settings of one role: which credentials to request, and which clients may get them.

    `session_name` is a name or a template (session_name.py). `policy` is JSON. `containers` are the containers to which
    injection assigns the role (sidecar/injection).

    If `session_name` is None, the name comes from the token's claims. If `duration_seconds` is None, the daemon
    requests the longest duration that the role allows. If `allow_uids` is None, every user of the Pod is allowed. If
    `containers` is None, the role is for all containers that no other role names.
    """

    name: str
    role_arn: str
    token_file: str
    session_name: str | None
    duration_seconds: int | None
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()
    authorization_token_file: str | None = None
    allow_uids: frozenset[int] | None = None
    chain: tuple[ChainStep, ...] = ()
    pod_names: PodNames = PodNames()
    containers: tuple[str, ...] | None = None

    @property
    def path(self) -> str:
        """Return the URL path of the role's credentials."""
        return CREDENTIALS_PATH if self.name == DEFAULT_ROLE else f"{CREDENTIALS_PATH}/{self.name}"

    @property
    def final_arn(self) -> str:
        """Return the ARN of the role whose credentials are served: the last of the chain."""
        return self.chain[-1].role_arn if self.chain else self.role_arn


def secret_files(roles: Sequence[Role]) -> list[str]:
    """Return the files of the roles' secrets."""
    return [role.authorization_token_file for role in roles if role.authorization_token_file is not None]


class RoleDefaults(NamedTuple):
    """Default settings for roles that do not set their own. `{role}` in a path stands for the role's name."""

    token_file: str | None = None
    session_name: str | None = None
    duration_seconds: int | None = 3600
    authorization_token_file: str | None = None
    pod_names: PodNames = PodNames()

    def role(self, name: str, role_arn: str, **own: Any) -> Role:
        """Return the role with its `own` settings, and the defaults for the others."""
        path = self.authorization_token_file
        secret = {"authorization_token_file": path and path.replace("{role}", name)}
        return Role(name, role_arn, **{**self._asdict(), **secret, **own})


def parse_role_arn(setting: str, text: str) -> str:
    if not re.fullmatch(ROLE_ARN, text):
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}, which is not the ARN of an IAM role",
            fix="Use an ARN such as arn:aws:iam::111122223333:role/app",
            setting=setting,
        )
    return text


def parse_token_file(setting: str, path: str) -> str:
    """
    Return the path.

    Raises ConfigurationError if it is a token, because later messages would show the token.
    """
    if holds_token(path):
        raise ConfigurationError(
            f"{setting} is a token (not shown here) instead of a path",
            fix="Set the path of the file that holds the token, such as "
            "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
            setting=setting,
        )
    return parse_path(setting, path)


def parse_path(setting: str, text: str) -> str:
    """
    Return the path.

    Raises ConfigurationError if it is empty, has a NUL, or cannot be encoded for the file system.

    An empty flag usually comes from an unset variable. If an empty flag meant "no file", it would disable the secret
    silently.
    """
    try:
        is_possible = bool(text) and b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}, which cannot be a path",
            fix="Set the path of a file, or remove the setting",
            setting=setting,
        )
    return text


def parse_duration(setting: str, text: str) -> int | None:
    """Return the duration in seconds, or None for the longest duration that the role allows."""
    if text == LONGEST:
        return None
    limits = f"{MIN_DURATION_SECONDS} to {MAX_DURATION_SECONDS}, or {LONGEST} for the longest that the role allows"
    return parse_whole_number(setting, text, MIN_DURATION_SECONDS, MAX_DURATION_SECONDS, limits)


def parse_whole_number(setting: str, text: str, low: int, high: int, limits: str | None = None) -> int:
    if not re.fullmatch(WHOLE_NUMBER, text) or not low <= int(text) <= high:
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}, which is not a valid number of seconds",
            fix=f"Use whole seconds from {limits or f'{low} to {high}'}",
            setting=setting,
        )
    return int(text)


def parse_session_policy(setting: str, policy: Any, policy_arns: Sequence[str]) -> str | None:
    """
    Return the policy as compact JSON, or None if there is no policy.

    Raises ConfigurationError if the policy and the ARNs together exceed STS's limit.
    """
    text = None if policy is None else json.dumps(policy, separators=(",", ":"))
    length = len(text or "") + sum(map(len, policy_arns))
    if length > MAX_POLICY_CHARACTERS:
        raise ConfigurationError(
            f"{setting} has {length} characters with its policy_arns, and STS accepts {MAX_POLICY_CHARACTERS}",
            fix="Shorten the policy, or create a managed policy and name it in policy_arns",
            setting=setting,
        )
    return text
