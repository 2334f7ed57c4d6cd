"""
Evaluate the conditions of a trust policy for one request, and keep the compared values. Pure.

Rule: a comparison contains the values of the policy and of the request, so that a person can see why it is false.
"""

from collections.abc import Mapping
from typing import NamedTuple

from sidecar.local.condition_operators import Operator

Context = Mapping[str, tuple[str, ...]]
"""
Values by condition key of a request. Keys are in lower case. A key that the request lacks is absent or has no value.
"""


class Condition(NamedTuple):
    """
    One operator for one key. `text` is the operator as the policy spells it.

    `line` is the line of the condition in the configuration file, counted from 1, or None.
    """

    text: str
    operator: Operator
    quantifier: str | None
    is_optional: bool
    key: str
    wanted: tuple[str, ...]
    line: int | None = None


class Comparison(NamedTuple):
    """
    The result of one condition for one request. `operator` and `key` are as the policy spells them.

    `actual` is empty if the request lacks the key. `line` is the line in the configuration file, or None.
    """

    operator: str
    key: str
    wanted: tuple[str, ...]
    actual: tuple[str, ...]
    holds: bool
    line: int | None = None


class ComparedStatement(NamedTuple):
    """
    A statement whose action and principal match a call, with the results of its conditions.

    `unknown` is the reason why the statement cannot be evaluated completely, or None.
    """

    label: str
    is_allow: bool
    comparisons: tuple[Comparison, ...]
    unknown: str | None = None


def compare(condition: Condition, context: Context) -> Comparison:
    """Return the values that the condition compares, and whether it is true for the request."""
    actual = context.get(condition.key.lower(), ())
    return Comparison(
        condition.text, condition.key, condition.wanted, actual, is_met(condition, context), condition.line
    )


def is_met(condition: Condition, context: Context) -> bool:
    """
    Return whether the condition is true for the request.

    If the request lacks the key, `…IfExists`, `ForAllValues` and a negated operator without a quantifier are true. Any
    other condition is false. If the key has several values, such as `amr`, each value must fulfil a condition with
    `ForAllValues`, or with a negated operator and no quantifier. For any other condition, one value is enough.
    """
    values = context.get(condition.key.lower(), ())
    match, is_negated = condition.operator
    if not values:
        return (
            condition.is_optional or condition.quantifier == "ForAllValues" or (is_negated and not condition.quantifier)
        )
    fits = [any(match(value, wanted) for wanted in condition.wanted) is not is_negated for value in values]
    needs_all = condition.quantifier == "ForAllValues" or (is_negated and not condition.quantifier)
    return all(fits) if needs_all else any(fits)


def complaint(condition: Condition, context: Context) -> str:
    """Return the reason why a condition is not true for the request."""
    values = context.get(condition.key.lower(), ())
    has = " and ".join(values) if values else "none"
    return f"Condition {condition.text} {condition.key} wants {' or '.join(condition.wanted)}, the request has {has}"
