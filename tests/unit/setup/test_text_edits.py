"""Test that a diff of edits shows the same changes as the edits."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.setup.text_edits import Edit, unified_diff, with_edits

_NO_NEWLINE = "\\ No newline at end of file\n"


def patched(text: str, diff: str) -> str:
    """Return the text with the diff applied, as `patch` would apply it."""
    old, new, position = text.splitlines(keepends=True), [], 0
    lines = diff.splitlines(keepends=True)[2:]
    for index, line in enumerate(lines):
        content = line[1:]
        if lines[index + 1 : index + 2] == [_NO_NEWLINE]:
            content = content.removesuffix("\n")
        if found := re.match(r"@@ -(\d+)(?:,(\d+))? \+", line):
            start = int(found[1]) - (found[2] != "0")
            new += old[position:start]
            position = start
        elif line.startswith("+"):
            new.append(content)
        elif line != _NO_NEWLINE:
            assert old[position] == content
            position += 1
            new += [content] if line.startswith(" ") else []
    return "".join([*new, *old[position:]])


@st.composite
def edits_of(draw: st.DrawFn, text: str) -> list[Edit]:
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pairs = list(zip(places[::2], places[1::2], strict=False))
    return [Edit(start, end, draw(st.text("ab\n", max_size=6))) for start, end in pairs]


@given(st.data(), st.text("abc\n", max_size=80))
def test_applied_diff_equals_the_edits(data: st.DataObject, text: str) -> None:
    edits = data.draw(edits_of(text))
    result = with_edits(text, edits)
    diff = unified_diff(text, edits, "old", "new")
    assert (patched(text, diff) if diff else text) == result


@pytest.mark.parametrize(
    ("text", "edit", "lines"),
    [
        ("a\nb\n", Edit(2, 2, "x\n"), ["@@ -1,2 +1,3 @@", " a", "+x", " b"]),
        ("a\nb\n", Edit(4, 4, "x\n"), ["@@ -1,2 +1,3 @@", " a", " b", "+x"]),
        ("a\nb\n", Edit(0, 2, ""), ["@@ -1,2 +1 @@", "-a", " b"]),
        ("a: []\nb\n", Edit(3, 5, "1"), ["@@ -1,2 +1,2 @@", "-a: []", "+a: 1", " b"]),
        ("a", Edit(1, 1, "\nb"), ["@@ -1 +1,2 @@", "-a", _NO_NEWLINE.strip(), "+a", "+b", _NO_NEWLINE.strip()]),
        ("", Edit(0, 0, "a\n"), ["@@ -0,0 +1 @@", "+a"]),
        ("a\n", Edit(1, 1, ""), []),
    ],
)
def test_diff_contains_changed_lines_and_their_context(text: str, edit: Edit, lines: list[str]) -> None:
    assert unified_diff(text, [edit], "old", "new").splitlines()[2:] == lines
