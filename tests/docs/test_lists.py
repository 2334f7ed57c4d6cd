"""
Check the indentation of blocks in list items.

GitHub accepts a block that starts at the item's text or further right. The site's Markdown needs four spaces. A block
with fewer spaces ends the list, and the next item has the number 1 again.
"""

import re

import pytest

from tests.support.documents import ROOT, read

PAGES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))
_SHALLOW = re.compile(r"^ {1,3}(?:```|\||<!--).*$", re.MULTILINE)


def shallow_blocks(text: str) -> list[str]:
    """Return each fence, table row and comment that is indented by one to three spaces."""
    return _SHALLOW.findall(text)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_in_list_items_have_four_spaces(page: str) -> None:
    assert shallow_blocks(read(page)) == []


def test_shallow_block_is_found() -> None:
    assert shallow_blocks("1. Run\n\n   ```sh\n   true\n   ```\n") == ["   ```sh", "   ```"]
    assert shallow_blocks("1. Run\n\n    ```sh\n    true\n    ```\n") == []
