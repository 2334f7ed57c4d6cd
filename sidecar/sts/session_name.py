"""
Build role session names, by which CloudTrail and the assumed role's ARN identify the caller. Pure.

Rule: each input leads to a valid name, and always to the same name. The namespace stays at the front, for conditions on
`sts:RoleSessionName` and searches in CloudTrail. The end stays too, because the names of Pods differ there.

A template is a name with fields in braces. STS accepts no braces, so a name cannot be mistaken for a template. Without
a setting, request.py uses `namespace.pod`.
"""

import re
from collections.abc import Mapping

from sidecar.errors import ConfigurationError
from sidecar.redaction import without_secrets

MIN_LENGTH = 2
MAX_LENGTH = 64
"""Maximum length of a session name (STS API reference, AssumeRoleWithWebIdentity, RoleSessionName: 2 to 64 of
`[\\w+=,.@-]`)."""

FIELDS = ("namespace", "service_account", "pod", "uid", "role")
"""The fields of a template: names of the Pod, and the role's name in the configuration."""

NAMELESS = "irsa-sidecar"
"""The session name if nothing is known about the Pod."""

TAIL_LENGTH = 24
"""Length of the kept end of a long name. The last 16 characters differ among the Pods of a Deployment."""

DIGEST_LENGTH = 8
"""Number of hex digits in the digest. With 1,000 names of the same head and tail, the chance of a collision is 1 in
8,600."""

HEAD_LENGTH = MAX_LENGTH - TAIL_LENGTH - DIGEST_LENGTH - 2

ALLOWED = "A-Za-z0-9_+=,.@-"
"""The characters that a name may contain, as the content of a character class in a regular expression."""

_FORBIDDEN = re.compile(f"[^{ALLOWED}]")
_FIELD = re.compile(r"\{([^{}]*)\}")
_PUNCTUATION = "_+=,.@-"


def session_name(*parts: str) -> str:
    """
    Join the non-empty `parts` with dots into a name that STS accepts.

    A forbidden character becomes `-`. In a name that is too long, a digest of the whole replaces the middle. Without
    the digest, Pods that differ only in the middle would have the same name.
    """
    return _cleaned(".".join(part for part in parts if part))


def from_template(template: str, values: Mapping[str, str | None]) -> str:
    """
    Fill a template's fields, and return a name that STS accepts.

    An unknown value becomes empty text. Punctuation at either end of the name is then removed.
    """
    filled = _FIELD.sub(lambda field: values.get(field[1]) or "", template)
    is_whole = all(values.get(name) for name in _FIELD.findall(template))
    return _cleaned(filled if is_whole else filled.strip(_PUNCTUATION))


def parse_session_name(setting: str, value: str) -> str:
    """
    Return the value, which is a name or a template.

    Raises ConfigurationError if the value is invalid, instead of changing it silently.
    """
    if _FIELD.search(value):
        return _check_template(setting, value)
    if MIN_LENGTH <= len(value) <= MAX_LENGTH and not _FORBIDDEN.search(value):
        return value
    raise ConfigurationError(
        f"{setting} is {value[:100]!r}, but STS accepts only {MIN_LENGTH} to {MAX_LENGTH} ASCII letters, digits and "
        "_+=,.@-",
        fix=f"Set it to {_cleaned(without_secrets(value))!r}, or unset it to use NAMESPACE.POD",
        setting=setting,
    )


def _check_template(setting: str, value: str) -> str:
    unknown = [name for name in _FIELD.findall(value) if name not in FIELDS]
    fields = ", ".join(f"{{{name}}}" for name in FIELDS)
    if unknown:
        raise ConfigurationError(
            f"{setting} is {value[:100]!r}, in which {{{unknown[0][:50]}}} is not a field",
            fix=f"Use the fields {fields}",
            setting=setting,
        )
    if bad := _FORBIDDEN.search(_FIELD.sub("", value)):
        raise ConfigurationError(
            f"{setting} is {value[:100]!r}, and STS does not accept {bad[0]!r} in a name",
            fix=f"Use only letters, digits and _+=,.@- around the fields {fields}",
            setting=setting,
        )
    return value


def _cleaned(whole: str) -> str:
    name = _FORBIDDEN.sub("-", whole) or NAMELESS
    if len(name) > MAX_LENGTH:
        return f"{name[:HEAD_LENGTH]}-{_digest(whole)}-{name[-TAIL_LENGTH:]}"
    return name.ljust(MIN_LENGTH, "-")


def _digest(text: str) -> str:
    import hashlib  # noqa: PLC0415  few names are too long

    # Environment variables contain lone surrogates for bytes that are not UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_LENGTH]
