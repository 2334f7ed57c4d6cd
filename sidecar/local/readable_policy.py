"""
Read a trust policy from IAM that may have elements that trust_policy.py does not know. Pure.

Rule: each statement is read alone, so that a statement with an unknown element does not hide the other statements.
"""

from collections.abc import Mapping
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import Statement, TrustPolicy, as_list, read_statement, statement_label


def readable_policy(document: Mapping[str, Any]) -> TrustPolicy:
    """Return the policy. A statement that cannot be read applies to every token, and its result is unknown."""
    return TrustPolicy(
        tuple(_statement(item, index) for index, item in enumerate(as_list(document.get("Statement")), 1))
    )


def _statement(item: Any, index: int) -> Statement:
    name = "the trust policy"
    try:
        return read_statement(item, index, name)
    except ConfigurationError as exc:
        label = statement_label(item, index)
        reason = exc.problem.removeprefix(f"{name}: ").removeprefix(label).lstrip(": ")
        is_allow = isinstance(item, dict) and item.get("Effect") == "Allow"
        return Statement(label, is_allow, frozenset({"*"}), ("*",), (), unknown=reason)
