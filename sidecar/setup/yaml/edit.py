"""
Change values in a YAML or JSON text and leave all other characters unchanged.

Each difference between a node's value and the wanted value becomes an edit at the node's position. New lines have the
indentation of the adjacent lines, and scalars are replaced. An alias or merge key is kept while it still has the wanted
value. A node in `rewritten` is replaced as a whole.

Rule: the caller reads the result again and checks its value, because an edit to a rare form of YAML may be wrong. Pure.
"""

import json
import re
from collections.abc import Collection
from typing import Any, NamedTuple

from sidecar.injection.json_patch import matched_items
from sidecar.setup.text_edits import Edit
from sidecar.setup.yaml.emit import (
    Layout,
    block_lines,
    entry_lines,
    flow,
    flow_entry,
    inline,
    is_collection,
    item_lines,
    quoted,
)
from sidecar.setup.yaml.layout import Lines, column_of, dash_of, layout_of
from sidecar.setup.yaml.reader import Alias, Mapping, Node, Sequence, merged_value, walk


class Place(NamedTuple):
    """
    The place of a node in the collection that contains it.

    `indent` is the column of that collection's entries. `is_flow` is true inside braces or brackets. `is_item` is true
    for an item of a list, and false for the value of a key.
    """

    indent: int = 0
    is_flow: bool = False
    is_item: bool = False
    is_root: bool = False


def edits_for(text: str, changes: list[tuple[Node, Any]], rewritten: Collection[Node] = ()) -> list[Edit]:
    """Return the edits that give each root of the text its wanted value."""
    edits: list[Edit] = []
    lines = Lines(text)
    for root, wanted in changes:
        editor = _Editor(lines, root, rewritten)
        editor.visit(root, wanted, Place(is_root=True))
        edits += editor.edits
    return edits


def equal(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal. Unlike in Python, true does not equal 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))  # noqa: PLR0124  NaN


