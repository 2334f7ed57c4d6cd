"""
Define what a rule of the audit is, and what a finding is. Pure. The rules are in audit/rules/.

Rule: a rule's id never changes and is never used again, because accepted findings and dashboards refer to it.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sidecar.audit.relations import Relations


class Severity(Enum):
    """The severity of a finding. The names are those of SARIF 2.1.0, section 3.27.10."""

    ERROR = "error"
    """An application has no credentials or will lose them at a restart, or the cluster or account is unreadable."""
    WARNING = "warning"
    """Somebody can obtain credentials that are not meant for them, or a part of the audit is missing."""
    NOTE = "note"
    """Nothing is broken, but the object can be removed or improved."""


SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.NOTE)
"""All severities, the highest first."""


class Subject(NamedTuple):
    """The object of a finding: a Kubernetes object or an AWS resource. `namespace` is empty for an AWS resource."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Finding(NamedTuple):
    """
    A problem of one object.

    `problem` and `next_step` are sentences without the final full stop. They hold no secrets. They quote names that
    other people chose, so every output escapes them.
    """

    rule: str
    severity: Severity
    subject: Subject
    problem: str
    next_step: str

    @property
    def fingerprint(self) -> str:
        """The rule and the object, without the problem's text, which changes with the state of other objects."""
        return f"{self.rule} {self.subject}"


class Problem(NamedTuple):
    """The part of a finding that depends on the object."""

    subject: Subject
    problem: str
    next_step: str


class Rule(NamedTuple):
    """
    One rule. `id` is the category and a name, and is the heading of the rule in docs/reference/audit-rules.md.

    `title` is a noun phrase for lists. `reason` explains in sentences why the state is a problem.
    """

    id: str
    severity: Severity
    title: str
    reason: str
    find: "Callable[[Relations], Iterator[Problem]]"

    def findings(self, relations: "Relations") -> Iterator[Finding]:
        """Yield the findings of this rule."""
        for subject, problem, next_step in self.find(relations):
            yield Finding(self.id, self.severity, subject, problem, next_step)
