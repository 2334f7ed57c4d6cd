"""
Which tokens of other service accounts a role's trust policy lets in. Pure.

Rule: the policy is evaluated with the subjects of strangers, which resemble the token's in one part each, and with
subjects made from each wildcard of the statements that let the token in. What is allowed is reported.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sidecar.local.strangers import examples_of, strangers, subject_patterns
from sidecar.local.trust_policy import Decision, Statement

_MAX_PATTERN_CHARACTERS = 200
"""Longest pattern in a message."""


class Breadth(NamedTuple):
    """
    Who else is let in: the strangers, the first of them being anybody, and patterns of `sub` with wildcards.

    `why` is the policy's reason, and `unknown` the statements on which an answer depends that cannot be judged.
    """

    is_anybody: bool
    strangers: tuple[str, ...]
    patterns: tuple[str, ...]
    why: str
    unknown: tuple[str, ...]


def breadth(subject: str, allowing: Sequence[Statement], judge: Callable[[str], Decision]) -> Breadth:
    """Return who else is let in. `allowing` are the statements that let `subject` in, `judge` decides on a subject."""
    found = [(stranger, judge(stranger.subject)) for stranger in strangers(subject)]
    made = {pattern: [judge(each) for each in examples_of(pattern, subject)] for pattern in subject_patterns(allowing)}
    decisions = [*(decision for _, decision in found), *(each for some in made.values() for each in some)]
    return Breadth(
        is_anybody=found[0][1].is_allowed,
        strangers=tuple(stranger.who for stranger, decision in found if decision.is_allowed),
        patterns=tuple(pattern for pattern, some in made.items() if any(each.is_allowed for each in some)),
        why=next((decision.why for decision in decisions if decision.is_allowed), ""),
        unknown=tuple(dict.fromkeys(reason for decision in decisions for reason in decision.unknown)),
    )


def shown_patterns(patterns: Sequence[str]) -> str:
    """Return the patterns for a message."""
    cut = [each if len(each) <= _MAX_PATTERN_CHARACTERS else f"{each[:_MAX_PATTERN_CHARACTERS]}…" for each in patterns]
    return " or ".join(cut[:5]) + (f" and {len(cut) - 5} more" if len(cut) > 5 else "")
