"""
Check the subjects (`sub`) for a trust policy: full service accounts, and patterns only if requested. Pure.

Rule: this module checks every subject, from any flag or file. IAM reads `*` and `?` as wildcards under StringLike, and
`${…}` as a policy variable under every operator. So a subject with one of these can match every token.
"""

import re
from collections.abc import Sequence

from sidecar.errors import ConfigurationError
from sidecar.kubernetes.names import NAME, NAMESPACE
from sidecar.local.service_account import SERVICE_ACCOUNT_PREFIX

MAX_SUBJECT_CHARACTERS = 255
"""Maximum length of an ID token's `sub` (OpenID Connect Core 1.0, section 2). A `sub` from Kubernetes may be longer."""

_EXACT = re.compile(f"{NAMESPACE}/{NAME}")
_PATTERN = re.compile(r"[a-z0-9*?-]{1,63}/[a-z0-9.*?-]{1,253}")


def has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def has_variable(text: str) -> bool:
    """Return whether IAM would replace a part of the text (IAM User Guide, "Policy variables")."""
    return "${" in text


def read_service_account(text: str, *, allow_wildcards: bool) -> str:
    """
    Return the subject for NAMESPACE/NAME.

    Raises ConfigurationError if the name or pattern is not allowed.
    """
    if has_wildcard(text) and not allow_wildcards:
        raise ConfigurationError(
            f"--service-account is {text!r}, which contains a wildcard",
            fix=(
                "Name each service account in full, or use --allow-wildcards to trust all matching subjects, including "
                "those that do not exist yet"
            ),
            setting="--service-account",
        )
    if not (_PATTERN if has_wildcard(text) else _EXACT).fullmatch(text):
        raise ConfigurationError(
            f"--service-account is {text!r}, which is not a service account",
            fix="Use NAMESPACE/NAME, such as shop/cart",
            setting="--service-account",
        )
    return SERVICE_ACCOUNT_PREFIX + text.replace("/", ":")


def subjects_of(texts: Sequence[str], *, allow_wildcards: bool) -> tuple[str, ...]:
    """
    Return the subjects of these service accounts, sorted, so that the order of flags does not matter.

    Raises ConfigurationError if a name or pattern is not allowed.
    """
    return tuple(sorted({read_service_account(text, allow_wildcards=allow_wildcards) for text in texts}))


def subject_of_token(subject: str, file: str, *, is_kubernetes: bool, allow_wildcards: bool) -> str:
    """
    Return a token's subject if a trust policy may name it.

    A Kubernetes token names a service account. Other issuers, such as CI systems, use other forms of subjects. Any
    wildcard requires `allow_wildcards`.

    Raises ConfigurationError for any other subject.
    """
    setting = f"--token-file is {file!r}: its sub is {subject[:300]!r}"
    if has_variable(subject):
        raise ConfigurationError(
            f"{setting}, which IAM reads as a policy variable",
            fix="Check the origin of the token",
        )
    if is_kubernetes or subject.startswith(SERVICE_ACCOUNT_PREFIX):
        _check_kubernetes(subject, setting, allow_wildcards=allow_wildcards)
        return subject
    if has_wildcard(subject) and not allow_wildcards:
        raise ConfigurationError(
            f"{setting}, which is a pattern for many subjects",
            fix="Check the origin of the token, or use --allow-wildcards to trust all matching subjects",
        )
    if not subject.isprintable() or len(subject) > MAX_SUBJECT_CHARACTERS:
        raise ConfigurationError(
            f"{setting}, which is not a subject of up to {MAX_SUBJECT_CHARACTERS} printable characters",
            fix="Check the origin of the token",
        )
    return subject


def _check_kubernetes(subject: str, setting: str, *, allow_wildcards: bool) -> None:
    name = subject.removeprefix(SERVICE_ACCOUNT_PREFIX)
    is_one = subject != name and "/" not in name
    is_pattern = is_one and has_wildcard(name) and _PATTERN.fullmatch(name.replace(":", "/")) is not None
    if not (is_pattern and allow_wildcards) and not (is_one and _EXACT.fullmatch(name.replace(":", "/"))):
        hint = ", or use --allow-wildcards to trust all matching subjects" if is_pattern else ""
        raise ConfigurationError(
            f"{setting}, which is not system:serviceaccount:NAMESPACE:NAME with the full names of one service account",
            fix=f"Check the origin of the token, or set --service-account{hint}",
        )


def shown(subject: str) -> str:
    """Return the subject in the form of --service-account. For a service account, that is NAMESPACE/NAME."""
    name = subject.removeprefix(SERVICE_ACCOUNT_PREFIX)
    return subject if name == subject else name.replace(":", "/", 1)


def service_account_of(subject: str) -> tuple[str, str] | None:
    """Return the service account's namespace and name, or None for a pattern or another kind of subject."""
    name = subject.removeprefix(SERVICE_ACCOUNT_PREFIX)
    if name == subject or has_wildcard(name):
        return None
    namespace, _, account_name = name.partition(":")
    return namespace, account_name
