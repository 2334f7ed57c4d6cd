"""Test the language check: the texts that it reads, the lines that it reports, and the sentences that it accepts."""

import re
from pathlib import Path

import pytest

from tests.support import language
from tests.support.avoided_words import AVOIDED, avoided_in, docstring_start
from tests.support.language import Finding, findings, flatten, is_text, main, pending, split_pending, tidy

SOURCE = '''
"""Whether it is so."""

# The token is read
# in place of the old one, and anew.

LIMIT = 3
"""Of one request."""

def name() -> str:
    """
    Return the name.

    The name is told.
    """
    return "a name " "that is in vain"


def test_a_name_is_read_anew() -> None:
    """A name."""
'''
"""A Python source with one finding of every kind."""


def _found(source: str, path: str = "a.py") -> list[tuple[int, str]]:
    return sorted((finding.line, finding.words) for finding in findings(path, source))


def test_each_kind_of_text_is_read() -> None:
    expected = [
        (2, "Whether"),
        (5, "anew"),
        (5, "in place of"),
        (8, "Of"),
        (14, "is told"),
        (16, "in vain"),
        (19, "anew"),
    ]
    assert _found(SOURCE) == expected


def test_avoided_form_across_two_lines_is_found() -> None:
    assert _found("# This one is used in\n# place of that one.\n") == [(1, "in place of")]


def test_comment_after_code_is_a_separate_text() -> None:
    assert _found("a = 1  # used in\nb = 2  # place of that\n") == []


def test_finding_in_a_long_string_has_the_line_of_its_words() -> None:
    assert _found('a = (\n    "one "\n    "is looked at "\n    "two"\n)\n') == [(3, "looked at")]


def test_f_string_is_read() -> None:
    assert _found('a = 1\nb = f"{a} is no number: set {a}."\n') == [(2, "is no number")]


def test_code_span_in_a_docstring_is_not_read() -> None:
    assert _found('def f() -> None:\n    """Return what `hand_out anew` returns."""\n') == []


def test_quoted_line_is_exempt() -> None:
    assert _found('a = "is in vain here"  # language: quoted\nb = "is in vain here"\n') == [(2, "in vain")]


def test_raises_within_a_line_is_found() -> None:
    assert _found('def f() -> None:\n    """Read it. Raises OSError if it is missing."""\n') == [(2, "Raises OSError")]
    assert _found('def f() -> None:\n    """\n    Read it.\n\n    It is a file. Raises an error.\n    """\n') == [
        (5, "Raises an")
    ]


def test_raises_on_its_own_line_is_accepted() -> None:
    assert _found('def f() -> None:\n    """\n    Read it.\n\n    Raises OSError if it is missing.\n    """\n') == []


def test_long_test_name_is_found() -> None:
    name = "test_" + "a" * 56
    assert [words for _, words in _found(f"def {name}() -> None: ...\n")] == [name]
    assert _found(f"def {name[:-1]}() -> None: ...\n") == []


def test_markdown_code_is_not_read() -> None:
    text = "Read `anew`.\n\n```\nanew\n```\n\nRead\nit anew.\n"
    assert _found(text, "a.md") == [(8, "anew")]


def test_comment_in_yaml_is_read_across_lines() -> None:
    assert _found("a: 1\n# used in\n# place of\n", "a.yaml") == [(2, "in place of")]


@pytest.mark.parametrize(
    "text",
    [
        "There is no role.",
        "Here is no file.",
        "It is no longer valid.",
        "Set keep-alive off.",
        "A fake STS stands in for AWS.",
        "Do what you are asked to do.",
        "The file that lives in the Pod.",
        "This is well known.",
        "By default, it is off.",
        "Troubleshoot it.",
        "Make a key wrong.",
        "Pass it through the loop over the roles.",
    ],
)
def test_plain_sentence_is_accepted(text: str) -> None:
    assert avoided_in(text) == []
    assert docstring_start(text) is None


def test_every_pattern_is_valid_and_unique() -> None:
    for avoided in AVOIDED:
        assert re.compile(avoided.pattern).groups == 0
        assert avoided.use
    assert len({avoided.pattern for avoided in AVOIDED}) == len(AVOIDED)


def test_flatten_returns_the_offset_of_each_line() -> None:
    text, starts = flatten("# one two\n#\n  three")
    assert text == "one two three"
    assert [text[start:] for start in starts] == ["one two three", "three", "three"]


def test_finding_has_the_form_of_a_compiler_message() -> None:
    assert str(Finding("a.py", 3, "anew", "again")) == "a.py:3: 'anew' → again"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/b.py", True), ("Makefile", True), ("a.svg", False), ("tests/fuzz/corpus/http/a.md", False)],
)
def test_files_are_chosen_by_name(path: str, *, expected: bool) -> None:
    assert is_text(path) == expected


ONE, TWO = Finding("a/b.py", 1, "anew", "again"), Finding("a/c/d.py", 2, "anew", "again")


@pytest.mark.parametrize(
    ("entries", "left", "clean"),
    [
        ([], [ONE, TWO], []),
        (["a/"], [], []),
        (["a/b.py"], [TWO], []),
        (["a/c"], [ONE, TWO], ["a/c"]),
        (["a/c/", "b/"], [ONE], ["b/"]),
    ],
)
def test_pending_paths_are_exempt_until_clean(entries: list[str], left: list[Finding], clean: list[str]) -> None:
    assert split_pending([ONE, TWO], entries) == (left, clean)


def test_pending_list_is_read_without_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "PENDING", tmp_path / "list")
    assert pending() == []
    (tmp_path / "list").write_text("# why\n\na/\nb.py\n")
    assert pending() == ["a/", "b.py"]


def test_tidy_removes_only_clean_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "PENDING", tmp_path / "list")
    (tmp_path / "list").write_text("# why\na/\nb.py\nc/\n")
    tidy(["a/", "c/"])
    assert (tmp_path / "list").read_text() == "# why\nb.py\n"


def test_check_finds_nothing_in_its_own_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tests/support/language.py"]) == 0
    assert capsys.readouterr().out == ""
