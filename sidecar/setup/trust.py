"""
The statement that lets service accounts assume a role, within a trust policy that others may write too. Pure.

Rule: a statement is ours if its Sid begins with SID_PREFIX. All others stay as they are, as do ours for other issuers,
so that several clusters and several tools can share a role.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import DEFAULT_POLICY_CHARACTERS, MAX_POLICY_CHARACTERS
from sidecar.local.web_identity import issuer_key

SID_PREFIX = "IrsaSidecar"
WEB_IDENTITY = "sts:AssumeRoleWithWebIdentity"
VERSION = "2012-10-17"

DEFAULT_LIMIT, HIGHEST_LIMIT = DEFAULT_POLICY_CHARACTERS, MAX_POLICY_CHARACTERS

_NAMESPACE = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SERVICE_ACCOUNT = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
"""Kubernetes' names: an RFC 1123 label and an RFC 1123 subdomain."""

_EXACT = re.compile(f"{_NAMESPACE}/{_SERVICE_ACCOUNT}")
_PATTERN = re.compile(r"[a-z0-9*?-]{1,63}/[a-z0-9.*?-]{1,253}")
_SUBJECT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Grant:
    """Who may assume the role: these subjects of this issuer, with tokens for this audience."""

    provider_arn: str
    issuer: str
    audience: str
    subjects: tuple[str, ...]

    @property
    def key(self) -> str:
        return issuer_key(self.issuer)

    @property
    def sid(self) -> str:
        """The same for the same issuer always. IAM takes letters and digits only."""
        return SID_PREFIX + hashlib.sha256(self.issuer.encode()).hexdigest()[:12]

    def statement(self) -> dict[str, Any]:
        """
        As in AWS's IRSA guide, with a Sid.

        One wildcard makes all subjects StringLike, where a name without one stands for itself only.
        """
        audience = {f"{self.key}:aud": self.audience}
        subjects = {f"{self.key}:sub": self.subjects[0] if len(self.subjects) == 1 else list(self.subjects)}
        condition: dict[str, Any] = {"StringEquals": audience | subjects}
        if any(has_wildcard(subject) for subject in self.subjects):
            condition = {"StringEquals": audience, "StringLike": subjects}
        return {
            "Sid": self.sid,
            "Effect": "Allow",
            "Principal": {"Federated": self.provider_arn},
            "Action": WEB_IDENTITY,
            "Condition": condition,
        }


def has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def read_service_account(text: str, *, allow_wildcards: bool) -> str:
    """The subject (`sub`) of NAMESPACE/NAME in tokens. Raises ConfigurationError."""
    if has_wildcard(text) and not allow_wildcards:
        raise ConfigurationError(
            f"--service-account is {text!r}: name each service account in full, or say --allow-wildcards to trust all "
            "that match, those that do not exist yet included."
        )
    if not (_PATTERN if has_wildcard(text) else _EXACT).fullmatch(text):
        raise ConfigurationError(f"--service-account is {text!r}: write NAMESPACE/NAME, as shop/cart.")
    return _SUBJECT + text.replace("/", ":")


def with_grant(document: Mapping[str, Any] | None, grant: Grant) -> dict[str, Any]:
    """
    The trust policy with this grant in it, and every other statement as it was.

    What it already says in full stays, whoever wrote it. A statement of ours for the same issuer is replaced where it
    stands.
    """
    if document is None:
        return {"Version": VERSION, "Statement": [grant.statement()]}
    statements = statements_of(document)
    own = [index for index, statement in enumerate(statements) if is_own(statement, grant)]
    if [statements[index] for index in own] == [grant.statement()]:
        return dict(document)
    if own:
        kept = [statement for index, statement in enumerate(statements) if index not in own[1:]]
        kept[own[0]] = grant.statement()
    elif any(_says(statement, grant) for statement in statements):
        return dict(document)
    else:
        kept = [*statements, grant.statement()]
    return {**document, "Statement": kept}


def check_size(document: Mapping[str, Any], limit: int, name: str) -> None:
    """Raises ConfigurationError for a trust policy that IAM would not take."""
    size = len(compact(document))
    if size > limit:
        raise ConfigurationError(
            f"The trust policy of {name} would have {size} characters, and IAM takes {limit}: use a second role, let "
            "one pattern stand for several service accounts (--allow-wildcards), or have the quota for trust policies "
            f"raised, to {HIGHEST_LIMIT} at most, and say so with --trust-policy-limit."
        )


def compact(document: Mapping[str, Any]) -> str:
    """As IAM counts it: white space between elements is not looked at."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def is_own(statement: Any, grant: Grant) -> bool:
    """Whether the statement is ours and for the same issuer."""
    return (
        isinstance(statement, Mapping)
        and str(statement.get("Sid", "")).startswith(SID_PREFIX)
        and _listed(_mapping(statement.get("Principal")).get("Federated")) == [grant.provider_arn]
    )


def concerns(document: Mapping[str, Any], grant: Grant) -> Iterator[str]:
    """What a person should know about statements of others in the same trust policy."""
    for index, statement in enumerate(statements_of(document), 1):
        if not isinstance(statement, Mapping) or is_own(statement, grant) or statement.get("Effect") != "Allow":
            continue
        label = f"Statement {statement.get('Sid', index)} of its trust policy, which is not of this command,"
        principal, actions = _mapping(statement.get("Principal")), _listed(statement.get("Action"))
        if grant.provider_arn in _listed(principal.get("Federated")) and not _limits_subject(statement, grant):
            yield (
                f"{label} lets every service account of {grant.issuer} assume the role: give it a condition on "
                f"{grant.key}:sub, or take it out."
            )
        if "AWS" in principal and "sts:AssumeRole" in actions and "sts:TagSession" not in actions:
            yield (
                f"{label} allows sts:AssumeRole without sts:TagSession: a chain of roles that sends tags needs both "
                "there."
            )


def statements_of(document: Mapping[str, Any]) -> list[Any]:
    """IAM takes one statement without a list around it."""
    return _listed(document.get("Statement"))


def _says(statement: Any, grant: Grant) -> bool:
    """Whether it grants just this, apart from its Sid and the order and form of lists."""
    if not isinstance(statement, Mapping):
        return False
    return bool(_normal(statement) == _normal(grant.statement()))


def _normal(statement: Mapping[str, Any]) -> Any:
    def sorted_lists(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: sorted_lists(item) for name, item in value.items()}
        return sorted(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else [value]

    return {name: sorted_lists(value) for name, value in statement.items() if name != "Sid"}


def _limits_subject(statement: Mapping[str, Any], grant: Grant) -> bool:
    wanted = f"{grant.key}:sub".lower()
    return any(
        key.lower() == wanted
        for operator, keys in _mapping(statement.get("Condition")).items()
        if "Not" not in operator
        for key in _mapping(keys)
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def subjects_of(texts: Sequence[str], *, allow_wildcards: bool) -> tuple[str, ...]:
    """Sorted, so that their order on the command line changes nothing."""
    return tuple(sorted({read_service_account(text, allow_wildcards=allow_wildcards) for text in texts}))
