"""Write docs/reference/audit-rules.md: every rule of audit, with the reason, what to do, and an example."""

import textwrap

from sidecar.audit.finding import SEVERITIES, Rule, Severity
from sidecar.audit.rules.all import RULES
from tests.docs.reference import markdown
from tests.docs.reference.audit_examples import examples
from tests.docs.reference.audit_rule_notes import CATEGORIES, WHAT_TO_DO
from tests.docs.reference.markdown import bullets, fenced, marked, section, sentences, table

_SEVERITY: dict[Severity, str] = {
    Severity.ERROR: "an application has no credentials, or will have none after its next restart, or the audit could "
    "not run",
    Severity.WARNING: "a person or a program can obtain credentials that are not meant for it",
    Severity.NOTE: "nothing is broken, but the object can be removed or improved",
}

_INTRODUCTION = """
[Audit](../audit.md) describes how to run the command.
A rule's id never changes, because accepted findings and dashboards refer to it.
The first part of the id is the category.
The examples are from the tests of the rules.
"""


def page() -> str:
    return markdown.page(
        "Audit's rules",
        "This page lists every rule of `irsa-sidecar audit`, with its reason, what to do, and an example.",
        _INTRODUCTION,
        table(("severity", "meaning"), ((each.value, _SEVERITY[each]) for each in SEVERITIES)),
        section(2, "All rules", table(("rule", "severity", "finds"), map(_row, RULES))),
        *(section(2, name, sentences(text), *map(_section, of_category(name))) for name, text in CATEGORIES.items()),
    )


def of_category(name: str) -> list[Rule]:
    """Return the rules of a category, in the order of the report."""
    return [rule for rule in RULES if rule.id.partition(".")[0] == name]


def anchor(rule_id: str) -> str:
    return rule_id.replace(".", "")


def _row(rule: Rule) -> tuple[str, str, str]:
    return f"[{rule.id}](#{anchor(rule.id)})", rule.severity.value, marked(rule.title)


def _section(rule: Rule) -> str:
    example = examples()[rule.id]
    return section(
        3,
        rule.id,
        bullets([("Finds", marked(rule.title)), ("Severity", rule.severity.value)]),
        sentences(rule.reason),
        f"**What to do:**\n{sentences(WHAT_TO_DO[rule.id])}",
        fenced(f"{_wrapped(f'{example.subject}: {example.problem}')}\n{_wrapped(f'next: {example.next_step}')}"),
    )


def _wrapped(text: str) -> str:
    """Return the text as lines. Names are not split, as in the report."""
    return textwrap.fill(text, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
