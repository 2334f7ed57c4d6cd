"""
Role session names: who was it, as CloudTrail and the assumed role's ARN show it.

Rule: whatever goes in, a valid name comes out, the same one every time. The namespace stays at the front, where a
`sts:RoleSessionName` condition or a search in CloudTrail looks first, and the tail stays too, where Pod names differ.

A template is a name with fields in braces, which no name that STS takes can hold, so the two cannot be mixed up.
"""

import hashlib
import re
from collections.abc import Mapping

from sidecar.errors import ConfigurationError

MIN_LENGTH = 2
MAX_LENGTH = 64
"""STS API reference, AssumeRoleWithWebIdentity, RoleSessionName: 2 to 64 of `[\\w+=,.@-]`."""

FIELDS = ("namespace", "service_account", "pod", "uid", "role")
"""What a template may name: of the Pod, and the role's name in the configuration."""

NAMELESS = "irsa-sidecar"
"""The name when nothing is known about the Pod."""

TAIL_LENGTH = 24
"""Kubernetes tells the Pods of a Deployment apart by their last 16 characters; some of its name is left before."""

DIGEST_LENGTH = 8
"""Hex digits: of 1,000 names cut to one head and tail, two share a digest in one case of 8,600."""

HEAD_LENGTH = MAX_LENGTH - TAIL_LENGTH - DIGEST_LENGTH - 2

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_+=,.@-]")
_FIELD = re.compile(r"\{([^{}]*)\}")
_PUNCTUATION = "_+=,.@-"


def session_name(*parts: str) -> str:
    """
    Join what there is of `parts` with dots into a name that STS accepts.

    A forbidden character becomes `-`. What is too long loses its middle to a digest of the whole: cutting alone
    would give one name to Pods that differ just there.
    """
    return _cleaned(".".join(part for part in parts if part))


def from_template(template: str, values: Mapping[str, str | None]) -> str:
    """
    Fill a template's fields into a name that STS accepts. A value that is not known leaves nothing in its place, nor
    punctuation at either end.
    """
    filled = _FIELD.sub(lambda field: values.get(field[1]) or "", template)
    is_whole = all(values.get(name) for name in _FIELD.findall(template))
    return _cleaned(filled if is_whole else filled.strip(_PUNCTUATION))


def parse_session_name(setting: str, value: str) -> str:
    """Give a name or template back, or raise ConfigurationError: a name that was chosen is not changed silently."""
    if _FIELD.search(value):
        return _check_template(setting, value)
    if MIN_LENGTH <= len(value) <= MAX_LENGTH and not _FORBIDDEN.search(value):
        return value
    raise ConfigurationError(
        f"{setting} is {value[:100]!r}, but STS takes {MIN_LENGTH} to {MAX_LENGTH} ASCII letters, digits and "
        f"_+=,.@- only: set it to {_cleaned(value)!r}, or unset it to have one made from namespace and Pod."
    )


def _check_template(setting: str, value: str) -> str:
    unknown = [name for name in _FIELD.findall(value) if name not in FIELDS]
    fields = ", ".join(f"{{{name}}}" for name in FIELDS)
    if unknown:
        raise ConfigurationError(
            f"{setting} is {value[:100]!r}, and {{{unknown[0][:50]}}} is no field: there are {fields}."
        )
    if bad := _FORBIDDEN.search(_FIELD.sub("", value)):
        raise ConfigurationError(
            f"{setting} is {value[:100]!r}, and STS takes no {bad[0]!r} in a name: put letters, digits and _+=,.@- "
            f"around the fields {fields}."
        )
    return value


def _cleaned(whole: str) -> str:
    name = _FORBIDDEN.sub("-", whole) or NAMELESS
    if len(name) > MAX_LENGTH:
        return f"{name[:HEAD_LENGTH]}-{_digest(whole)}-{name[-TAIL_LENGTH:]}"
    return name.ljust(MIN_LENGTH, "-")


def _digest(text: str) -> str:
    # Environment variables may hold lone surrogates, for bytes that are no UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_LENGTH]
