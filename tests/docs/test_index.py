"""Check the index of the documentation, and check that each guide ends with the section about the next pages."""

import re
from collections import Counter

import pytest

from tests.support.documents import ROOT, read

INDEX = "docs/README.md"
LISTED = re.findall(r"^- \[[^\]]+\]\(([^)#]+)\)", read(INDEX), re.MULTILINE)
"""The pages of the index, as paths below docs/."""

_GUIDES = read(INDEX).partition("\n## Tutorials\n")[2].partition("\n## Reference\n")[0]

GUIDES = sorted(f"docs/{path}" for path in LISTED if f"]({path})" in _GUIDES)
"""The tutorials and how-to guides, which must link to the next page."""


def test_index_lists_every_page_once() -> None:
    pages = {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")}
    own = {path for path in pages if not re.match(r"README|decisions/\d", path)}
    assert Counter(LISTED) == Counter(own)


def test_index_has_the_four_kinds_of_pages() -> None:
    assert re.findall(r"^## (.+)", read(INDEX), re.MULTILINE) == [
        "Tutorials",
        "How-to guides",
        "Reference",
        "Explanation",
    ]


@pytest.mark.parametrize("page", GUIDES)
def test_last_section_of_a_guide_is_where_to_go_next(page: str) -> None:
    *_, last = re.split(r"^## (.+)\n", read(page), flags=re.MULTILINE)[1::2]
    assert last == "Where to go next"
