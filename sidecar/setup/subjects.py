"""
Check the subjects (`sub`) that a trust policy may name: full service accounts, and patterns only if requested. Pure.

Rule: this module checks every subject, from any flag or file. IAM reads `*` and `?` as wildcards under StringLike, and
`${…}` as a policy variable under every operator. So a subject with one of them can match every token.
"""

import re
from collections.abc import Sequence

from sidecar.errors import ConfigurationError
from sidecar.kubernetes.names import NAME, NAMESPACE
from sidecar.local.service_account import SERVICE_ACCOUNT_PREFIX

MAX_SUBJECT_CHARACTERS = 255
"""The longest `sub` of an ID token (OpenID Connect Core 1.0, section 2). A `sub` of Kubernetes may be longer."""

_EXACT = re.compile(f"{NAMESPACE}/{NAME}")
_PATTERN = re.compile(r"[a-z0-9*?-]{1,63}/[a-z0-9.*?-]{1,253}")


def has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def has_variable(text: str) -> bool:
    """Return whether IAM would replace a part of the text (IAM User Guide, "Policy variables")."""
    return "${" in text


def read_service_account(text: str, *, allow_wildcards: bool) -> str:
    """Return the subject of NAMESPACE/NAME. Raises ConfigurationError unless it is a name or an allowed pattern."""
    if has_wildcard(text) and not allow_wildcards:
        raise ConfigurationError(
            f"--service-account is {text!r}",
            fix=(
                "Name each service account in full, or give --allow-wildcards to trust all that match, including "
                "those that do not exist yet"
            ),
            setting="--service-account",
        )
    if not (_PATTERN if has_wildcard(text) else _EXACT).fullmatch(text):
        raise ConfigurationError(
            f"--service-account is {text!r}",
            fix="Write NAMESPACE/NAME, such as shop/cart",
            setting="--service-account",
        )
    return SERVICE_ACCOUNT_PREFIX + text.replace("/", ":")


def subjects_of(texts: Sequence[str], *, allow_wildcards: bool) -> tuple[str, ...]:
    """Return the subjects in sorted order, so that their order on the command line does not matter."""
    return tuple(sorted({read_service_account(text, allow_wildcards=allow_wildcards) for text in texts}))


def subject_of_token(subject: str, file: str, *, is_kubernetes: bool, allow_wildcards: bool) -> str:
    """
    Return the subject of a token if a trust policy may name it.

    A Kubernetes token names a service account. Other issuers, such as CI systems, have subjects of other forms. They
    are accepted without wildcards. Raises ConfigurationError for any other subject.
    """
    setting = f"--token-file is {file!r}: its sub is {subject[:300]!r}"
    if has_variable(subject):
        raise ConfigurationError(
            f"{setting}, which IAM reads as a policy variable",
            fix="Check where the token is from",
        )
    if is_kubernetes or subject.startswith(SERVICE_ACCOUNT_PREFIX):
        _check_kubernetes(subject, setting, allow_wildcards=allow_wildcards)
        return subject
    if has_wildcard(subject) and not allow_wildcards:
        raise ConfigurationError(
            f"{setting}, which is a pattern for many subjects",
            fix="Check where the token is from, or give --allow-wildcards to trust all that match",
        )
    if not subject.isprintable() or len(subject) > MAX_SUBJECT_CHARACTERS:
        raise ConfigurationError(
            f"{setting}, which is not a subject of up to {MAX_SUBJECT_CHARACTERS} printable characters",
            fix="Check where the token is from",
        )
    return subject


def _check_kubernetes(subject: str, setting: str, *, allow_wildcards: bool) -> None:
    name = subject.removeprefix(SERVICE_ACCOUNT_PREFIX)
    is_one = subject != name and "/" not in name
    is_pattern = is_one and has_wildcard(name) and _PATTERN.fullmatch(name.replace(":", "/")) is not None
    if not (is_pattern and allow_wildcards) and not (is_one and _EXACT.fullmatch(name.replace(":", "/"))):
        hint = ", or give --allow-wildcards to trust all that match" if is_pattern else ""
        raise ConfigurationError(
            f"{setting}, which is not system:serviceaccount:NAMESPACE:NAME with the full names of one service account",
            fix=f"Check where the token is from, or name the service account with --service-account{hint}",
        )


def shown(subject: str) -> str:
    """Return the subject in the form of --service-account: NAMESPACE/NAME for a service account."""
    name = subject.removeprefix(SERVICE_ACCOUNT_PREFIX)
    return subject if name == subject else name.replace(":", "/", 1)


def service_account_of(subject: str) -> tuple[str, str] | None:
    """Return the namespace and the name of the service account; None for a pattern or another kind of subject."""
    name = subject.removeprefix(SERVICE_ACCOUNT_PREFIX)
    if name == subject or has_wildcard(name):
        return None
    namespace, _, account_name = name.partition(":")
    return namespace, account_name
