"""Test the reading of a list item by item, compared with a parser of the whole text."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.kubernetes.pages import MAX_EMPTY_PAGES, Progress, members

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
PAGES = st.dictionaries(st.sampled_from(["kind", "metadata", "items", "other"]), VALUES, max_size=4)


@given(PAGES, st.sampled_from([None, 1]), st.booleans())
def test_members_are_those_of_a_whole_parser(page: dict[str, Any], indent: int | None, is_ascii: bool) -> None:  # noqa: FBT001
    body = json.dumps(page, indent=indent, ensure_ascii=is_ascii).encode()
    expected: list[tuple[str, Any]] = []
    for name, value in page.items():
        is_list = name == "items" and isinstance(value, list)
        expected += [(name, item) for item in value] if is_list else [(name, value)]
    assert list(members(body)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "5", "{", "{1: 2}", '{"a"}', '{"a": 1', '{"a": 1,}', '{"a": 1 "b": 2}'),
        *('{"items": [1', '{"items": [1,]}', '{"items": [1 2]}', "\xff", '{"a": ' + "[" * 100_000),
    ],
)
def test_text_that_is_not_a_json_object_is_rejected(text: str) -> None:
    with pytest.raises((ValueError, TypeError, RecursionError)):
        list(members(text.encode("latin-1")))


def test_only_one_item_is_in_memory() -> None:
    """100 items with 5,000 empty mappings each take 36 MiB as Python objects."""
    item = json.dumps({"metadata": {}, "secrets": [{}] * 5_000})
    body = ('{"metadata": {}, "items": [' + ",".join([item] * 100) + "]}").encode()
    tracemalloc.start()
    try:
        assert sum(name == "items" for name, _ in members(body)) == 100
        assert tracemalloc.get_traced_memory()[1] < len(body) + 2_000_000
    finally:
        tracemalloc.stop()


def test_list_whose_token_occurs_again_ends() -> None:
    progress = Progress()
    assert [progress.ends(token, 5) for token in ("a", "b", "c", "a")] == [False, False, False, True]


def test_list_ends_after_many_consecutive_pages_without_items() -> None:
    progress = Progress()
    counts = [0] * MAX_EMPTY_PAGES + [1] + [0] * (MAX_EMPTY_PAGES + 1)
    ends = [progress.ends(str(at), count) for at, count in enumerate(counts)]
    assert ends == [False] * (len(counts) - 1) + [True]
