"""
YAML text as nodes or plain values, read strictly. Pure.

Rule: whatever the text is, the only exception that leaves this file is ConfigurationError. PyYAML raises more than its
own: ValueError and OverflowError for numbers and characters, RecursionError for deep nesting. A key that appears twice,
nesting beyond MAX_DEPTH and text that UTF-8 cannot encode are errors, each with its line.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import yaml

from sidecar.errors import ConfigurationError

MAX_DEPTH = 24
"""Levels of mappings and lists. A chain's session policy in a roles file has ten; PyYAML's work grows with each one."""

_MERGE, _TIMESTAMP = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:timestamp"

Node = yaml.nodes.Node

_Value = TypeVar("_Value")


def compose(text: bytes | str, where: str) -> Node | None:
    """Return the text's one document as nodes, None if it is empty. `where` begins each message."""
    return _guarded(lambda: _with_loader(text, _Loader.get_single_node), where)


def load(text: bytes | str, where: str) -> Any:
    """
    Return the text's one document as plain values, None if it is empty.

    Dates stay text, so that a policy's `Version: 2012-10-17` needs no quotes.
    """
    return _guarded(lambda: _with_loader(text, _Loader.get_single_data), where)


def line_of(node: Node) -> int:
    """Return the line of a node, counted from 1."""
    return int(node.start_mark.line) + 1


def _guarded(read: Callable[[], _Value], where: str) -> _Value:
    try:
        return read()
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        # Its whole text quotes the file.
        problem = getattr(exc, "problem", None) or type(exc).__name__
        sentence = problem if isinstance(exc, _LimitError) else f"this is not valid YAML ({problem})"
        raise ConfigurationError(f"{where}{line}: {sentence}.") from exc
    except Exception as exc:
        raise ConfigurationError(f"{where}: this is not valid YAML ({type(exc).__name__}).") from exc


def _with_loader(text: bytes | str, read: "Callable[[_Loader], _Value]") -> _Value:
    loader = _Loader(text)
    try:
        return read(loader)
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with our limits."""

    def __init__(self, text: bytes | str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            at = self.peek_event()  # type: ignore[no-untyped-call]
            raise _LimitError(f"it nests deeper than {MAX_DEPTH} levels", at)
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        try:
            node.value.encode("utf-8")
        except UnicodeEncodeError:
            raise _LimitError("it has a character that UTF-8 cannot encode", node) from None
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    raise _LimitError(f"the key {key.value[:40]!r} appears twice: keep one of them", key)
                seen.add(key.value)
        return node


class _LimitError(yaml.composer.ComposerError):
    """Valid YAML that exceeds our limits."""

    def __init__(self, problem: str, at: Any) -> None:
        super().__init__(None, None, problem, at.start_mark)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
