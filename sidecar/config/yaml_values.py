"""
Read the values of a roles file from YAML nodes. An error names the line. Pure.

Rule: a table maps each YAML key to the reader of its value. An unknown key and a value of the wrong kind are errors.
Readers with parameters are values, so that the JSON Schema of a file comes from the same tables (tests/docs/schemas).
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import yaml

from sidecar.config_file import MAX_KEY_CHARACTERS, suggested_key
from sidecar.errors import ConfigurationError
from sidecar.strict_yaml import KEEP_ONE, MERGE_TAG, Node, appears_twice, compose, line_of

MAX_ITEMS = 1000
"""Maximum number of items in a list without another limit, such as users and containers."""

MAX_POLICY_NODES = 1000
"""Maximum number of parts of a policy. Aliases can make a small document huge. STS accepts 2048 characters,
which have fewer parts."""

MAX_TAGS = 50
"""Maximum number of tags (STS API reference, AssumeRole, Tags). Keys have up to 128 characters, values up to 256."""

_TEXT_TAG = "tag:yaml.org,2002:str"


class Place(NamedTuple):
    """A location in a file. Its text is the start of an error message."""

    path: str
    line: int
    key: str = ""

    def __str__(self) -> str:
        key = self.key[:MAX_KEY_CHARACTERS]
        shown = key if key.isprintable() else ascii(key)  # an import of printable.py would add a module to `run`
        return f"{self.path}, line {self.line}{': ' + shown if shown else ''}"

    def error(self, problem: str, *, fix: str) -> ConfigurationError:
        """Return an error about this location. The problem starts with a space or a colon."""
        return ConfigurationError(f"{self}{problem}", fix=fix, setting=str(self))


Reader = Callable[[Place, Node], Any]


def read_mapping(place: Place, node: Node, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Return the values of a mapping, each read by the reader of its key."""
    if not isinstance(node, yaml.MappingNode):
        raise place.error(" is not a mapping", fix=f"Write {', '.join(f'`{key}:`' for key in readers)}")
    found: dict[str, Any] = {}
    for key_node, value in node.value:
        key = _key(place, key_node)
        where = Place(place.path, line_of(key_node), key[:MAX_KEY_CHARACTERS])
        if key not in readers:
            raise where.error(" is not a setting", fix=suggested_key(key, readers))
        found[key] = readers[key](where, value)
    return found


def _key(place: Place, node: Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise Place(place.path, line_of(node)).error(": the key is not a word", fix="Write a word before the colon")
    if node.tag == MERGE_TAG:
        where = Place(place.path, line_of(node))
        raise where.error(
            ": the merge key << is not supported",
            fix="Copy the keys of the merged mapping into each mapping that uses <<",
        )
    return str(node.value)


class ListOf:
    """A reader of a list. It counts the items first, because aliases can repeat an item many times."""

    def __init__(self, read_item: Reader, most: int = MAX_ITEMS, what: str = "items") -> None:
        self.read_item = read_item
        self.most = most
        self.what = what

    def __call__(self, place: Place, node: Node) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise place.error(" is not a list", fix="Start each item with `- `")
        if len(node.value) > self.most:
            raise place.error(f" has {len(node.value)} {self.what}", fix=f"Use at most {self.most}")
        return tuple(self.read_item(Place(place.path, line_of(item), place.key), item) for item in node.value)


def read_text(place: Place, node: Node) -> str:
    """Return the text of a scalar. Numbers are allowed, because YAML reads an external ID of digits as a number."""
    if not isinstance(node, yaml.ScalarNode) or node.tag.endswith((":null", ":binary")):
        raise place.error(" is not text", fix="Write one value")
    return str(node.value)


class ParsedBy:
    """A reader of text that a function checks. The arguments of the function are the place and the text."""

    def __init__(self, check: Callable[[str, str], Any]) -> None:
        self.check = check

    def __call__(self, place: Place, node: Node) -> Any:
        return self.check(str(place), read_text(place, node))


class Matching:
    """A reader of text that matches a regular expression. `wanted` describes such a text."""

    def __init__(self, pattern: str, wanted: str) -> None:
        self.pattern = pattern
        self.wanted = wanted

    def __call__(self, place: Place, node: Node) -> str:
        text = read_text(place, node)
        if re.fullmatch(self.pattern, text) is None:
            raise place.error(f" is {text[:100]!r}, which is not valid", fix=f"Use {self.wanted}")
        return text


def read_uid(place: Place, node: Node) -> int:
    text = read_text(place, node)
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) >= 2**32:
        raise place.error(f" has {text[:20]!r}, which is not a user id", fix="Use numeric user ids, as in runAsUser")
    return int(text)


