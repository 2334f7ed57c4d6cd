"""Parse the argument WHO of `irsa-sidecar who`: an access key ID, an ARN, or a role session name. Pure."""

import re
from typing import NamedTuple

from sidecar.errors import ConfigurationError

_KEY = re.compile(r"A[A-Z0-9]{15,127}")
_ASSUMED_ROLE = re.compile(r"arn:aws[a-z-]*:sts::(?P<account>[0-9]{12}):assumed-role/(?P<role>[^/]+)/(?P<session>.+)")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/(?:.*/)?(?P<role>[^/]+)")
_SESSION = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
"""Patterns for access key IDs (IAM API reference, AccessKey), ARNs, and role session names (STS API reference)."""


class Target(NamedTuple):
    """The key, role and session to search for. An empty text matches everything."""

    access_key_id: str = ""
    role_name: str = ""
    session_name: str = ""


def parse_target(text: str) -> Target:
    """
    Return the target that the text names.

    Raises ConfigurationError if the text has none of the known forms.
    """
    if match := _ASSUMED_ROLE.fullmatch(text):
        return Target(role_name=match["role"], session_name=match["session"])
    if match := _ROLE.fullmatch(text):
        return Target(role_name=match["role"])
    if _KEY.fullmatch(text):
        return Target(access_key_id=text)
    if _SESSION.fullmatch(text):
        return Target(session_name=text)
    raise ConfigurationError(
        f"WHO is {text[:100]!r}, which is not an access key ID, a role session name or the ARN of a role or session",
        fix="Copy it from CloudTrail: accessKeyId, arn or roleSessionName",
        setting="WHO",
    )
