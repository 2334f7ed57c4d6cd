"""Test our patches with another implementation of RFC 6902, which applies them."""

import copy
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from sidecar.injection.json_patch import applied, json_patch

leaves = st.none() | st.booleans() | st.integers(0, 2) | st.text("ab/~", max_size=3)
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/~01", max_size=2), inner, max_size=3),
)


@given(documents, documents)
def test_patch_changes_one_document_into_the_other(before: Any, after: Any) -> None:
    patch = json_patch(before, after)
    assert jsonpatch.apply_patch(copy.deepcopy(before), patch) == after
    assert applied(copy.deepcopy(before), patch) == after


@given(documents)
def test_equal_documents_need_no_patch(document: Any) -> None:
    assert json_patch(document, copy.deepcopy(document)) == []


def test_new_first_item_needs_one_operation() -> None:
    one, other, first = {"name": "one", "x": 1}, {"name": "other"}, {"name": "first"}
    assert json_patch({"a": [one, other]}, {"a": [first, one | {"x": 2}, other]}) == [
        {"op": "add", "path": "/a/0", "value": first},
        {"op": "replace", "path": "/a/1/x", "value": 2},
    ]


def test_patch_distinguishes_true_from_one() -> None:
    assert json_patch({"a": 1}, {"a": True}) == [{"op": "replace", "path": "/a", "value": True}]


def test_patch_of_many_items_with_one_name_is_short() -> None:
    """
    Use a list that any creator of a Pod can send.

    difflib took minutes for such a list, because its time grows with the square of the list's length.
    """
    first, last, many = {"name": "first"}, {"name": "last"}, [{"name": "A"}] * 20_000
    assert json_patch([first, *many], [*many, last]) == [
        {"op": "remove", "path": "/0"},
        {"op": "add", "path": "/20000", "value": last},
    ]