def read_policy(place: Place, node: Node) -> Any:
    """Return a policy as plain values. In the file it is a mapping, or a string with JSON or YAML."""
    if isinstance(node, yaml.ScalarNode) and node.tag == _TEXT_TAG:
        policy = _policy_in_text(place, node)
    else:
        policy = _plain(place, node, [MAX_POLICY_NODES])
    if not isinstance(policy, dict):
        raise place.error(" is not a policy", fix="Write a mapping with Version and Statement")
    return policy


def _policy_in_text(place: Place, node: yaml.ScalarNode) -> Any:
    """Parse the policy in a string as YAML, or else as JSON, because only JSON allows tabs and escaped slashes."""
    # In a block scalar (`|`), the lines of the text are lines of the file, after the line with the `|`.
    is_block = node.style == "|"
    where = f"{place.path}: {place.key}" if is_block else f"{place}, in its text"
    try:
        inner = compose(node.value, where, first_line=line_of(node) + 1 if is_block else 1)
    except ConfigurationError:
        if "\\/" not in node.value and "\t" not in node.value:
            raise
        return _policy_in_json(place, node.value)
    return None if inner is None else _plain(place, inner, [MAX_POLICY_NODES])


def _policy_in_json(place: Place, text: str) -> Any:
    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise place.error(f": {appears_twice(key)}", fix=KEEP_ONE)
            seen.add(key)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=mapping, parse_int=_whole_number, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as exc:
        raise place.error(" is text that is not JSON", fix="Write the policy as a mapping") from exc


def _plain(place: Place, node: Node, left: list[int]) -> Any:
    """Convert a node to the types of JSON. Dates stay text, so `Version: 2012-10-17` needs no quotes."""
    left[0] -= 1
    if left[0] < 0:
        raise place.error(f" has more than {MAX_POLICY_NODES} parts", fix="Shorten the policy")
    if isinstance(node, yaml.MappingNode):
        return {_key(place, key): _plain(place, value, left) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(place, item, left) for item in node.value]
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() in {"true", "yes", "on"}
    return _whole_number(node.value) if kind == "int" else str(node.value)


def _whole_number(text: str) -> int | str:
    """Return a number for a text of 1 to 18 digits, else the text. Other programs may reject longer numbers."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else text


def read_tags(place: Place, node: Node) -> tuple[tuple[str, str], ...]:
    if not isinstance(node, yaml.MappingNode) or len(node.value) > MAX_TAGS:
        raise place.error(f" is not a mapping of at most {MAX_TAGS} keys", fix="Write each tag as `key: value`")
    tags = []
    for key_node, value_node in node.value:
        key, value = _key(place, key_node), read_text(place, value_node)
        if not 1 <= len(key) <= 128 or len(value) > 256:
            where = Place(place.path, line_of(key_node), place.key)
            limits = "Use a key of 1 to 128 characters and a value of at most 256"
            raise where.error(f": the tag {key[:40]!r} is empty or too long", fix=limits)
        tags.append((key, value))
    if len({key.casefold() for key, _ in tags}) < len(tags):
        raise place.error(" has two keys that are equal for STS, which ignores case", fix="Keep one of them")
    return tuple(tags)
