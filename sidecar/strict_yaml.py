"""
Parse YAML strictly, as nodes or plain values. Pure.

Rule: for any text, the only exception of this module is ConfigurationError. PyYAML also raises Python's own exceptions:
ValueError and OverflowError for numbers and characters, RecursionError for deep nesting. A duplicate key, nesting
beyond MAX_DEPTH and text that UTF-8 cannot encode are errors, each with its line. The depth includes the targets of
aliases, so a reader of nodes cannot recurse too deep. `load` also counts the parts that aliases repeat.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import yaml

from sidecar.errors import ConfigurationError, SidecarError

MAX_DEPTH = 24
"""Maximum nesting of mappings and lists. A caller may set a lower limit. PyYAML's work per token grows per level."""

MAX_PARTS = 20_000
"""Maximum number of scalars, lists and mappings for `load`. A part counts again for each alias that repeats it."""

MAX_PROBLEM_CHARACTERS = 200
"""Maximum length of PyYAML's text in a message, in characters. PyYAML can quote a tag of any length."""

_SURROGATE = re.compile("[\ud800-\udfff]")

MERGE_TAG, _VALUE_TAG = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"

Node = yaml.nodes.Node

_Value = TypeVar("_Value")


@contextmanager
def reading(where: str) -> Iterator[None]:
    """
    Convert any exception of the block to a ConfigurationError about `where`. Our own errors pass unchanged.

    Readers of configuration use this block, so that an unexpected value causes a message instead of a traceback.
    """
    try:
        yield
    except SidecarError:
        raise
    except Exception as exc:
        raise ConfigurationError(
            f"{where} cannot be read ({type(exc).__name__})",
            fix="Remove unusual content, such as odd escapes, very long numbers or explicit tags",
            setting=where,
        ) from exc


def compose(text: bytes | str, where: str, *, first_line: int = 1, max_depth: int = MAX_DEPTH) -> Node | None:
    """
    Return the only document of the text as nodes, or None if the text is empty.

    `where` is the beginning of each message. `first_line` is the line of the text's beginning within `where`.
    """
    _check_flow_depth(text, where, first_line, max_depth)
    loader = partial(_Loader, text, max_depth=max_depth)
    return _guarded(lambda: _with_loader(loader(), _Loader.get_single_node), where, first_line)


def load(text: bytes | str, where: str) -> Any:
    """
    Return the only document of the text as plain values, or None if the text is empty.

    Dates stay text, so that a policy's `Version: 2012-10-17` needs no quotes.
    """
    _check_flow_depth(text, where, 1, MAX_DEPTH)
    return _guarded(lambda: _with_loader(_Loader(text, max_parts=MAX_PARTS), _Loader.get_single_data), where)


_BRACKETS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_BRACKET = re.compile(rb"[][{}]")


def _check_flow_depth(text: bytes | str, where: str, first_line: int, max_depth: int) -> None:
    """
    Count brackets, including those in strings, before PyYAML reads the text.

    This check comes first, because PyYAML's scanner reads 1,024 characters ahead at any depth.

    Raises ConfigurationError if brackets are nested deeper than `max_depth`.
    """
    depth = 0
    for match in _BRACKET.finditer(text if isinstance(text, bytes) else text.encode("utf-8", "replace")):
        depth = max(depth + _BRACKETS[match[0]], 0)
        if depth > max_depth:
            line = match.string.count(b"\n", 0, match.start()) + first_line
            raise ConfigurationError(f"{where}, line {line}: {_too_deep(max_depth)}", fix=_FLATTEN, setting=where)


def line_of(node: Node) -> int:
    """Return the line of a node, counted from 1."""
    return int(node.start_mark.line) + 1


KEEP_ONE = "Keep one of them"
"""The fix for a key that appears twice."""

_FLATTEN = "Use fewer nested mappings and lists"


def appears_twice(key: str) -> str:
    """Return the problem of a key that appears twice."""
    return f"the key {key[:40]!r} appears twice"


