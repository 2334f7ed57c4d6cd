"""
Which tokens of other service accounts a role's trust policy lets in. Pure.

Rule: the policy is evaluated with the subjects of strangers, which resemble the token's in one part each, and with
subjects made from each wildcard of the statements that let the token in. What is allowed is reported.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sidecar.local.trust_policy import Decision, Statement

SERVICE_ACCOUNT = "system:serviceaccount"

_OTHER, _OTHER_NAMESPACE = "stranger", "no-such-namespace"
_FILLERS = ("x", "other", "0", "")
"""What takes the place of a wildcard."""

_MAX_PATTERN_CHARACTERS = 200
"""Longest pattern in a message."""


class Stranger(NamedTuple):
    """The subject of a token, and a description of the service accounts with such a subject."""

    subject: str
    who: str


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
    made = {pattern: [judge(each) for each in _examples(pattern, subject)] for pattern in _patterns(allowing)}
    decisions = [*(decision for _, decision in found), *(each for some in made.values() for each in some)]
    return Breadth(
        is_anybody=found[0][1].is_allowed,
        strangers=tuple(stranger.who for stranger, decision in found if decision.is_allowed),
        patterns=tuple(pattern for pattern, some in made.items() if any(each.is_allowed for each in some)),
        why=next((decision.why for decision in decisions if decision.is_allowed), ""),
        unknown=tuple(dict.fromkeys(reason for decision in decisions for reason in decision.unknown)),
    )


def strangers(subject: str) -> list[Stranger]:
    """Return strangers to this subject, the widest first. The first has nothing in common with it."""
    found = [
        Stranger(f"{SERVICE_ACCOUNT}:{_OTHER_NAMESPACE}:{_OTHER}", "any service account of this issuer"),
    ]
    kind, _, names = subject.rpartition(f"{SERVICE_ACCOUNT}:")
    namespace, colon, name = names.partition(":")
    if kind or not colon:
        return found
    for each, who in (
        (f"{_OTHER_NAMESPACE}:{name}", f"service accounts with the name {name} in any namespace"),
        (f"{namespace}:{_OTHER}", f"any service account of the namespace {namespace}"),
        (f"{namespace}-x:{_OTHER}", f"any service account of a namespace whose name begins with {namespace}"),
        (f"x-{namespace}:{_OTHER}", f"any service account of a namespace whose name ends with {namespace}"),
        (f"{namespace}-x:{name}", f"{name} of a namespace whose name begins with {namespace}"),
        (f"x-{namespace}:{name}", f"{name} of a namespace whose name ends with {namespace}"),
        (f"{namespace}:{name}-x", f"service accounts of {namespace} whose name begins with {name}"),
        (f"{namespace}:x-{name}", f"service accounts of {namespace} whose name ends with {name}"),
    ):
        found.append(Stranger(f"{SERVICE_ACCOUNT}:{each}", who))
    return found


def shown_patterns(patterns: Sequence[str]) -> str:
    """Return the patterns for a message."""
    cut = [each if len(each) <= _MAX_PATTERN_CHARACTERS else f"{each[:_MAX_PATTERN_CHARACTERS]}…" for each in patterns]
    return " or ".join(cut[:5]) + (f" and {len(cut) - 5} more" if len(cut) > 5 else "")


def _patterns(statements: Sequence[Statement]) -> Iterator[str]:
    """Yield each value with a wildcard that the statements want `sub` to be like."""
    for statement in statements:
        for condition in statement.conditions:
            is_sub = condition.key.lower().endswith(":sub") and not condition.operator.is_negated
            if is_sub and condition.text.rpartition(":")[2].startswith("StringLike"):
                yield from (wanted for wanted in condition.wanted if set(wanted) & {"*", "?"})


def _examples(pattern: str, subject: str) -> Iterator[str]:
    """Yield subjects that the pattern fits, except the token's."""
    for filler in _FILLERS:
        made = pattern.replace("*", filler).replace("?", filler[:1] or "y")
        if made != subject:
            yield made
