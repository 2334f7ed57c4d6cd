"""
Restrict the requests that may use a token: the role session name, and the VPC or VPC endpoint of the caller. Pure.

Rule: use only condition keys that a request with a token can have. AWS lists the keys of such requests in the IAM User
Guide, "Use VPC condition keys to control federated access". A caller without AWS credentials has no organization, so
`aws:PrincipalOrgID` would reject every token. `aws:VpceOrgID` is not in that list either.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.local.service_account import SERVICE_ACCOUNT_PREFIX
from sidecar.local.trust_policy import as_list
from sidecar.setup.subjects import has_wildcard
from sidecar.sts.session_name import ALLOWED, HEAD_LENGTH, MAX_LENGTH

Values = tuple[str, ...]


class RequestConditions(NamedTuple):
    """
    The accepted values. For each field with values, a request must have one of these values.

    None keeps the current values of our statement, and an empty tuple removes them.
    """

    session_names: Values | None = None
    source_vpces: Values | None = None
    source_vpcs: Values | None = None

    def by_key(self) -> Iterator[tuple[str, Values]]:
        """Yield each condition key that has values, with the values, in a fixed order."""
        for kind, values in zip(KINDS, self, strict=True):
            if values:
                yield kind.key, values

    def over(self, current: "RequestConditions") -> "RequestConditions":
        """Return these conditions, with the values of `current` in the fields that are None here."""
        pairs = zip(self, current, strict=True)
        return RequestConditions(*(new if new is not None else old for new, old in pairs))


UNCHANGED = RequestConditions()
"""Conditions that keep all current values."""


class Kind(NamedTuple):
    """One condition: the flag without dashes, the condition key, and the accepted values as a pattern and in words."""

    flag: str
    key: str
    pattern: re.Pattern[str]
    accepted: str


KINDS = (
    Kind(
        "session-name",
        "sts:RoleSessionName",
        re.compile(rf"[*?{ALLOWED}]{{1,{MAX_LENGTH}}}"),
        f"1 to {MAX_LENGTH} letters, digits and _+=,.@-, and * and ? as wildcards, such as shop.*",
    ),
    Kind("source-vpce", "aws:SourceVpce", re.compile(r"vpce-[0-9a-f]{8,17}"), "an ID such as vpce-0123456789abcdef0"),
    Kind("source-vpc", "aws:SourceVpc", re.compile(r"vpc-[0-9a-f]{8,17}"), "an ID such as vpc-0123456789abcdef0"),
)
"""The conditions, in the order of the fields of RequestConditions."""


def parse_values(kind: Kind, texts: list[str]) -> Values:
    for text in texts:
        if not kind.pattern.fullmatch(text):
            raise ConfigurationError(
                f"--{kind.flag} is {text[:100]!r}, which is not valid",
                fix=f"Use {kind.accepted}",
                setting=f"--{kind.flag}",
            )
    return tuple(sorted({*texts}))


def read_conditions(statement: Mapping[str, Any]) -> RequestConditions:
    """Return the conditions in the forms that this command writes. Other forms count as edits."""
    return RequestConditions(*(_values(statement, kind) for kind in KINDS))


def _values(statement: Mapping[str, Any], kind: Kind) -> Values:
    """
    Return the values of one key.

    A wildcard under StringEquals is a literal character, so such a value must not move to StringLike.
    """
    found: set[str] = set()
    for operator, block in _mapping(statement.get("Condition")).items():
        if operator in ("StringEquals", "StringLike"):
            texts = [text for text in as_list(_mapping(block).get(kind.key)) if isinstance(text, str)]
            found |= {text for text in texts if operator == "StringLike" or not has_wildcard(text)}
    return tuple(sorted(text for text in found if kind.pattern.fullmatch(text)))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def changes(before: RequestConditions, after: RequestConditions, removes: str) -> Iterator[str]:
    """Yield a phrase, such as `requires …`, for each condition that is added, changed or removed."""
    for kind, old, new in zip(KINDS, before, after, strict=True):
        if new and new != old:
            yield f"requires {kind.key} {' or '.join(new)}"
        elif old and not new:
            yield f"{removes} the condition on {kind.key} ({' or '.join(old)})"


def session_name_remarks(conditions: RequestConditions, subjects: Values) -> Iterator[str]:
    """
    Yield a remark for each service account or pattern that does not fit the session names that sidecars send.

    The default is NAMESPACE.POD, and the sidecar replaces the middle of a name that is too long (session_name.py).
    """
    names = conditions.session_names or ()
    for subject in subjects if names else ():
        namespace, _, name = subject.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
        if name and not has_wildcard(namespace) and not any(_can_match(pattern, namespace) for pattern in names):
            yield (
                f"The sidecar of {namespace}/{name} sends the session name {namespace}.POD by default, and the trust "
                f"policy accepts only {' or '.join(names)}. Set the Pod's annotation irsa-sidecar.io/session-name, or "
                "AWS_ROLE_SESSION_NAME, to a name that it accepts."
            )
    for pattern in names:
        if has_wildcard(pattern) and len(_fixed_head(pattern)) > HEAD_LENGTH:
            yield (
                f"--session-name is {pattern}: the sidecar keeps only the first {HEAD_LENGTH} characters of a session "
                f"name with more than {MAX_LENGTH} characters. Use a pattern with a shorter beginning."
            )


def _can_match(pattern: str, namespace: str) -> bool:
    """Return whether the pattern accepts a name that begins with the namespace and a dot."""
    head, prefix = _fixed_head(pattern), f"{namespace}."
    if not has_wildcard(pattern):
        return pattern.startswith(prefix)
    return head.startswith(prefix) or prefix.startswith(head)


def _fixed_head(pattern: str) -> str:
    """Return the part of a pattern before its first wildcard."""
    return re.split(r"[*?]", pattern, maxsplit=1)[0]
