"""
Read a trust policy from IAM that may have elements that trust_policy.py does not know. Pure.

Rule: each statement is read alone, so that a statement with an unknown element does not hide the other statements. A
statement whose action or principal does not match a call is ignored for this call, even if its other elements are
unknown. IAM accepts numbers and booleans as values of conditions, and operators in upper and lower case.

A condition on the caller's network is assumed to be true in an Allow, because only a real request shows the network.
The decision names the assumption. In a Deny, such a condition stays unknown, so nothing is allowed by mistake.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.local.condition_operators import OPERATORS, QUANTIFIERS
from sidecar.local.trust_policy import Statement, TrustPolicy, as_list, read_statement, statement_label

NETWORK_KEYS = frozenset({"aws:sourcevpc", "aws:sourcevpcarn", "aws:sourcevpce", "aws:vpcsourceip"})
"""The keys that requests through a VPC endpoint have (IAM User Guide, "Use VPC condition keys to control federated
access"), in lower case because IAM ignores the case of keys."""

SESSION_NAME_KEYS = frozenset({"sts:rolesessionname"})
"""The key of the role session name. Only the caller knows the name that it will send."""

_MAX_ASSUMED_CHARACTERS = 300
"""Maximum length of the assumed conditions in a message."""


_OPERATORS = {name.lower(): name for each in OPERATORS for name in (each, f"{each}IfExists")}
_PRINCIPALS_WITH_TOKENS = ("AWS", "Federated")
"""The types of principals whose `*` includes a caller with a token."""


def readable_policy(document: Mapping[str, Any], assumed_keys: frozenset[str] = NETWORK_KEYS) -> TrustPolicy:
    """
    Return the policy. The result of a statement that cannot be read is unknown.

    In an Allow, conditions on `assumed_keys` are assumed to be true.
    """
    statements = enumerate(as_list(document.get("Statement")), 1)
    return TrustPolicy(tuple(_statement(item, index, assumed_keys) for index, item in statements))


def _statement(item: Any, index: int, assumed_keys: frozenset[str]) -> Statement:
    name = "the trust policy"
    item = _normalised(item)
    is_allow = isinstance(item, dict) and item.get("Effect") == "Allow"
    reduced, assumed = _assuming(item, assumed_keys) if is_allow else (item, None)
    try:
        return read_statement(reduced, index, name)._replace(assumed=assumed)
    except ConfigurationError as exc:
        label = statement_label(item, index)
        reason = exc.problem.removeprefix(f"{name}: ").removeprefix(label).lstrip(": ")
        subject = _subject(item if isinstance(item, dict) else {})
        return Statement(label, is_allow, subject.principals, subject.actions, (), subject.names_actions, reason)


class _Subject(NamedTuple):
    """The principals and actions of a statement that cannot be read completely. `*` means that they are unknown."""

    principals: frozenset[str]
    actions: tuple[str, ...]
    names_actions: bool


def _subject(item: Mapping[str, Any]) -> _Subject:
    names_actions = "Action" in item
    actions = as_list(item.get("Action") if names_actions else item.get("NotAction"))
    has_both = names_actions and "NotAction" in item
    is_readable = bool(actions) and all(isinstance(each, str) for each in actions) and not has_both
    return _Subject(_principals(item), tuple(actions) if is_readable else ("*",), names_actions or not is_readable)


def _principals(item: Mapping[str, Any]) -> frozenset[str]:
    principal = item.get("Principal")
    if not isinstance(principal, dict) or "NotPrincipal" in item:
        return frozenset({"*"})
    return frozenset(_principal(kind, text) for kind, texts in principal.items() for text in as_list(texts))


def _principal(kind: str, text: Any) -> str:
    """Return the principal, or `*` if it may include a caller with a token."""
    is_pattern = not isinstance(text, str) or text == "*" or (kind == "Federated" and "*" in text)
    if not is_pattern:
        return str(text)
    return "*" if kind in _PRINCIPALS_WITH_TOKENS else f"{kind} {text}"


def _normalised(item: Any) -> Any:
    """Return the statement with conditions in the form that trust_policy.py reads. Malformed conditions stay as is."""
    condition = item.get("Condition") if isinstance(item, dict) else None
    if not isinstance(condition, dict) or not all(isinstance(block, dict) for block in condition.values()):
        return item
    blocks = [(_operator(str(text)), block) for text, block in condition.items()]
    if len({text for text, _ in blocks}) < len(blocks):  # the same operator twice, in different cases
        return item
    return {**item, "Condition": {text: {k: _texts(values) for k, values in block.items()} for text, block in blocks}}


def _operator(text: str) -> str:
    quantifier, colon, name = text.rpartition(":")
    known = {each.lower(): each for each in QUANTIFIERS}
    return f"{known.get(quantifier.lower(), quantifier)}{colon}{_OPERATORS.get(name.lower(), name)}"


def _texts(values: Any) -> Any:
    if isinstance(values, list):
        return [_texts(each) for each in values]
    return json.dumps(values) if isinstance(values, bool | int | float) else values


def _assuming(item: dict[str, Any], keys: frozenset[str]) -> tuple[dict[str, Any], str | None]:
    """Return the statement without its conditions on these keys, and a text about these conditions, if any."""
    condition = item.get("Condition")
    if not isinstance(condition, dict) or not all(isinstance(block, dict) for block in condition.values()):
        return item, None
    assumed = [_text(*each) for each in _pairs(condition) if each[1].lower() in keys]
    if not assumed:
        return item, None
    kept = {operator: _without(block, keys) for operator, block in condition.items()}
    reduced = {**item, "Condition": {operator: block for operator, block in kept.items() if block}}
    return reduced, " and ".join(assumed)[:_MAX_ASSUMED_CHARACTERS]


def _without(block: Mapping[Any, Any], keys: frozenset[str]) -> dict[Any, Any]:
    return {key: values for key, values in block.items() if str(key).lower() not in keys}


def _pairs(condition: Mapping[str, Mapping[Any, Any]]) -> Iterable[tuple[str, str, Any]]:
    return ((operator, str(key), values) for operator, block in condition.items() for key, values in block.items())


def _text(operator: str, key: str, values: Any) -> str:
    wanted = " or ".join(str(value) for value in as_list(values))
    return f"{key} is {wanted}" if operator == "StringEquals" else f"{operator} {key} {wanted}"
