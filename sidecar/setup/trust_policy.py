"""
Add service accounts to a role's trust policy, and remove them. Pure.

Rule: a statement is ours if its Sid is exactly our Sid for this issuer and its Effect is Allow. All other statements
keep their content and their position, also our statements for other issuers. So several clusters and several tools can
share a role. If a person edited our statement, this command changes it only with --overwrite-edits. Conditions that
this command wrote do not count as edits, and stay until a flag changes them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import ASSUME_ROLE_WITH_WEB_IDENTITY, MAX_POLICY_CHARACTERS, as_list
from sidecar.oidc.verification import issuer_key
from sidecar.setup.request_conditions import UNCHANGED, RequestConditions, changes, read_conditions
from sidecar.setup.subjects import has_variable, has_wildcard, shown

REMOVES = "removes"
"""The first word of an effect that removes service accounts, a condition or a permission."""

SID_PREFIX = "IrsaSidecar"
VERSION = "2012-10-17"


class Change(Enum):
    """The kind of change to the service accounts in our statement."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class TrustGrant:
    """
    The permission for these subjects of this issuer to assume the role, with tokens for this audience.

    `conditions` restrict the requests in which the tokens are accepted.
    """

    provider_arn: str
    issuer: str
    audience: str
    subjects: tuple[str, ...]
    conditions: RequestConditions = UNCHANGED

    @property
    def key(self) -> str:
        return issuer_key(self.issuer)

    @property
    def sid(self) -> str:
        """Return the Sid of our statement. It depends only on the issuer, and IAM accepts only letters and digits."""
        return SID_PREFIX + hashlib.sha256(self.issuer.encode()).hexdigest()[:12]

    def statement(self) -> dict[str, Any]:
        """
        Return the statement in the form of AWS's IRSA guide, with a Sid and the conditions.

        If any value of a key has a wildcard, all its values are under StringLike. A value without a wildcard still
        matches only itself.
        """
        condition: dict[str, Any] = {"StringEquals": {f"{self.key}:aud": self.audience}}
        for key, values in ((f"{self.key}:sub", self.subjects), *self.conditions.by_key()):
            operator = "StringLike" if any(map(has_wildcard, values)) else "StringEquals"
            condition.setdefault(operator, {})[key] = values[0] if len(values) == 1 else list(values)
        return {
            "Sid": self.sid,
            "Effect": "Allow",
            "Principal": {"Federated": self.provider_arn},
            "Action": ASSUME_ROLE_WITH_WEB_IDENTITY,
            "Condition": condition,
        }


def with_grant(
    document: Mapping[str, Any] | None, grant: TrustGrant, change: Change = Change.ADD, *, overwrite_edits: bool = False
) -> dict[str, Any]:
    """
    Return the trust policy with the subjects of `grant` added, as the only subjects, or removed.

    The conditions of our statement stay, except those that `grant` sets or removes. Every other statement keeps its
    position. If another tool already wrote an equal statement, the policy is returned unchanged.

    Raises ConfigurationError if our statement was edited and `overwrite_edits` is false, if a Deny has our Sid, or if
    no statement would remain.
    """
    if document is None:
        return {"Version": VERSION, "Statement": [grant.statement()]}
    statements = statements_of(document)
    _check_sid(statements, grant)
    own = [index for index, statement in enumerate(statements) if is_own(statement, grant)]
    edited = [statements[index] for index in own if is_edited(statements[index], grant)]
    if edited and not overwrite_edits:
        raise ConfigurationError(_edit_problem(edited[0], grant))
    before, conditions = own_subjects(document, grant), own_conditions(document, grant)
    subjects = _changed(before, grant.subjects, change)
    wanted = replace(grant, subjects=subjects, conditions=grant.conditions.over(conditions))
    is_granted_elsewhere = (
        not own and change is not Change.REMOVE and any(_grants_the_same(statement, grant) for statement in statements)
    )
    is_same = before == subjects and conditions == wanted.conditions
    if is_granted_elsewhere or (is_same and not edited and len(own) <= 1):
        return dict(document)
    return {**document, "Statement": _replaced(statements, own, wanted)}


def _changed(before: tuple[str, ...], named: tuple[str, ...], change: Change) -> tuple[str, ...]:
    match change:
        case Change.ADD:
            return tuple(sorted({*before, *named}))
        case Change.REPLACE:
            return tuple(sorted({*named}))
        case Change.REMOVE:
            return tuple(sorted({*before} - {*named}))


def _replaced(statements: list[Any], own: list[int], grant: TrustGrant) -> list[Any]:
    """
    Return the statements, with our statement where it was first, or at the end if it is new.

    Without subjects, our statement is left out.

    Raises ConfigurationError if no statement remains.
    """
    place = own[0] if own else len(statements)
    ours = [grant.statement()] if grant.subjects else []
    kept = [statement for index, statement in enumerate(statements) if index not in own]
    result = [*kept[:place], *ours, *kept[place:]]
    if not result:
        raise ConfigurationError(
            "--remove would delete the last statement of the trust policy, but IAM requires one",
            fix="Use --replace with another service account, or delete the role: `aws iam delete-role`",
            setting="--remove",
        )
    return result


def own_subjects(document: Mapping[str, Any], grant: TrustGrant) -> tuple[str, ...]:
    """Return the subjects in our statement for this issuer, sorted."""
    own = (statement for statement in statements_of(document) if is_own(statement, grant))
    return tuple(sorted({subject for statement in own for subject in _subjects(statement, grant)}))


