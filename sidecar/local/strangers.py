"""
Create subjects of other service accounts, to test whether a trust policy also allows them. Pure.

Rule: each stranger differs from the subject in certain parts, so an allowed stranger shows which parts are too wide.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sidecar.local.service_account import SERVICE_ACCOUNT_PREFIX
from sidecar.local.trust_policy import Statement

OTHER_NAMESPACE, OTHER_NAME = "q7x", "z9k"
"""Namespace and name of a stranger. They are unlike real names, so only a pattern for every name matches them."""

STRANGER = f"{SERVICE_ACCOUNT_PREFIX}{OTHER_NAMESPACE}:{OTHER_NAME}"
"""A subject whose namespace and name differ from those of every real service account."""

_FILLERS = ("x", "other", "0", "")
"""The texts that replace a wildcard in an example."""


class Stranger(NamedTuple):
    """The subject of a token, and a description of the service accounts with such a subject."""

    subject: str
    description: str


def strangers(subject: str) -> list[Stranger]:
    """Return strangers for this subject, the widest first. The first differs in both namespace and name."""
    found = [Stranger(STRANGER, "any service account of this issuer")]
    namespace, colon, name = subject.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    if not (subject.startswith(SERVICE_ACCOUNT_PREFIX) and colon):
        return found
    for each, description in (
        (f"{OTHER_NAMESPACE}:{name}", f"service accounts with the name {name} in any namespace"),
        (f"{namespace}:{OTHER_NAME}", f"any service account of the namespace {namespace}"),
        (f"{namespace}-x:{OTHER_NAME}", f"any service account of a namespace whose name begins with {namespace}"),
        (f"x-{namespace}:{OTHER_NAME}", f"any service account of a namespace whose name ends with {namespace}"),
        (f"{namespace}-x:{name}", f"{name} of a namespace whose name begins with {namespace}"),
        (f"x-{namespace}:{name}", f"{name} of a namespace whose name ends with {namespace}"),
        (f"{namespace}:{name}-x", f"service accounts of {namespace} whose name begins with {name}"),
        (f"{namespace}:x-{name}", f"service accounts of {namespace} whose name ends with {name}"),
    ):
        found.append(Stranger(SERVICE_ACCOUNT_PREFIX + each, description))
    return found


def subject_patterns(statements: Sequence[Statement]) -> Iterator[str]:
    """Yield each value with a wildcard that a statement compares with `sub`."""
    for statement in statements:
        for condition in statement.conditions:
            is_sub = condition.key.lower().endswith(":sub") and not condition.operator.is_negated
            if is_sub and condition.text.rpartition(":")[2].startswith("StringLike"):
                yield from (value for value in condition.wanted if set(value) & {"*", "?"})


def examples_of(pattern: str, subject: str) -> Iterator[str]:
    """Yield subjects that the pattern matches, except `subject` itself."""
    for filler in _FILLERS:
        example = pattern.replace("*", filler).replace("?", filler[:1] or "y")
        if example != subject:
            yield example
