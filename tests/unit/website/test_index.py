"""Check that the site's navigation is complete."""

from website.build import DOCS
from website.pages import INDEX, sections


def test_index_lists_every_page_once() -> None:
    listed = [entry.path for _, entries in sections((DOCS / INDEX).read_text()) for entry in entries]
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert sorted(listed) == sorted(page for page in pages if page != INDEX and not page.startswith("decisions/0"))
