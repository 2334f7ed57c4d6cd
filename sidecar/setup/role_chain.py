"""
Allow one role to assume another: an inline policy of the first, and a trust statement of the second. Pure.

Rule: the inline policy and the statement have names that depend only on the two roles, so a second run finds them. All
other policies and statements keep their content and their position. A part that a person edited is changed or removed
only with --overwrite-edits. The external id and the tags keep their values unless a flag changes them.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import as_list
from sidecar.setup.trust_policy import VERSION, Change, as_mapping, normalised, statements_of

ASSUME_ROLE, TAG_SESSION = "sts:AssumeRole", "sts:TagSession"

POLICY_PREFIX = "irsa-sidecar-chain"
SID_PREFIX = "IrsaSidecarChain"

_TARGET = re.compile(r"arn:(aws[a-z-]*):iam::([0-9]{12}):role(/(?:[A-Za-z0-9_+=,.@-]+/)*)([A-Za-z0-9_+=,.@-]{1,64})")
"""Pattern for the ARN of one role. It excludes `*` and `?`, which IAM would read as wildcards for several roles."""

_EXTERNAL_ID = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}")
"""Pattern for an external id (STS API reference, AssumeRole)."""

_DELETED_PRINCIPAL = re.compile(r"A[A-Z0-9]{15,127}")
"""Pattern for the unique ID that replaces the ARN of a deleted role. A new role with the same name has another ID."""

Document = Mapping[str, Any]


class Target(NamedTuple):
    """The role that is assumed with the credentials of another role."""

    arn: str
    partition: str
    account_id: str
    path: str
    name: str

    @property
    def title(self) -> str:
        return f"role {self.arn}"

    @property
    def policy_name(self) -> str:
        """Return the name of the first role's inline policy. Role names are unique in an account, so it is unique."""
        return f"{POLICY_PREFIX}-{self.account_id}-{self.name}"


@dataclass(frozen=True, slots=True)
class ChainGrant:
    """The permission for the role `source_arn` to assume the role `target`, with an external id if it is not None."""

    source_arn: str
    target: Target
    external_id: str | None = None
    has_tags: bool = False

    @property
    def actions(self) -> str | list[str]:
        return [ASSUME_ROLE, TAG_SESSION] if self.has_tags else ASSUME_ROLE

    @property
    def sid(self) -> str:
        """Return the Sid of the statement in the trust policy. IAM accepts only letters and digits in a Sid."""
        return SID_PREFIX + hashlib.sha256(self.source_arn.encode()).hexdigest()[:12]

    def permission(self) -> dict[str, Any]:
        """Return the first role's inline policy."""
        statement = {"Effect": "Allow", "Action": self.actions, "Resource": self.target.arn}
        return {"Version": VERSION, "Statement": [statement]}

    def statement(self) -> dict[str, Any]:
        """Return the statement for the trust policy of the second role."""
        statement: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Principal": {"AWS": self.source_arn},
            "Action": self.actions,
        }
        if self.external_id is not None:
            statement["Condition"] = {"StringEquals": {"sts:ExternalId": self.external_id}}
        return statement

    def roles_entry(self) -> dict[str, Any]:
        """Return the entry for the sidecar's roles file."""
        step = {"role_arn": self.target.arn}
        if self.external_id is not None:
            step["external_id"] = self.external_id
        return {"name": "default", "role_arn": self.source_arn, "chain": [step]}


class ChainChange(NamedTuple):
    """
    The requested change of a chain: add or change it, or remove it.

    A value of the grant that is None or false keeps the current value. `drops_external_id` removes the external id.
    """

    grant: ChainGrant
    change: Change = Change.ADD
    drops_external_id: bool = False
    overwrite_edits: bool = False

    @property
    def is_removal(self) -> bool:
        return self.change is Change.REMOVE


def parse_target(setting: str, arn: str) -> Target:
    match = _TARGET.fullmatch(arn)
    if match is None:
        raise ConfigurationError(
            f"{setting} is {arn[:200]!r}, which is not the ARN of one role",
            fix="Use an ARN such as arn:aws:iam::444455556666:role/data",
            setting=setting,
        )
    return Target(arn, *match.groups())


def parse_external_id(setting: str, text: str) -> str:
    if not _EXTERNAL_ID.fullmatch(text):
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}, which STS does not accept",
            fix="Use 2 to 1224 letters, digits and _+=,.@:/-",
            setting=setting,
        )
    return text


def with_permission(current: Document | None, wanted: ChainChange) -> Document | None:
    """
    Return the inline policy after the change, or None if the change removes the policy.

    Raises ConfigurationError if a person edited the policy, and --overwrite-edits is not set.
    """
    if current is None:
        return None if wanted.is_removal else wanted.grant.permission()
    found = replace(wanted.grant, has_tags=_allows_tags(current))
    is_edited = not _same_policy(current, found.permission())
    if is_edited:
        _check_edits(f"The inline policy {wanted.grant.target.policy_name}", wanted)
    if wanted.is_removal:
        return None
    gains_tags = wanted.grant.has_tags and not found.has_tags
    return wanted.grant.permission() if is_edited or gains_tags else current


