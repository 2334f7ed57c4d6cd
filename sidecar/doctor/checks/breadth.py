"""
Find the other service accounts that a role's trust policy accepts. Pure.

Rule: the policy is evaluated with the subjects of invented service accounts. One of them has neither the namespace nor
the name of the token's subject, and the others have a part in common with it. The policy is also evaluated with
subjects that match a wildcard in the statements that accept the token.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sidecar.local.strangers import examples_of, strangers, subject_patterns
from sidecar.local.trust_policy import Decision, Statement

_MAX_PATTERN_CHARACTERS = 200
"""Maximum length of a pattern in a message, in characters."""


class Breadth(NamedTuple):
    """
    The other service accounts that the policy accepts, and the patterns of `sub` whose wildcards accept others.

    `accepts_anyone` is true if the policy accepts every service account of the issuer. `reason` explains why the policy
    accepts one of the other subjects, and is "" if it accepts none. `unknown` lists the statements that decide the
    result but cannot be evaluated.
    """

    accepts_anyone: bool
    strangers: tuple[str, ...]
    patterns: tuple[str, ...]
    reason: str
    unknown: tuple[str, ...]


def breadth(subject: str, allowing: Sequence[Statement], decide: Callable[[str], Decision]) -> Breadth:
    """Return the other subjects that the trust policy accepts. `allowing` are the statements that accept `subject`."""
    found = [(stranger, decide(stranger.subject)) for stranger in strangers(subject)]
    by_pattern = {
        pattern: [decide(each) for each in examples_of(pattern, subject)] for pattern in subject_patterns(allowing)
    }
    decisions = [*(decision for _, decision in found), *(each for some in by_pattern.values() for each in some)]
    return Breadth(
        accepts_anyone=found[0][1].is_allowed,
        strangers=tuple(stranger.description for stranger, decision in found if decision.is_allowed),
        patterns=tuple(pattern for pattern, some in by_pattern.items() if any(each.is_allowed for each in some)),
        reason=next((decision.reason for decision in decisions if decision.is_allowed), ""),
        unknown=tuple(dict.fromkeys(reason for decision in decisions for reason in decision.unknown)),
    )


def shown_patterns(patterns: Sequence[str]) -> str:
    """Return at most five patterns for a message, each shortened to a readable length."""
    cut = [each if len(each) <= _MAX_PATTERN_CHARACTERS else f"{each[:_MAX_PATTERN_CHARACTERS]}…" for each in patterns]
    return " or ".join(cut[:5]) + (f" and {len(cut) - 5} more" if len(cut) > 5 else "")