def _guarded(read: Callable[[], _Value], where: str, first_line: int = 1) -> _Value:
    try:
        return read()
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f", line {mark.line + first_line}" if mark else ""
        # The whole text of the exception quotes the file.
        problem = str(getattr(exc, "problem", None) or type(exc).__name__)[:MAX_PROBLEM_CHARACTERS]
        if isinstance(exc, _LimitError):
            raise ConfigurationError(f"{where}{line}: {problem}", fix=exc.fix, setting=where) from exc
        raise _not_yaml(f"{where}{line}", problem, where) from exc
    except Exception as exc:
        raise _not_yaml(where, type(exc).__name__, where) from exc


def _not_yaml(place: str, reason: str, setting: str) -> ConfigurationError:
    return ConfigurationError(f"{place}: this is not valid YAML ({reason})", fix="Correct the YAML", setting=setting)


def _with_loader(loader: "_Loader", read: "Callable[[_Loader], _Value]") -> _Value:
    try:
        return read(loader)
    finally:
        loader.dispose()


class _Extent(NamedTuple):
    """The size of a node with all its parts. The target of an alias counts once per alias."""

    depth: int = 1
    parts: int = 1


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with our limits."""

    def __init__(self, text: bytes | str, *, max_depth: int = MAX_DEPTH, max_parts: int | None = None) -> None:
        super().__init__(text)
        self._max_depth = max_depth
        self._max_parts = max_parts
        self._depth = 0
        self._extents: dict[int, _Extent] = {}

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self._depth += 1
        if self._depth > self._max_depth:
            raise _LimitError(_too_deep(self._max_depth), _FLATTEN, self.peek_event())  # type: ignore[no-untyped-call]
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and id(node) not in self._extents:
            raise _LimitError("it contains itself by an alias", "Write it out instead of the alias", node)
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        if _SURROGATE.search(node.value):
            node.value = _with_pairs_joined(node)
        self._extents[id(node)] = _Extent()
        return node

    def compose_sequence_node(self, anchor: Any) -> yaml.SequenceNode:
        node: yaml.SequenceNode = super().compose_sequence_node(anchor)
        self._measure(node, node.value)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        self._check_keys(node)
        self._measure(node, [part for pair in node.value for part in pair])
        return node

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                forms = {key.value, self._constructed(key)}
                if forms & seen:
                    raise _LimitError(appears_twice(key.value), KEEP_ONE, key)
                seen |= forms

    def _constructed(self, key: yaml.ScalarNode) -> Any:
        """
        Return the value of the key in the result of `load`, or the key's text for `compose`.

        In the result of `load`, `1` and `0x1` are the same key, and so are `true` and `on`.
        """
        if self._max_parts is None or key.tag in {MERGE_TAG, _VALUE_TAG}:
            return key.value
        return self.construct_object(key)

    def _measure(self, node: Node, children: Sequence[Node]) -> None:
        extents = [self._extents[id(child)] for child in children]
        depth = 1 + max((extent.depth for extent in extents), default=0)
        parts = 1 + sum(extent.parts for extent in extents)
        if depth > self._max_depth:
            raise _LimitError(_too_deep(self._max_depth), _FLATTEN, node)
        if self._max_parts is not None and parts > self._max_parts:
            raise _LimitError(f"it has more than {self._max_parts} parts, aliases counted", "Shorten it", node)
        self._extents[id(node)] = _Extent(depth, parts)


def _too_deep(max_depth: int) -> str:
    return f"it nests deeper than {max_depth} levels"


def _with_pairs_joined(node: yaml.ScalarNode) -> str:
    """Replace each surrogate pair by one character. JSON in ASCII writes an emoji as a surrogate pair."""
    try:
        text: str = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _LimitError("it has a character that UTF-8 cannot encode", "Remove the character", node) from None
    return text


class _LimitError(yaml.composer.ComposerError):
    """An error for YAML that breaks our rules, with its fix."""

    def __init__(self, problem: str, fix: str, at: Any) -> None:
        super().__init__(None, None, problem, at.start_mark)
        self.fix = fix


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
