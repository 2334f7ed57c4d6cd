"""Check the form, the numbers and the index of the decision records."""

import re
from pathlib import Path

import pytest

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"
RECORDS = sorted(DECISIONS.glob("[0-9]*.md"))
HEADINGS = ["Context", "Decision", "Consequences", "How to measure it again"]
MAX_LINES = 70
"""The maximum number of lines in a record, which is about one page."""


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_record_has_the_four_headings(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert text.startswith(f"# {record.stem[:4]}: ")
    assert len(text.splitlines()) <= MAX_LINES


def test_numbers_of_records_have_no_gaps() -> None:
    assert [int(record.stem[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


def test_index_lists_every_record_with_its_title() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    for record in RECORDS:
        title = record.read_text(encoding="utf-8").splitlines()[0].partition(": ")[2]
        assert f"| [{record.stem[:4]}]({record.name}) | {title} |" in index
