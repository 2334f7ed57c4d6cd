"""Test that text is broken by words, and that no line is too wide."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.local.terminal.wrapping import columns, wrap


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 10, [""]),
        ("one two three", 7, ["one two", "three"]),
        ("one two", 7, ["one two"]),
        ("to arn:aws:iam::111122223333:role/app now", 16, ["to", "arn:aws:iam::", "111122223333:", "role/app now"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("a 日本語 b", 5, ["a", "日本", "語 b"]),
    ],
)
def test_text_is_broken_by_words_and_punctuation(text: str, width: int, lines: list[str]) -> None:
    assert wrap(text, width) == lines


def test_columns_counts_wide_and_combining_characters() -> None:
    assert columns("日本") == 4
    assert columns("e\u0301") == 1


@given(st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), max_size=60), st.integers(2, 30))
def test_no_line_is_wider_than_the_width(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(columns(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
