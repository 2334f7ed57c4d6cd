"""
Find problems in the statements of others in a role's trust policy. Pure.

Rule: a remark is about a statement that allows more than this command's own statement. The statement is not changed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.local.service_account import SERVICE_ACCOUNT_PREFIX
from sidecar.local.strangers import STRANGER
from sidecar.local.trust_policy import Principal, Statement, TrustPolicy, read_statement
from sidecar.local.trust_policy import is_like as matches
from sidecar.setup.subjects import has_variable, has_wildcard, shown
from sidecar.setup.trust_policy import WEB_IDENTITY, TrustGrant, is_own, listed, own_subjects, statements_of

_EQUALS, _LIKE = ("stringequals", "stringequalsignorecase", "arnequals"), ("stringlike", "arnlike")
_QUALIFIERS = re.compile(r"^(forallvalues:|foranyvalue:)|ifexists$")

_FREE = re.compile(r"|[a-z_]+:")
"""A start of a subject that names nothing yet. For example, GitHub's `repo:*` matches every repository."""


def remarks_on(document: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    """Yield a remark on each statement of others that is too wide, and on patterns that our own statement keeps."""
    for index, statement in enumerate(statements_of(document), 1):
        if isinstance(statement, Mapping) and statement.get("Effect") == "Allow" and not is_own(statement, grant):
            label = f"Statement {statement.get('Sid', index)} of its trust policy, which another tool or person wrote,"
            yield from (f"{label} {text}" for text in _others(statement, grant))
    kept = [subject for subject in own_subjects(document, grant) if subject not in grant.subjects]
    if patterns := [shown(subject) for subject in kept if has_wildcard(subject)]:
        yield (
            f"The role still trusts every service account that matches {', '.join(patterns)}. Remove a pattern with "
            f"--remove --service-account '{patterns[0]}'."
        )


def still_allowed(before: Mapping[str, Any], after: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    """Yield a remark on each service account that was removed but that another statement still allows."""
    policy = TrustPolicy(tuple(_readable(statements_of(after))))
    for subject in own_subjects(before, grant):
        if subject in own_subjects(after, grant):
            continue
        context = {f"{grant.key}:sub".lower(): (subject,), f"{grant.key}:aud".lower(): (grant.audience,)}
        decision = policy.evaluate(WEB_IDENTITY, Principal((grant.provider_arn,), None), context)
        if decision.is_allowed:
            yield f"{shown(subject)} may still assume the role, because {decision.why}. Change that statement too."


def _readable(statements: list[Any]) -> Iterator[Statement]:
    for index, statement in enumerate(statements, 1):
        with suppress(ConfigurationError):  # the evaluator does not know all elements
            yield read_statement(statement, index, "the trust policy")


def _others(statement: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    if _is_for(statement, grant):
        found = [*_about_subject(statement, grant)]
        yield from found or _about_audience(statement, grant)
    principal, actions = _mapping(statement.get("Principal")), listed(statement.get("Action"))
    if "AWS" in principal and "sts:AssumeRole" in actions and "sts:TagSession" not in actions:
        yield "allows sts:AssumeRole without sts:TagSession. A chain of roles with session tags needs both."


def _about_audience(statement: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    key = f"{grant.key}:aud"
    if not _limits(statement, key, lambda value, is_like: not _is_free(value, is_like=is_like)):
        yield (
            f"accepts tokens of {grant.issuer} for every audience that the provider accepts. Give it a condition on "
            f"{key}."
        )


def _is_free(value: str, *, is_like: bool) -> bool:
    return has_variable(value) or (is_like and value.strip("*?") == "")


def _about_subject(statement: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    key = f"{grant.key}:sub"
    advice = f"Give it a condition on {key} that names service accounts in full, or delete it."
    if not _limits(statement, key, lambda value, is_like: not _is_wide(value, is_like=is_like)):
        values = [*_values(statement, key)]
        is_every = not values or any(_matches_stranger(value, is_like=is_like) for value, is_like in values)
        who = "every service account" if is_every else "service accounts of every namespace"
        given = f" ({key} is {', '.join(value for value, _ in values)})" if values else ""
        yield f"lets {who} of {grant.issuer} assume the role{given}. {advice}"
    elif literal := [value for value, is_like in _values(statement, key) if has_wildcard(value) and not is_like]:
        yield (f"compares {key} with {literal[0]} literally, so it matches no token. Use StringLike, or delete it.")


def _is_for(statement: Mapping[str, Any], grant: TrustGrant) -> bool:
    """Return whether the statement allows an exchange of this provider's tokens."""
    principal = statement.get("Principal")
    federated = [principal] if principal == "*" else listed(_mapping(principal).get("Federated"))
    is_action = "Action" not in statement or any(_is_web_identity(action) for action in listed(statement.get("Action")))
    if "NotAction" in statement:
        is_action = not any(_is_web_identity(action) for action in listed(statement["NotAction"]))
    return is_action and bool({grant.provider_arn, "*"} & {item for item in federated if isinstance(item, str)})


def _is_web_identity(pattern: Any) -> bool:
    return isinstance(pattern, str) and matches(WEB_IDENTITY.lower(), pattern.lower())


def _limits(statement: Mapping[str, Any], key: str, is_narrow: Callable[[str, bool], bool]) -> bool:
    """Return whether a condition on `key` has only narrow values. One is enough, because all conditions must hold."""
    return any(all(is_narrow(value, is_like) for value in values) for is_like, values in _conditions(statement, key))


def _values(statement: Mapping[str, Any], key: str) -> Iterator[tuple[str, bool]]:
    for is_like, values in _conditions(statement, key):
        yield from ((value, is_like) for value in values)


def _conditions(statement: Mapping[str, Any], key: str) -> Iterator[tuple[bool, list[str]]]:
    """Yield the values of each string condition on `key`, and whether the condition reads wildcards."""
    for operator, keys in _mapping(statement.get("Condition")).items():
        base = _QUALIFIERS.sub("", _QUALIFIERS.sub("", operator.lower()))
        if base not in _EQUALS + _LIKE:
            continue
        for name, values in _mapping(keys).items():
            if name.lower() == key.lower():
                yield base in _LIKE, [str(value) for value in listed(values)]


def _is_wide(value: str, *, is_like: bool) -> bool:
    """Return whether the value leaves the namespace open, or has a policy variable, which can hold any text."""
    if has_variable(value):
        return True
    if not is_like or not has_wildcard(value):
        return False
    fixed = re.split(r"[*?]", value, maxsplit=1)[0]
    return SERVICE_ACCOUNT_PREFIX.startswith(fixed) or _FREE.fullmatch(fixed) is not None


def _matches_stranger(value: str, *, is_like: bool) -> bool:
    return has_variable(value) or (is_like and matches(STRANGER, value))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
