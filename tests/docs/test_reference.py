"""Check that each page of docs/reference matches the code, and that no page is missing."""

import pytest

from tests.docs.reference import markdown
from tests.docs.reference.pages import FILES, FOLDER, PAGES, ROOT, path_of


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    """If this fails, run `make reference`."""
    assert path_of(name).read_text(encoding="utf-8") == PAGES[name]()


@pytest.mark.parametrize("path", FILES)
def test_file_is_up_to_date(path: str) -> None:
    """If this fails, run `make reference`."""
    assert (ROOT / path).read_text(encoding="utf-8") == FILES[path]()


def test_folder_has_only_generated_pages() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.md" for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
def test_page_begins_with_its_purpose_and_the_marker(name: str) -> None:
    title, _, purpose, _, mark = PAGES[name]().split("\n")[:5]
    assert title.startswith("# ")
    assert purpose.startswith("This page ")
    assert purpose.count(". ") == 0
    assert mark == markdown.GENERATED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a --flag-name, AWS_REGION", "a `--flag-name`, `AWS_REGION`"),
        ("such as /pods/ or ~/.aws/config.", "such as `/pods/` or `~/.aws/config`."),
        ("`--done` http://127.0.0.1:1/x, and 10.0.0.1:80", "`--done` `http://127.0.0.1:1/x`, and `10.0.0.1:80`"),
        ("see docs/roles.md", "see [roles.md](../roles.md)"),
        ("and/or, 1/2, a -- b", "and/or, 1/2, a `--` b"),
    ],
)
def test_code_in_text_is_marked(text: str, expected: str) -> None:
    assert markdown.marked(text) == expected


def test_help_becomes_sentences() -> None:
    assert markdown.sentence("file of X; created if it is missing") == "File of X. Created if it is missing."
    assert markdown.sentences("One. Two\nthree.\n\nFour.") == "One.\nTwo three.\n\nFour."


def test_vertical_bar_does_not_end_a_table_cell() -> None:
    assert markdown.table(("a",), [(markdown.code("x|<y>"),)]).split("\n")[2] == "| <code>x&#124;&lt;y&gt;</code> |"