class _Editor:
    """The edits to one document, collected node by node."""

    def __init__(self, lines: Lines, root: Node, rewritten: Collection[Node]) -> None:
        self.edits: list[Edit] = []
        self._text = lines.text
        self._root = root
        self._lines = lines
        self._rewritten = rewritten
        self._json = _json_style(lines.text, root)
        self._has_aliases = any(isinstance(each, Alias) for each in walk(root))
        self._anchored: dict[int, Any] = {}
        """The new values of nodes with an anchor, by the node's id."""
        self._removed_anchors: set[int] = set()
        """The ids of nodes with an anchor that the edits remove from the text."""

    def visit(self, node: Node, wanted: Any, place: Place) -> None:
        """Edit the node so that it has the wanted value."""
        if isinstance(node, Alias):
            if id(node.target) in self._removed_anchors or not equal(self._new_value(node), wanted):
                self._replace(node, wanted, place)
            return
        if node.anchor is not None:
            self._anchored[id(node)] = wanted
        if node in self._rewritten:
            self._replace(node, wanted, place)
        elif self._has_aliases or not (node.value is wanted or equal(node.value, wanted)):
            self._change(node, wanted, place)

    def _change(self, node: Node, wanted: Any, place: Place) -> None:
        if isinstance(node, Mapping) and isinstance(wanted, dict) and node.entries and wanted:
            self._change_mapping(node, wanted, place)
        elif isinstance(node, Sequence) and isinstance(wanted, list) and node.items and wanted:
            self._change_sequence(node, wanted, place)
        elif not equal(node.value, wanted):
            self._replace(node, wanted, place)

    def _new_value(self, node: Node) -> Any:
        """Return the node's value after the edits that are collected so far."""
        if isinstance(node, Alias):
            return self._anchored.get(id(node.target), node.value)
        return [self._new_value(each) for each in node.items] if isinstance(node, Sequence) else node.value

    # Mappings

    def _change_mapping(self, node: Mapping, wanted: dict[str, Any], place: Place) -> None:
        inherited = self._inherited(node)
        removed = [name for name in node.own if name not in wanted]
        is_kept = inherited is not None and all(name in wanted or name in node.own for name in inherited)
        is_pair_in_list = node.is_flow and self._text[node.end - 1] != "}"
        if inherited is None or not is_kept or is_pair_in_list or (removed and not self._can_remove(node, removed)):
            self._replace(node, wanted, place)
            return
        inner = Place(column_of(self._lines, node), node.is_flow or place.is_flow)
        for name, (key, item) in node.own.items():
            if name in wanted:
                self.visit(item, wanted[name], inner)
            else:
                self._remove_lines(key.start, item)
        added = {
            name: value
            for name, value in wanted.items()
            if name not in node.own and not (name in inherited and equal(inherited[name], value))
        }
        if added:
            self._add_entries(node, added)

    def _inherited(self, node: Mapping) -> dict[str, Any] | None:
        """Return the entries of the merge keys after the edits, or None if a merge key refers to a removed anchor."""
        found: dict[str, Any] = {}
        for merge in node.merges:
            parts = merge.items if isinstance(merge, Sequence) else [merge]
            if any(isinstance(part, Alias) and id(part.target) in self._removed_anchors for part in parts):
                return None
            found |= merged_value(merge, self._new_value(merge))
        return found

    def _can_remove(self, node: Mapping, removed: list[str]) -> bool:
        """Return whether these entries can be removed as whole lines, and at least one other entry remains."""
        names = [name for name, (key, _) in node.own.items() if not self._lines.is_first(key.start)]
        has_duplicates = len(node.entries) != len(node.own)
        return (
            not node.is_flow and not has_duplicates and not set(names) & set(removed) and len(removed) < len(node.own)
        )

    def _add_entries(self, node: Mapping, added: dict[str, Any]) -> None:
        if node.is_flow:
            key, item = node.entries[-1]
            pieces = [self._flow_entry(name, each, key.start) for name, each in added.items()]
            self._add_to_flow(key.start, item.end, pieces)
            return
        column, layout = column_of(self._lines, node), self._layout(node)
        lines = [line for name, each in added.items() for line in entry_lines(name, each, column, layout)]
        self._insert_lines(self._lines.after(node.end), lines)

    # Lists

    def _change_sequence(self, node: Sequence, wanted: list[Any], place: Place) -> None:
        pairs = _pairs(node.value, wanted)
        removed = set(range(len(node.items))) - {old for old, _ in pairs}
        dashes = [] if node.is_flow else [dash_of(self._text, node, index) for index in range(len(node.items))]
        needs_rewrite = removed if node.is_flow else not (dashes and self._lines.is_first(dashes[0]))
        if needs_rewrite and (len(pairs) < len(wanted) or removed):
            self._replace(node, wanted, place)
            return
        column = self._lines.column(dashes[0]) if dashes else 0
        inner = Place(column, node.is_flow or place.is_flow, is_item=True)
        next_old = next_new = 0
        for old, new in [*pairs, (len(node.items), len(wanted))]:
            for index in range(next_old, old):
                self._remove_lines(dashes[index], node.items[index])
            if next_new < new:
                self._insert_items(node, old, wanted[next_new:new], dashes)
            if old < len(node.items):
                self.visit(node.items[old], wanted[new], inner)
            next_old, next_new = old + 1, new + 1

    def _insert_items(self, node: Sequence, index: int, values: list[Any], dashes: list[int]) -> None:
        """Insert items before the item at the index, or after the last item."""
        is_last = index == len(node.items)
        if node.is_flow:
            pieces = [self._flow(value, node.items[0].start) for value in values]
            if is_last:
                self._add_to_flow(node.items[-1].start, node.items[-1].end, pieces)
            else:
                start = node.items[index].start
                self.edits.append(Edit(start, start, "".join(piece + self._comma(start) for piece in pieces)))
            return
        column, layout = self._lines.column(dashes[0]), self._layout(node)
        lines = [line for value in values for line in item_lines(value, column, layout)]
        at = self._lines.after(node.items[-1].end) if is_last else self._lines.above_comments(dashes[index], index == 0)
        self._insert_lines(at, lines)

    # Braces and brackets

    def _add_to_flow(self, start: int, end: int, pieces: list[str]) -> None:
        """Add entries after the last entry, which is at these positions."""
        comma = self._comma(start)
        self.edits.append(Edit(end, end, "".join(comma + piece for piece in pieces)))

    def _comma(self, start: int) -> str:
        """Return the separator between two entries, with a line break if entries begin on their own lines."""
        if self._lines.is_first(start):
            return "," + self._lines.newline + self._lines.margin(start)
        return self._json.comma if self._json else ", "

    def _flow_entry(self, name: str, value: Any, near: int) -> str:
        if self._json is None:
            return flow_entry(name, value)
        return f"{json.dumps(name, ensure_ascii=False)}{self._json.colon}{self._flow(value, near)}"

    def _flow(self, value: Any, near: int) -> str:
        """Return the value in braces, or as JSON with the indentation of the line at `near`."""
        if self._json is None:
            return flow(value)
        lines = self._json.text(value).split("\n")
        return (self._lines.newline + self._lines.margin(near)).join(lines)

    # Edits

    def _replace(self, node: Node, wanted: Any, place: Place) -> None:
        """Replace the node's text with the value."""
        self._remove_anchors(node)
        if place.is_root:
            self._replace_root(node, wanted)
        elif self._json:
            self._replace_inline(node, self._flow(wanted, node.start))
        elif place.is_flow or not is_collection(wanted):
            self._replace_inline(node, self._inline(node, wanted, place))
        elif place.is_item:
            self._replace_item(node, wanted)
        else:
            self._replace_block(node, wanted, place)

    def _inline(self, node: Node, wanted: Any, place: Place) -> str:
        if isinstance(wanted, str) and self._text[node.start : node.start + 1] in ("'", '"'):
            return quoted(wanted)
        return flow(wanted) if place.is_flow else inline(wanted)

    def _replace_root(self, node: Node, wanted: Any) -> None:
        if self._json or not is_collection(wanted):
            text = self._json.text(wanted) if self._json else inline(wanted)
        else:
            lines = block_lines(wanted, 0, self._layout(self._root))
            text = "\n".join(lines if self._lines.is_first(node.start) else ["", *lines])
        start = self._lines.start(node.start) if self._lines.is_first(node.start) else node.start
        self.edits.append(Edit(start, node.end, text.replace("\n", self._lines.newline)))

    def _replace_inline(self, node: Node, text: str) -> None:
        start = node.start
        if isinstance(node, Mapping | Sequence) and not node.is_flow:  # a block, which usually begins on its own line
            while self._text[start - 1].isspace():
                start -= 1
        is_apart = start == node.start < node.end
        self.edits.append(Edit(start, node.end, text if is_apart else f" {text}"))

    def _replace_item(self, node: Node, wanted: Any) -> None:
        is_empty = node.start == node.end
        column = self._lines.column(node.start) + is_empty
        first, *others = block_lines(wanted, column, self._layout(self._root))
        text = self._lines.newline.join([" " * is_empty + first.lstrip(" "), *others])
        self.edits.append(Edit(node.start, node.end, text))

    def _replace_block(self, node: Node, wanted: Any, place: Place) -> None:
        """Write a mapping or list on the lines below its key. A comment after the key is kept."""
        layout = self._layout(node)
        inner = place.indent + (layout.step if isinstance(wanted, dict) else layout.list_offset)
        lines = block_lines(wanted, inner, layout)
        if self._lines.is_first(node.start):
            start, after = self._lines.start(node.start), self._lines.after(node.end)
            is_whole = after > node.end
            text = self._lines.newline.join(lines) + (self._lines.newline if is_whole else "")
            self.edits.append(Edit(start, after, text))
            return
        start = node.start
        while start and self._text[start - 1] == " ":
            start -= 1
        self.edits.append(Edit(start, node.end, ""))
        self._insert_lines(self._lines.after(node.end), lines)

    def _remove_lines(self, start: int, node: Node) -> None:
        self._remove_anchors(node)
        self.edits.append(Edit(self._lines.start(start), self._lines.after(node.end), ""))

    def _remove_anchors(self, node: Node) -> None:
        self._removed_anchors |= {id(each) for each in walk(node) if each.anchor is not None}

    def _insert_lines(self, at: int, lines: list[str]) -> None:
        newline = self._lines.newline
        text = newline.join(lines)
        is_after_unfinished_line = at and at == len(self._text) and not self._lines.is_start(at)
        self.edits.append(Edit(at, at, newline + text if is_after_unfinished_line else text + newline))

    def _layout(self, node: Node) -> Layout:
        return layout_of(self._lines, node, self._root)


