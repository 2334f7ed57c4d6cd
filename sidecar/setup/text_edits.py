"""
Edit a text at known positions, and show the edits as a unified diff.

The diff is calculated from the edits. Comparing the texts with difflib takes minutes for a List of 1,600 Deployments,
because their lines repeat. Pure.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import accumulate
from typing import NamedTuple

_CONTEXT = 3
"""Number of unchanged lines before and after a change, as in `diff -u`."""

_MAX_COMPARED_LINES = 1000
"""Maximum number of lines in a change that is compared line by line. A longer change is shown as a whole."""


class Edit(NamedTuple):
    """An edit that replaces the characters from `start` to `end` with `text`."""

    start: int
    end: int
    text: str

    def moved(self, by: int) -> "Edit":
        """Return the same edit for a text with `by` additional characters at its beginning."""
        return Edit(self.start + by, self.end + by, self.text)


class _Change(NamedTuple):
    """A change that replaces the lines from `start` to `end` with `lines`."""

    start: int
    end: int
    lines: list[str]


def with_edits(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with all edits applied. Edits at the same position keep their order."""
    parts: list[str] = []
    position = 0
    for edit in sorted(edits, key=lambda each: each.start):
        parts += (text[position : edit.start], edit.text)
        position = max(position, edit.end)
    return "".join((*parts, text[position:]))


def unified_diff(text: str, edits: Iterable[Edit], source: str, result: str) -> str:
    """Return the edits as a unified diff from `source` to `result`, or an empty text without edits."""
    old = text.splitlines(keepends=True)
    opcodes, new = _opcodes(old, list(_changes(old, sorted(edits, key=lambda each: each.start))))
    shown: list[str] = []
    for group in _Opcodes(opcodes).get_grouped_opcodes(_CONTEXT):
        first, last = group[0], group[-1]
        shown.append(f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@\n")
        for kind, start, end, new_start, new_end in group:
            if kind == "equal":
                shown += [_shown(" ", line) for line in old[start:end]]
                continue
            shown += [_shown("-", line) for line in old[start:end]]
            shown += [_shown("+", line) for line in new[new_start:new_end]]
    return "".join([f"--- {source}\n+++ {result}\n", *shown]) if shown else ""


def _shown(sign: str, line: str) -> str:
    return f"{sign}{line}" if line.endswith(("\n", "\r")) else f"{sign}{line}\n\\ No newline at end of file\n"


_Opcode = tuple[str, int, int, int, int]


class _Opcodes(SequenceMatcher[str]):
    """A matcher of difflib that is given the differences instead of computing them."""

    def __init__(self, opcodes: list[_Opcode]) -> None:
        super().__init__()
        self._known = opcodes

    def get_opcodes(self) -> list[_Opcode]:  # type: ignore[override]
        return self._known


def _changes(old: list[str], edits: list[Edit]) -> Iterator[_Change]:
    """Yield the changed lines. Edits on the same lines become one change."""
    starts = [0, *accumulate(map(len, old))]
    group: list[Edit] = []
    reach: tuple[int, int] | None = None
    for edit in edits:
        start, end = _lines_of(starts, edit)
        if reach is not None and start > reach[1]:
            yield _change(old, starts, reach, group)
            group, reach = [], None
        group.append(edit)
        reach = (start, end) if reach is None else (reach[0], max(reach[1], end))
    if reach is not None:
        yield _change(old, starts, reach, group)


def _lines_of(starts: list[int], edit: Edit) -> tuple[int, int]:
    """Return the first line that an edit changes, and the line after the last changed line."""
    start = bisect_right(starts, edit.start) - 1
    is_insertion_of_lines = edit.start == edit.end == starts[start] and edit.text.endswith(("\n", "\r"))
    last = bisect_right(starts, max(edit.start, edit.end - 1)) - 1
    return start, start if is_insertion_of_lines else min(last + 1, len(starts) - 1)


def _change(old: list[str], starts: list[int], reach: tuple[int, int], edits: list[Edit]) -> _Change:
    start = min(reach[0], len(old))
    if start == len(old) > 0 and not old[-1].endswith(("\n", "\r")):  # after a line without a line break
        start -= 1
    text = "".join(old[start : reach[1]])
    lines = with_edits(text, [edit.moved(-starts[start]) for edit in edits]).splitlines(keepends=True)
    return _Change(start, reach[1], lines)


def _opcodes(old: list[str], changes: list[_Change]) -> tuple[list[_Opcode], list[str]]:
    """Return the differences as opcodes for difflib, and the new lines."""
    opcodes: list[_Opcode] = []
    new: list[str] = []
    position = 0
    for change in [*changes, _Change(len(old), len(old), [])]:
        if position < change.start:
            opcodes.append(("equal", position, change.start, len(new), len(new) + change.start - position))
            new += old[position : change.start]
        opcodes += [
            (kind, start + change.start, end + change.start, new_start + len(new), new_end + len(new))
            for kind, start, end, new_start, new_end in _compared(old[change.start : change.end], change.lines)
        ]
        new += change.lines
        position = change.end
    return opcodes, new


def _compared(before: list[str], after: list[str]) -> Iterable[_Opcode]:
    if len(before) + len(after) <= _MAX_COMPARED_LINES:
        return SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [("replace", 0, len(before), 0, len(after))]


def _range(start: int, end: int) -> str:
    """Return a range of lines in the format of a unified diff."""
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"
