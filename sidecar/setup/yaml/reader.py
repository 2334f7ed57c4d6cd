"""
Read YAML documents into nodes with their positions in the text.

Rule: a document has the same value here as in kubectl. libyaml (through PyYAML) finds the tokens, because go-yaml
version 2 is a port of libyaml. This module and scalars.py do the rest. If keys are equal, the last one counts. Merge
keys apply in the order of the text. Text that is not YAML may follow a document. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import yaml

from sidecar.setup.yaml.errors import TooDeepError, UnreadableError
from sidecar.setup.yaml.scalars import is_merge_key, key_text, resolve_scalar

MAX_DEPTH = 200
"""Maximum number of nested levels. The deepest custom resource definitions have about 60."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""
The parser of PyYAML. Without libyaml, PyYAML uses its own parser, which is slower and rejects a tab after a value.
"""

_FEW_ALIASES, _FEW_NODES = 100, 1000
"""Numbers of expanded aliases and of nodes up to which go-yaml does not limit aliases."""

_SMALL, _LARGE = 400_000, 4_000_000
"""
Limits for the number of expanded nodes.

Between these limits, go-yaml reduces the share of nodes that may come from aliases, from 99 % to 10 %.
"""


@dataclass(slots=True, eq=False)
class Node:
    """
    A part of a document.

    `start` is the beginning of its properties (anchor, tag). `end` is the position after its last character. Spaces,
    comments and line breaks do not count. `size` is the number of nodes with all aliases expanded.
    """

    start: int
    end: int
    column: int
    value: Any
    anchor: str | None = None
    size: int = 1


@dataclass(slots=True, eq=False)
class Scalar(Node):
    """Text, a number, a boolean or null."""

    is_merge: bool = False


@dataclass(slots=True, eq=False)
class Mapping(Node):
    """
    A mapping of keys to values.

    `own` contains the entries that no later entry replaces, by key in JSON form. `merges` contains the values of merge
    keys. `entries` contains all entries.
    """

    is_flow: bool = False
    entries: list[tuple[Node, Node]] = field(default_factory=list)
    own: dict[str, tuple[Node, Node]] = field(default_factory=dict)
    merges: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Sequence(Node):
    """A list of nodes."""

    is_flow: bool = False
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Alias(Node):
    """A reference to an earlier node."""

    target: Node = field(kw_only=True)


@dataclass(slots=True, eq=False)
class _Open:
    """A collection whose end has not been read yet."""

    start: Any
    children: list[Node]


def read_documents(text: str) -> tuple[list[Node], UnreadableError | None]:
    """
    Return the root of each document before the first unreadable document, and the error in that document.

    Of a text without a `---` line, kubectl reads only the first document, so an error in a later document matters only
    to other readers.
    """
    roots: list[Node] = []
    try:
        for root in _Composer(text).roots():
            roots.append(root)  # noqa: PERF402  keeps the roots before an error
    except yaml.YAMLError as exc:
        return roots, UnreadableError(_problem(exc), _line(exc))
    except UnreadableError as error:
        return roots, error
    return roots, None


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all nodes inside it in the order of the text, without following aliases."""
    waiting: list[Iterator[Node]] = [iter((node,))]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            continue
        yield found
        if isinstance(found, Mapping):
            waiting.append(chain.from_iterable(found.entries))
        elif isinstance(found, Sequence):
            waiting.append(iter(found.items))


def _problem(exc: yaml.YAMLError) -> str:
    return str(getattr(exc, "problem", None) or getattr(exc, "reason", None) or type(exc).__name__)


def _line(exc: yaml.YAMLError) -> int:
    mark = getattr(exc, "problem_mark", None)
    return mark.line if mark else 0


