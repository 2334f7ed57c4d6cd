"""
Find statements of a role's trust policy that allow too much or too little. Pure.

Rule: remarks concern statements from other sources, and patterns that our own statement keeps. No remark changes a
statement.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from sidecar.local.condition_operators import is_like
from sidecar.local.readable_policy import readable_policy
from sidecar.local.service_account import SERVICE_ACCOUNT_PREFIX
from sidecar.local.strangers import STRANGER
from sidecar.local.trust_policy import (
    ASSUME_ROLE_WITH_WEB_IDENTITY,
    Decision,
    Principal,
    TrustPolicy,
    as_list,
    statement_label,
)
from sidecar.setup.subjects import has_variable, has_wildcard, shown
from sidecar.setup.trust_policy import TrustGrant, as_mapping, is_own, own_conditions, own_subjects, statements_of

_EQUALS, _LIKE = ("stringequals", "stringequalsignorecase", "arnequals"), ("stringlike", "arnlike")
_QUALIFIERS = re.compile(r"^(forallvalues:|foranyvalue:)|ifexists$")

_FREE = re.compile(r"|[a-z_]+:")
"""Pattern for the unspecific beginning of a subject. For example, GitHub's `repo:*` matches every repository."""


class _Value(NamedTuple):
    """A value that a condition compares with a key. `is_pattern` is true if `*` and `?` are wildcards in the value."""

    text: str
    is_pattern: bool


