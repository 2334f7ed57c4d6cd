"""Check that the reference has every value of the chart, with a meaning."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tests.docs.reference.chart_file import VALUES, Value, accepted, comments, renamed, values


def test_page_has_every_value_with_its_default() -> None:
    leaves = {value.path: value.default for value in values() if not value.is_group}
    assert dict(_leaves("", yaml.safe_load(VALUES.read_text(encoding="utf-8")), set(leaves))) == leaves


def _leaves(prefix: str, mapping: Mapping[str, Any], known: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield each path with its default. The members of a mapping are separate, unless `known` has its path."""
    for name, value in mapping.items():
        path = f"{prefix}{name}"
        if path in known or not isinstance(value, dict):
            yield path, value
        else:
            yield from _leaves(f"{path}.", value, known)


def test_every_value_has_a_meaning_and_a_schema() -> None:
    """The meaning is a comment in values.yaml or an entry of MEANINGS, and values.schema.json has the kind."""
    assert [value.path for value in values() if not value.comment] == []
    assert [value.path for value in values() if not value.is_group and not accepted(value.schema)] == []


TEXT = """\
# One.
# More of one.
a: 1  # inline
b: {}

# Group.
c:
  # Member.
  d: ""
  e: [1]
f: x
"""

SCHEMA: dict[str, Any] = {
    "definitions": {"name": {"type": "string"}},
    "properties": {
        "a": {"type": "integer", "minimum": 1},
        "b": {"type": ["object", "null"], "properties": {"x": {}}},
        "c": {"properties": {"d": {"$ref": "#/definitions/name"}, "e": {"type": "array"}}},
        "f": {"enum": ["x", ""]},
        "old": {"const": "renamed: set f"},
    },
}


def test_comment_describes_its_key() -> None:
    assert comments(TEXT) == {
        "a": "One. More of one. inline",
        "b": "One. More of one.",
        "c": "Group.",
        "c.d": "Member.",
        "c.e": "",
        "f": "",
    }


def test_values_have_default_and_schema() -> None:
    found = {value.path: value for value in values(TEXT, SCHEMA)}
    assert list(found) == ["a", "b", "c", "c.d", "c.e", "f"]
    assert [path for path, value in found.items() if value.is_group] == ["c"]
    assert found["c.d"] == Value("c.d", "Member.", "", {"type": "string"}, is_group=False)
    assert {path: accepted(value.schema) for path, value in found.items() if not value.is_group} == {
        "a": "a whole number of at least 1",
        "b": "a mapping, with any of the keys `x`, or null",
        "c.d": "a string",
        "c.e": "a list",
        "f": 'one of `x`, `""`',
    }


def test_renamed_values_are_read_from_the_schema() -> None:
    assert list(renamed(SCHEMA)) == [("old", "renamed: set f")]
