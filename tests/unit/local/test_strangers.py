"""Test the strangers: subjects that a trust policy accepts only if it is too wide."""

from typing import Any

import pytest

from sidecar.local.condition_operators import is_like
from sidecar.local.strangers import STRANGER, examples_of, strangers, subject_patterns
from sidecar.local.trust_policy import ASSUME_ROLE_WITH_WEB_IDENTITY, read_statement

CART = "system:serviceaccount:shop:cart"


def test_first_stranger_has_nothing_in_common_with_the_subject() -> None:
    first, *others = strangers(CART)
    assert first.subject == STRANGER
    assert not {"shop", "cart"} & {*first.subject.split(":")}
    assert len({stranger.subject for stranger in others} - {CART, STRANGER}) == 8


@pytest.mark.parametrize(
    "subject", ["repo:acme/shop", "", "x:system:serviceaccount:shop:cart", "system:serviceaccount"]
)
def test_subject_of_another_form_has_only_one_stranger(subject: str) -> None:
    assert [stranger.subject for stranger in strangers(subject)] == [STRANGER]


@pytest.mark.parametrize("pattern", ["*", "system:serviceaccount:sh?p:cart", "system:serviceaccount:*:c*t"])
def test_examples_match_the_pattern_but_are_not_the_subject(pattern: str) -> None:
    examples = [*examples_of(pattern, CART)]
    assert examples
    assert CART not in examples
    assert all(is_like(example, pattern) for example in examples)


@pytest.mark.parametrize(
    ("operator", "value", "patterns"),
    [
        ("StringLike", "system:serviceaccount:shop:*", ["system:serviceaccount:shop:*"]),
        ("ForAnyValue:StringLike", [CART, "*"], ["*"]),
        ("StringNotLike", "*", []),
        ("StringEquals", "*", []),
    ],
)
def test_patterns_come_from_the_wildcards_of_string_like(operator: str, value: Any, patterns: list[str]) -> None:
    condition = {operator: {"x:sub": value}, "StringLikeIfExists": {"x:aud": "a*"}}
    action = ASSUME_ROLE_WITH_WEB_IDENTITY
    statement = {"Effect": "Allow", "Principal": "*", "Action": action, "Condition": condition}
    assert [*subject_patterns([read_statement(statement, 1, "it")])] == patterns