class _Composer:
    """A builder that creates nodes from libyaml's events."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._anchors: dict[str, Node | _Open] = {}
        self._open: list[_Open] = []
        self._count = 0

    def roots(self) -> Iterator[Node]:
        """Yield the root of each document when the document's end is reached."""
        root: Node | None = None
        for event in yaml.parse(self._text, Loader=_LOADER):
            node = self._node(event)
            if node is not None and self._open:
                self._open[-1].children.append(node)
            elif node is not None:
                root = node
            elif root is not None and type(event) is yaml.DocumentEndEvent:
                self._check_aliases(root)
                yield root
                root, self._anchors, self._count = None, {}, 0

    def _node(self, event: Any) -> Node | None:
        """Return the node that this event completes, or None."""
        kind = type(event)
        try:
            if kind is yaml.ScalarEvent:
                return self._scalar(event)
            if kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
                self._begin(event)
                return None
            if kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
                return self._end(event)
            return self._alias(event) if kind is yaml.AliasEvent else None
        except UnreadableError as error:
            line = event.start_mark.line if error.at is None else self._text.count("\n", 0, error.at)
            raise type(error)(error.problem, line) from error

    def _begin(self, event: Any) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise TooDeepError(f"the document is nested more than {MAX_DEPTH} levels deep")
        opened = _Open(event, [])
        if event.anchor is not None:
            self._anchors[event.anchor] = opened
        self._open.append(opened)

    def _end(self, event: Any) -> Node:
        opened = self._open.pop()
        start, children = opened.start, opened.children
        end = children[-1].end if children and not start.flow_style else event.end_mark.index
        is_mapping = type(start) is yaml.MappingStartEvent
        make = _mapping if is_mapping else _sequence
        node = make(start, end, children)
        self._count += 1
        node.anchor = start.anchor
        if (
            node.anchor is not None and self._anchors[node.anchor] is opened
        ):  # the anchor may belong to a node inside instead
            self._anchors[node.anchor] = node
        return node

    def _scalar(self, event: Any) -> Node:
        start, end = event.start_mark, event.end_mark.index
        is_implicit = event.implicit[0]
        value = resolve_scalar(event.value, event.tag, is_implicit=is_implicit)
        node = Scalar(start.index, self._content_end(event, end), start.column, value)
        node.is_merge = is_merge_key(event.value, event.tag, is_implicit=is_implicit)
        self._count += 1
        node.anchor = event.anchor
        if node.anchor is not None:
            self._anchors[node.anchor] = node
        return node

    def _content_end(self, event: Any, end: int) -> int:
        """Return the end of a scalar. Blank lines after a block scalar are part of it only with the indicator `+`."""
        if event.style not in ("|", ">"):
            return int(end)
        found = self._text[event.start_mark.index : end]
        header = found.split("\n", 1)[0].partition("#")[0]
        return int(end) if "+" in header else event.start_mark.index + len(found.rstrip())

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            raise UnreadableError(f"unknown anchor {event.anchor!r} referenced")
        target = self._anchors[event.anchor]
        if isinstance(target, _Open):
            raise UnreadableError(f"anchor {event.anchor!r} contains itself")
        self._count += 1
        start = event.start_mark
        return Alias(start.index, event.end_mark.index, start.column, target.value, size=target.size + 1, target=target)

    def _check_aliases(self, root: Node) -> None:
        """Raise UnreadableError if aliases expand the document beyond go-yaml's limit."""
        expanded = root.size - self._count
        if expanded > _FEW_ALIASES and root.size > _FEW_NODES and expanded / root.size > _allowed_share(root.size):
            raise UnreadableError("document contains excessive aliasing")


def _allowed_share(size: int) -> float:
    progress = min(1.0, max(0.0, (size - _SMALL) / (_LARGE - _SMALL)))
    return 0.99 - 0.89 * progress


def _sequence(start: Any, end: int, children: list[Node]) -> Node:
    mark = start.start_mark
    node = Sequence(mark.index, end, mark.column, [each.value for each in children])
    node.is_flow, node.items = bool(start.flow_style), children
    node.size = 1 + sum(each.size for each in children)
    return node


def _mapping(start: Any, end: int, children: list[Node]) -> Node:
    mark = start.start_mark
    node = Mapping(mark.index, end, mark.column, {})
    node.is_flow, node.entries = bool(start.flow_style), list(zip(children[::2], children[1::2], strict=True))
    node.size = 1 + sum(each.size for each in children)
    for key, item in node.entries:
        try:
            _enter(node, key, item)
        except UnreadableError as error:
            raise UnreadableError(error.problem, at=key.start) from error
    return node


def _enter(node: Mapping, key: Node, item: Node) -> None:
    """Add an entry to the mapping's value. As in go-yaml, a later entry replaces an earlier or merged entry."""
    if isinstance(key, Scalar) and key.is_merge:
        node.merges.append(item)
        merged = merged_value(item, item.value)
        node.value.update(merged)
        for name in merged:
            node.own.pop(name, None)
        return
    target = key.target if isinstance(key, Alias) else key
    if not isinstance(target, Scalar):
        raise UnreadableError("a mapping key is itself a mapping or a list")
    name = key_text(key.value)
    node.value[name] = item.value
    node.own.pop(name, None)  # so that `own` has the order of the text
    node.own[name] = (key, item)


def merged_value(item: Node, value: Any) -> dict[str, Any]:
    """
    Return the entries that a merge key with this value adds.

    Raises UnreadableError for another value.
    """
    is_list = isinstance(item, Sequence)
    values = value if is_list else [value]
    if not all(isinstance(each, dict) for each in values):
        raise UnreadableError("map merge requires map or sequence of maps as the value")
    merged: dict[str, Any] = {}
    for each in reversed(values):  # earlier mappings have priority
        merged.update(each)
    return merged