def own_conditions(document: Mapping[str, Any], grant: TrustGrant) -> RequestConditions:
    """Return the conditions of our first statement for this issuer. Without one, all conditions are empty."""
    own = [statement for statement in statements_of(document) if is_own(statement, grant)]
    return read_conditions(own[0] if own else {})


def is_edited(statement: Mapping[str, Any], grant: TrustGrant) -> bool:
    """Return whether our statement has edits in other parts than its subjects and conditions."""
    return not _subjects(statement, grant) or not _grants_the_same(statement, _as_written(statement, grant))


def _as_written(statement: Mapping[str, Any], grant: TrustGrant) -> TrustGrant:
    """Return the grant with the subjects and the conditions of our statement."""
    subjects = _subjects(statement, grant) or grant.subjects
    return replace(grant, subjects=subjects, conditions=read_conditions(statement))


def _subjects(statement: Mapping[str, Any], grant: TrustGrant) -> tuple[str, ...]:
    """
    Return the subjects in the two forms that this command writes.

    A wildcard under StringEquals is a literal character, so such a subject must not move to StringLike.
    """
    condition = as_mapping(statement.get("Condition"))
    found = {
        str(value)
        for operator in ("StringEquals", "StringLike")
        for key, values in as_mapping(condition.get(operator)).items()
        if key.lower() == f"{grant.key}:sub".lower()
        for value in as_list(values)
        if not has_variable(str(value)) and (operator == "StringLike" or not has_wildcard(str(value)))
    }
    return tuple(sorted(found))


def _edit_problem(statement: Mapping[str, Any], grant: TrustGrant) -> str:
    ours = _as_written(statement, grant).statement()
    differing = {name: statement.get(name) for name in {**ours, **statement} if statement.get(name) != ours.get(name)}
    return (
        f"Statement {grant.sid} of the trust policy was edited: it has {compact(differing)}, and this command writes "
        f"{compact({name: ours.get(name) for name in differing})}. Change the statement's Sid to keep it as it is, "
        "or use --overwrite-edits to discard these edits."
    )


def _check_sid(statements: list[Any], grant: TrustGrant) -> None:
    """Raise ConfigurationError if a Deny statement has our Sid, because IAM rejects a policy with equal Sids."""
    if any(as_mapping(item).get("Sid") == grant.sid and not is_own(item, grant) for item in statements):
        raise ConfigurationError(
            f"Statement {grant.sid} of the trust policy is a Deny, and this command needs that Sid for its Allow",
            fix="Change the Sid of the Deny statement to keep it",
        )


SMALLER_GRANT = "Use a second role, use one pattern for several service accounts (--allow-wildcards)"
"""The fix for a trust policy that is too long because of its service accounts."""


def check_size(document: Mapping[str, Any], limit: int, name: str, fix: str = SMALLER_GRANT) -> None:
    """Raise ConfigurationError if IAM would reject the trust policy because of its size."""
    size = len(compact(document))
    if size > limit:
        raise ConfigurationError(
            f"The trust policy of {name} would have {size} characters, but IAM accepts {limit}",
            fix=(
                f"{fix}, or have the quota for trust policies raised, to {MAX_POLICY_CHARACTERS} at most, and pass the "
                "new quota with --trust-policy-limit"
            ),
        )


def compact(document: Mapping[str, Any]) -> str:
    """Return the document in the form whose characters IAM counts, without white space between elements."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def is_own(statement: Any, grant: TrustGrant) -> bool:
    """Return whether the statement is ours for this issuer: an Allow with exactly our Sid."""
    return isinstance(statement, Mapping) and statement.get("Sid") == grant.sid and statement.get("Effect") == "Allow"


def summary(before: Mapping[str, Any] | None, after: Mapping[str, Any], grant: TrustGrant, limit: int) -> Iterator[str]:
    """Yield the changes of our statement's service accounts and conditions, and the size of the whole policy."""
    previous, current = own_subjects(before or {}, grant), own_subjects(after, grant)
    for verb, subjects in (
        ("adds", {*current} - {*previous}),
        (REMOVES, {*previous} - {*current}),
        ("keeps", {*previous} & {*current}),
    ):
        if subjects and previous != current:
            yield f"{verb} {', '.join(shown(subject) for subject in sorted(subjects))}"
    if current:
        yield from changes(own_conditions(before or {}, grant), own_conditions(after, grant), REMOVES)
    if before != after:
        yield f"the trust policy has {len(compact(after))} of {limit} characters"


def statements_of(document: Mapping[str, Any]) -> list[Any]:
    """Return the statements as a list. IAM also accepts a single statement without a list."""
    return as_list(document.get("Statement"))


def _grants_the_same(statement: Any, grant: TrustGrant) -> bool:
    """Return whether the statement equals that of `grant`, ignoring the Sid and the order and form of lists."""
    if not isinstance(statement, Mapping):
        return False
    return bool(normalised(statement) == normalised(grant.statement()))


def normalised(statement: Mapping[str, Any]) -> Any:
    """Return the statement in a form that ignores the Sid, and the order and form of lists."""

    def sorted_lists(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: sorted_lists(item) for name, item in value.items()}
        return sorted(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else [value]

    return {name: sorted_lists(value) for name, value in statement.items() if name != "Sid"}


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return the value if it is a mapping, else an empty mapping."""
    return value if isinstance(value, Mapping) else {}