def with_trust(document: Document | None, wanted: ChainChange) -> dict[str, Any]:
    """
    Return the trust policy of the second role after the change.

    Raises ConfigurationError if a person edited our statement and --overwrite-edits is not set, if a Deny has our Sid,
    or if no statement would remain.
    """
    grant = granted(document, wanted)
    if document is None:
        return {"Version": VERSION, "Statement": [grant.statement()]}
    statements = statements_of(document)
    own = [index for index, statement in enumerate(statements) if _is_own(statement, grant)]
    _check_own([statements[index] for index in own], wanted)
    if wanted.is_removal:
        return _without(document, [statement for index, statement in enumerate(statements) if index not in own])
    if _is_granted([statements[index] for index in own] or statements, grant) and len(own) <= 1:
        return dict(document)
    place = own[0] if own else len(statements)
    kept = [statement for index, statement in enumerate(statements) if index not in own]
    return {**document, "Statement": [*kept[:place], grant.statement(), *kept[place:]]}


def granted(document: Document | None, wanted: ChainChange) -> ChainGrant:
    """Return the grant with the external id and the tags that our statement has now, unless the flags change them."""
    own = [each for each in statements_of(document or {}) if _is_own(each, wanted.grant)]
    found = [_read(each, wanted.grant) for each in own]
    external_id = None if wanted.drops_external_id else next((each.external_id for each in found), None)
    return replace(
        wanted.grant,
        external_id=wanted.grant.external_id or external_id,
        has_tags=wanted.grant.has_tags or any(each.has_tags for each in found),
    )


def _read(statement: Document, grant: ChainGrant) -> ChainGrant:
    equals = as_mapping(as_mapping(statement.get("Condition")).get("StringEquals"))
    external_id = [each for each in as_list(equals.get("sts:ExternalId")) if isinstance(each, str)]
    has_tags = TAG_SESSION in as_list(statement.get("Action"))
    return replace(grant, external_id=external_id[0] if len(external_id) == 1 else None, has_tags=has_tags)


def _is_own(statement: Any, grant: ChainGrant) -> bool:
    return isinstance(statement, Mapping) and statement.get("Sid") == grant.sid


def _check_own(own: list[Document], wanted: ChainChange) -> None:
    for statement in own:
        _check_effect(statement, wanted)
        expected = _read(statement, wanted.grant).statement()
        if _is_deleted_principal(statement):
            expected["Principal"] = statement["Principal"]
        if normalised(statement) != normalised(expected):
            _check_edits(f"Statement {wanted.grant.sid} of the trust policy of {wanted.grant.target.title}", wanted)


def _check_effect(statement: Document, wanted: ChainChange) -> None:
    if statement.get("Effect") != "Allow":
        raise ConfigurationError(
            f"Statement {wanted.grant.sid} of the trust policy of {wanted.grant.target.title} is a Deny, and this "
            "command needs that Sid for its Allow",
            fix="Change the Sid of the Deny statement to keep it",
        )


def _is_deleted_principal(statement: Document) -> bool:
    principal = as_mapping(statement.get("Principal"))
    return list(principal) == ["AWS"] and _DELETED_PRINCIPAL.fullmatch(str(principal["AWS"])) is not None


def _check_edits(name: str, wanted: ChainChange) -> None:
    if not wanted.overwrite_edits:
        raise ConfigurationError(
            f"{name} was edited: it is not what this command writes",
            fix="Restore it, or use --overwrite-edits to discard the edits",
            setting="--chain-to",
        )


def _is_granted(statements: list[Any], grant: ChainGrant) -> bool:
    """Return whether a statement equals that of `grant`, ignoring the Sid and the order and form of lists."""
    wanted = normalised(grant.statement())
    return any(isinstance(each, Mapping) and normalised(each) == wanted for each in statements)


def _without(document: Document, statements: list[Any]) -> dict[str, Any]:
    if not statements:
        raise ConfigurationError(
            "--remove would delete the last statement of the other role's trust policy, but IAM requires one",
            fix="Delete that role first: `aws iam delete-role`",
            setting="--remove",
        )
    return {**document, "Statement": statements} if statements != statements_of(document) else dict(document)


def _allows_tags(policy: Document) -> bool:
    return TAG_SESSION in [
        action for each in statements_of(policy) for action in as_list(as_mapping(each).get("Action"))
    ]


def _same_policy(one: Document, other: Document) -> bool:
    statements = [[normalised(as_mapping(each)) for each in statements_of(policy)] for policy in (one, other)]
    return statements[0] == statements[1] and set(one) <= {"Version", "Statement"}
