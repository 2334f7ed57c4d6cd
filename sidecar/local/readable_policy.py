"""
Read a trust policy from IAM that may have elements that trust_policy.py does not know. Pure.

Rule: each statement is read alone, so that a statement with an unknown element does not hide the other statements. A
condition of an Allow on the caller's network is assumed to be true, because only a request can show its network. The
decision names the assumption. Such a condition of a Deny stays unknown, so nothing is allowed by mistake.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import Statement, TrustPolicy, as_list, read_statement, statement_label

NETWORK_KEYS = frozenset({"aws:sourcevpc", "aws:sourcevpcarn", "aws:sourcevpce", "aws:vpcsourceip"})
"""The keys that requests through a VPC endpoint have (IAM User Guide, "Use VPC condition keys to control federated
access"), in lower case because IAM ignores the case of keys."""

SESSION_NAME_KEYS = frozenset({"sts:rolesessionname"})
"""The key of the role session name. Only the caller knows the name that it will send."""

_MAX_ASSUMED_CHARACTERS = 300
"""Maximum length of the assumed conditions in a message."""


def readable_policy(document: Mapping[str, Any], assumed_keys: frozenset[str] = NETWORK_KEYS) -> TrustPolicy:
    """
    Return the policy. A statement that cannot be read applies to every token, and its result is unknown.

    Conditions of an Allow on one of `assumed_keys` are assumed to be true.
    """
    statements = enumerate(as_list(document.get("Statement")), 1)
    return TrustPolicy(tuple(_statement(item, index, assumed_keys) for index, item in statements))


def _statement(item: Any, index: int, assumed_keys: frozenset[str]) -> Statement:
    name = "the trust policy"
    is_allow = isinstance(item, dict) and item.get("Effect") == "Allow"
    reduced, assumed = _assuming(item, assumed_keys) if is_allow else (item, None)
    try:
        return read_statement(reduced, index, name)._replace(assumed=assumed)
    except ConfigurationError as exc:
        label = statement_label(item, index)
        reason = exc.problem.removeprefix(f"{name}: ").removeprefix(label).lstrip(": ")
        return Statement(label, is_allow, frozenset({"*"}), ("*",), (), unknown=reason)


def _assuming(item: dict[str, Any], keys: frozenset[str]) -> tuple[dict[str, Any], str | None]:
    """Return the statement without its conditions on these keys, and a text about these conditions."""
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
