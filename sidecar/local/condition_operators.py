"""Compare values with the string operators in IAM's policy conditions. Pure."""

import re
from collections.abc import Callable
from typing import NamedTuple


class Operator(NamedTuple):
    """A comparison between a request's value and a policy's value. A negated operator is true if no value matches."""

    matches: Callable[[str, str], bool]
    is_negated: bool


def _equals(value: str, wanted: str) -> bool:
    return value == wanted


def _equals_ignoring_case(value: str, wanted: str) -> bool:
    return value.casefold() == wanted.casefold()


def is_like(value: str, wanted: str) -> bool:
    """
    Return whether the value matches the pattern `wanted`. There is no escape character.

    `*` matches any number of characters, also none, and `?` matches one character.

    The search uses the leftmost match for each part between two `*`. The time is at most proportional to the product of
    both lengths.
    """
    first, *others = (_part(part) for part in wanted.split("*"))
    if not others:
        return first.fullmatch(value) is not None
    *middle, last = others
    found = first.match(value)
    for part in middle:
        found = found and part.search(value, found.end())
    end = len(value) - len(wanted.rpartition("*")[2])
    return found is not None and end >= found.end() and last.fullmatch(value, end) is not None


def _part(text: str) -> re.Pattern[str]:
    return re.compile("".join("." if character == "?" else re.escape(character) for character in text), re.DOTALL)


OPERATORS = {
    "StringEquals": Operator(_equals, is_negated=False),
    "StringNotEquals": Operator(_equals, is_negated=True),
    "StringEqualsIgnoreCase": Operator(_equals_ignoring_case, is_negated=False),
    "StringNotEqualsIgnoreCase": Operator(_equals_ignoring_case, is_negated=True),
    "StringLike": Operator(is_like, is_negated=False),
    "StringNotLike": Operator(is_like, is_negated=True),
}
"""The IAM operators that are evaluated here, by name."""

QUANTIFIERS = ("ForAnyValue", "ForAllValues")
"""The operator prefixes for keys with several values."""

OTHER_OPERATORS = re.compile(
    r"(Arn(Not)?(Equals|Like)|(Numeric|Date)((Not)?Equals|(Less|Greater)Than(Equals)?)|Bool|BinaryEquals"
    r"|(Not)?IpAddress|Null)(IfExists)?"
)
"""Pattern for the IAM operators that are not evaluated here."""
