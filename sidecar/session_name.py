"""
Role session names: who was it, as CloudTrail and the assumed role's ARN show it.

Rule: whatever goes in, a valid name comes out, the same one every time. The namespace stays at the front, where a
`sts:RoleSessionName` condition or a search in CloudTrail looks first, and the tail stays too, where Pod names differ.
"""

import hashlib
import re

from sidecar.errors import ConfigurationError

MIN_LENGTH = 2
MAX_LENGTH = 64
"""STS API reference, AssumeRoleWithWebIdentity, RoleSessionName: 2 to 64 of `[\\w+=,.@-]`."""

NAMELESS = "irsa-sidecar"
"""The name when nothing is known about the Pod."""

TAIL_LENGTH = 24
"""Kubernetes tells the Pods of a Deployment apart by their last 16 characters; some of its name is left before."""

DIGEST_LENGTH = 8
"""Hex digits: of 1,000 names cut to one head and tail, two share a digest in one case of 8,600."""

HEAD_LENGTH = MAX_LENGTH - TAIL_LENGTH - DIGEST_LENGTH - 2

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_+=,.@-]")


def session_name(*parts: str) -> str:
    """
    Join what there is of `parts` with dots into a name that STS accepts.

    A forbidden character becomes `-`. What is too long loses its middle to a digest of the whole: cutting alone
    would give one name to Pods that differ just there.
    """
    whole = ".".join(part for part in parts if part)
    name = _FORBIDDEN.sub("-", whole) or NAMELESS
    if len(name) > MAX_LENGTH:
        return f"{name[:HEAD_LENGTH]}-{_digest(whole)}-{name[-TAIL_LENGTH:]}"
    return name.ljust(MIN_LENGTH, "-")


def check_session_name(value: str) -> str:
    """Give AWS_ROLE_SESSION_NAME back, or raise ConfigurationError: a name that was chosen is not changed silently."""
    if MIN_LENGTH <= len(value) <= MAX_LENGTH and not _FORBIDDEN.search(value):
        return value
    raise ConfigurationError(
        f"AWS_ROLE_SESSION_NAME is {value!r}, but STS takes {MIN_LENGTH} to {MAX_LENGTH} ASCII letters, digits and "
        f"_+=,.@- only: set it to {session_name(value)!r}, or unset it to have one made from namespace and Pod."
    )


def _digest(text: str) -> str:
    # Environment variables may hold lone surrogates, for bytes that are no UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_LENGTH]
