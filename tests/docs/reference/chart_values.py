"""Write docs/reference/chart-values.md: every value of the chart, from its file and its schema."""

from collections.abc import Sequence

from tests.docs.reference import markdown
from tests.docs.reference.chart_file import Value, accepted, renamed, shown_default, values
from tests.docs.reference.markdown import bullets, code, marked, section, sentences, table

_INTRODUCTION = """
The chart is in [k8s/chart](../../k8s/chart/values.yaml), and installs the webhook.
`helm install --values FILE` and `--set NAME=VALUE` change the values.
The schema of the chart rejects an unknown name and a value of the wrong kind.
"""

_PLAIN = frozenset({"a list", "a mapping", "a string", "`true` or `false`"})
"""The kinds of values that the page does not state, because the default shows them."""

_RENAMED = "The chart rejects an old name with a message that shows the new name."


def page() -> str:
    found = values()
    groups = {each.path.partition(".")[0]: each for each in reversed(found)}
    return markdown.page(
        "Chart values",
        "This page lists every value of the Helm chart of irsa-sidecar, with its default and its meaning.",
        sentences(_INTRODUCTION),
        section(2, "All values", table(("value", "default"), (_row(each) for each in found if not each.is_group))),
        section(
            2, "Each value", *(_section([each for each in found if _is_in(each, name)]) for name in reversed(groups))
        ),
        *_renamed(),
    )


def _is_in(value: Value, group: str) -> bool:
    return value.path == group or value.path.startswith(f"{group}.")


def _row(value: Value) -> tuple[str, str]:
    group = value.path.partition(".")[0]
    return f"[{code(value.path)}](#{group.lower()})", shown_default(value.default)


def _section(members: Sequence[Value]) -> str:
    first, *others = members
    text = sentences(first.comment)
    if not others:
        facts = (("Value", accepted(first.schema)), ("Default", shown_default(first.default)))
        return section(3, code(first.path), text, bullets(facts))
    rows = (
        (code(each.path), shown_default(each.default), marked(_described(each))) for each in others if not each.is_group
    )
    return section(3, code(first.path), text, table(("value", "default", "meaning"), rows))


def _described(value: Value) -> str:
    """Return the meaning of a value, and its kind unless the default shows it."""
    kind = accepted(value.schema)
    return value.comment if kind in _PLAIN else f"{value.comment} Value: {kind}."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _renamed() -> list[str]:
    rows = [(code(name), marked(_sentence(text.removeprefix("renamed: ")))) for name, text in renamed()]
    return [section(2, "Renamed values", _RENAMED, table(("old name", "message"), rows))] if rows else []
