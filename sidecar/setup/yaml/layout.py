"""Find lines, columns and the indentation style in a YAML text. Pure."""

import re
from bisect import bisect_right

from sidecar.setup.yaml.emit import Layout
from sidecar.setup.yaml.reader import Mapping, Node, Sequence, walk

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_GAP = re.compile(r"(?:\s|(?:(?<=\s)|^)#[^\r\n]*|[&!]\S*(?=\s))*")
"""Pattern for text that may precede the dash of an item: spaces, comments, anchors and tags."""


class Lines:
    """The lines of a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        breaks = list(_BREAK.finditer(text))
        self._starts = [0, *(found.end() for found in breaks)]
        self.newline = _newline(breaks[0][0] if breaks else "", text)

    def start(self, at: int) -> int:
        """Return the beginning of the line that contains this position."""
        return self._starts[bisect_right(self._starts, at) - 1]

    def is_start(self, at: int) -> bool:
        """Return whether this position is the beginning of a line."""
        return self.start(at) == at

    def after(self, at: int) -> int:
        """
        Return the position itself if a line other than the first begins there, or else the beginning of the next line.

        Return the end of the text if there is no next line.
        """
        if at and self.is_start(at):
            return at
        index = bisect_right(self._starts, at)
        return self._starts[index] if index < len(self._starts) else len(self.text)

    def column(self, at: int) -> int:
        """Return the number of characters before this position in its line."""
        return at - self.start(at)

    def margin(self, at: int) -> str:
        """Return the spaces and tabs at the beginning of the line, up to this position."""
        start = self.start(at)
        end = start
        while end < at and self.text[end] in " \t":
            end += 1
        return self.text[start:end]

    def is_first(self, at: int) -> bool:
        """Return whether only spaces and tabs precede this position in its line."""
        return len(self.margin(at)) == self.column(at)

    def above_comments(self, at: int, any_column: bool) -> int:  # noqa: FBT001
        """
        Return the beginning of the line at this position, or of the comments directly above the line.

        Only comments that begin in the same column count, unless `any_column` is true.
        """
        column, start = self.column(at), self.start(at)
        while start:
            above = self.start(start - 1)
            line = self.text[above:start]
            content = line.lstrip(" ")
            if not content.startswith("#") or not (any_column or len(line) - len(content) == column):
                break
            start = above
        return start


def _newline(first: str, text: str) -> str:
    """Return the line break for new lines. A lone CR is used only without LF, because Go needs LF before a `---`."""
    if first == "\r" and "\n" in text:
        return "\n"
    return first if first in ("\r\n", "\r") else "\n"


def column_of(lines: Lines, node: Mapping) -> int:
    """Return the column of a mapping's keys."""
    start = node.entries[0][0].start
    before = lines.text[lines.start(start) : start].rstrip()
    return len(before) - 1 if before.endswith("?") else lines.column(start)


def dash_of(text: str, node: Sequence, index: int) -> int:
    """Return the position of an item's dash in a list without brackets."""
    start = node.items[index - 1].end if index else node.start
    found = _GAP.match(text, start)
    return found.end() if found else start


def layout_of(lines: Lines, node: Node, root: Node) -> Layout:
    """Return the indentation inside the node, or else of the whole document."""
    step = offset = None
    for area in (node, root):
        for each in walk(area):
            if isinstance(each, Mapping) and not each.is_flow and each.entries:
                step = _step(lines, each) if step is None else step
                offset = _offset(lines, each) if offset is None else offset
            if step is not None and offset is not None:
                return Layout(step, offset)
    return Layout(2 if step is None else step, 0 if offset is None else offset)


def _step(lines: Lines, node: Mapping) -> int | None:
    column = column_of(lines, node)
    for _, item in node.entries:
        if isinstance(item, Mapping) and not item.is_flow and item.entries:
            return column_of(lines, item) - column
    return None


def _offset(lines: Lines, node: Mapping) -> int | None:
    column = column_of(lines, node)
    for _, item in node.entries:
        if isinstance(item, Sequence) and not item.is_flow and item.items:
            return lines.column(dash_of(lines.text, item, 0)) - column
    return None