class _JsonStyle(NamedTuple):
    """The layout of a JSON text."""

    indent: str | None
    colon: str
    comma: str

    def text(self, value: Any) -> str:
        """Return the value as JSON, on several lines if the document has several."""
        separators = (self.comma if self.indent is None else ",", self.colon)
        return json.dumps(value, indent=self.indent, separators=separators, ensure_ascii=False)


def _json_style(text: str, root: Node) -> _JsonStyle | None:
    """Return the layout of a JSON document, or None for other YAML."""
    if not (isinstance(root, Mapping) and root.is_flow and root.entries):
        return None
    (key, item), start = root.entries[0], root.start
    if not all(text[each.start] == '"' for each, _ in root.entries):
        return None
    gap = re.match(r"\{\s*?[\r\n]+([ \t]*)", text[start : key.start + 1])
    colon = ": " if text[key.end : item.start].endswith(" ") else ":"
    return _JsonStyle(gap[1] if gap else None, colon, ", " if colon == ": " else ",")


def _pairs(before: list[Any], after: list[Any]) -> list[tuple[int, int]]:
    """
    Return the index pairs of matching items.

    Items match by name. If no item has a name, items match by position in lists of equal length, and otherwise if they
    are equal.
    """
    names = [each for each in (*before, *after) if isinstance(each, dict) and ("name" in each or "mountPath" in each)]
    if not names and len(before) == len(after):
        return [(index, index) for index in range(len(before))]
    return list(matched_items(before, after))


def json_text(text: str, value: Any) -> str:
    """Return a JSON value in the layout of the text, on one line or on several with the same indentation."""
    found = re.match(r"\s*\{\s*?[\r\n]+([ \t]*)", text)
    indent = found[1] if found else None
    end = text[len(text.rstrip()) :]
    return json.dumps(value, indent=indent, ensure_ascii=False) + end