def remarks_on(document: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    """Yield a remark about each other statement that allows too much or too little, and about our own patterns."""
    for index, statement in enumerate(statements_of(document), 1):
        if isinstance(statement, Mapping) and statement.get("Effect") == "Allow" and not is_own(statement, grant):
            label = f"{statement_label(statement, index)} of its trust policy, which another tool or person wrote,"
            yield from (f"{label} {text}" for text in _others(statement, grant))
    kept = [subject for subject in own_subjects(document, grant) if subject not in grant.subjects]
    if patterns := [shown(subject) for subject in kept if has_wildcard(subject)]:
        yield (
            f"The role still trusts every service account that matches {', '.join(patterns)}. Remove a pattern with "
            f"--remove --service-account '{patterns[0]}'."
        )


def still_allowed(before: Mapping[str, Any], after: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    """Yield a remark about each removed service account that another statement still allows."""
    policy = _readable(statements_of(after))
    for subject in own_subjects(before, grant):
        if subject in own_subjects(after, grant):
            continue
        decision = _decide(policy, grant, subject)
        if decision.is_allowed:
            yield f"{shown(subject)} may still assume the role, because {decision.reason}. Change that statement too."


def without_conditions(document: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    """Yield a remark about each service account that another statement allows without our statement's conditions."""
    keys = [key for key, _ in own_conditions(document, grant).by_key()]
    others = [each for each in statements_of(document) if not is_own(each, grant)]
    policy = _readable(others)
    for subject in own_subjects(document, grant) if keys else ():
        decision = _decide(policy, grant, subject)
        if decision.is_allowed:
            yield (
                f"{shown(subject)} may also assume the role without the condition on {' and '.join(keys)}, because "
                f"{decision.reason}. Change that statement too."
            )


def _decide(policy: TrustPolicy, grant: TrustGrant, subject: str) -> Decision:
    context = {f"{grant.key}:sub".lower(): (subject,), f"{grant.key}:aud".lower(): (grant.audience,)}
    return policy.evaluate(ASSUME_ROLE_WITH_WEB_IDENTITY, Principal((grant.provider_arn,), None), context)


def _readable(statements: list[Any]) -> TrustPolicy:
    return readable_policy({"Statement": statements}, frozenset())


def _others(statement: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    if _is_for(statement, grant):
        found = [*_about_subject(statement, grant)]
        yield from found or _about_audience(statement, grant)
    principal, actions = as_mapping(statement.get("Principal")), as_list(statement.get("Action"))
    if "AWS" in principal and "sts:AssumeRole" in actions and "sts:TagSession" not in actions:
        yield "allows sts:AssumeRole without sts:TagSession. A chain of roles with session tags needs both."


def _about_audience(statement: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    key = f"{grant.key}:aud"
    if not _limits(statement, key, _names_audience):
        yield (
            f"accepts tokens of {grant.issuer} for every audience that the provider accepts. Add a condition on {key}."
        )


def _about_subject(statement: Mapping[str, Any], grant: TrustGrant) -> Iterator[str]:
    key = f"{grant.key}:sub"
    advice = f"Add a condition on {key} with the full names of service accounts, or delete the statement."
    values = [value for condition in _conditions(statement, key) for value in condition]
    if not _limits(statement, key, _names_namespace):
        is_every = not values or any(_matches_stranger(value) for value in values)
        subjects = "every service account" if is_every else "service accounts of every namespace"
        condition = f" ({key} is {', '.join(value.text for value in values)})" if values else ""
        yield f"lets {subjects} of {grant.issuer} assume the role{condition}. {advice}"
    elif literals := [value.text for value in values if has_wildcard(value.text) and not value.is_pattern]:
        yield (
            f"compares {key} with {literals[0]} literally, so it matches no token. "
            "Use StringLike, or delete the statement."
        )


def _is_for(statement: Mapping[str, Any], grant: TrustGrant) -> bool:
    """Return whether the statement allows the exchange of this provider's tokens."""
    principal = statement.get("Principal")
    federated = [principal] if principal == "*" else as_list(as_mapping(principal).get("Federated"))
    is_anyone = "NotPrincipal" in statement or "*" in as_list(as_mapping(principal).get("AWS"))
    actions = as_list(statement.get("Action"))
    is_action = "Action" not in statement or any(map(_is_web_identity, actions))
    if "NotAction" in statement:
        is_action = not any(map(_is_web_identity, as_list(statement["NotAction"])))
    is_named = bool({grant.provider_arn, "*"} & {item for item in federated if isinstance(item, str)})
    return is_action and (is_anyone or is_named)


def _is_web_identity(pattern: Any) -> bool:
    return isinstance(pattern, str) and is_like(ASSUME_ROLE_WITH_WEB_IDENTITY.lower(), pattern.lower())


def _limits(statement: Mapping[str, Any], key: str, is_narrow: Callable[[_Value], bool]) -> bool:
    """
    Return whether a condition on `key` has only narrow values.

    One such condition is enough, because IAM requires every condition to be true.
    """
    return any(all(map(is_narrow, condition)) for condition in _conditions(statement, key))


def _conditions(statement: Mapping[str, Any], key: str) -> Iterator[list[_Value]]:
    """Yield the values in each condition that compares `key` with strings."""
    for operator, keys in as_mapping(statement.get("Condition")).items():
        base = _QUALIFIERS.sub("", _QUALIFIERS.sub("", operator.lower()))
        if base not in _EQUALS + _LIKE:
            continue
        for name, values in as_mapping(keys).items():
            if name.lower() == key.lower():
                yield [_Value(str(value), is_pattern=base in _LIKE) for value in as_list(values)]


def _names_audience(value: _Value) -> bool:
    """Return whether the value contains an audience or a part of one."""
    return not has_variable(value.text) and not (value.is_pattern and value.text.strip("*?") == "")


def _names_namespace(value: _Value) -> bool:
    """Return whether the value contains a namespace or a part of one. A policy variable can become any text."""
    if has_variable(value.text):
        return False
    if not value.is_pattern or not has_wildcard(value.text):
        return True
    fixed = re.split(r"[*?]", value.text, maxsplit=1)[0]
    return not SERVICE_ACCOUNT_PREFIX.startswith(fixed) and _FREE.fullmatch(fixed) is None


def _matches_stranger(value: _Value) -> bool:
    return has_variable(value.text) or (value.is_pattern and is_like(STRANGER, value.text))
