"""
Write reports to stdout: only the last report on a terminal, and one after the other on another stream.

Rule: a report is written as a whole, so that a person never sees the half of one.
"""

import os
import shutil
import sys
from typing import NamedTuple

from sidecar.clock import instant_text
from sidecar.console import remark
from sidecar.printable import ELLIPSIS, printable
from sidecar.status.watch import Shown
from sidecar.wrapping import wrapped

MIN_WIDTH, DEFAULT_WIDTH, MAX_WIDTH = 40, 120, 200
"""Limits and default of the line width, in characters. The default applies if stdout is not a terminal."""

DEFAULT_HEIGHT = 24

MAX_ERROR_LINES = 3
"""Maximum number of lines of an error above the last report."""

_HOME, _CLEAR_SCREEN, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"
"""Control sequences of terminals (ECMA-48: CUP, ED, EL)."""


class Output(NamedTuple):
    """The present form of stdout, in columns and lines."""

    is_terminal: bool
    width: int
    height: int


def output() -> Output:
    """Return the present form of stdout, which can change at any time. COLUMNS and LINES have priority."""
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    columns, lines = shutil.get_terminal_size((DEFAULT_WIDTH, DEFAULT_HEIGHT))
    return Output(is_terminal, min(max(columns, MIN_WIDTH), MAX_WIDTH), lines)


class Screen:
    """The place for repeated reports."""

    head_lines = 2
    """The number of lines of a terminal that are not for the report: the time, and the line of the cursor."""

    def __init__(self, *, is_json: bool) -> None:
        self.is_terminal = output().is_terminal and not is_json
        self._is_json = is_json
        self._is_cleared = False

    def show(self, shown: Shown) -> None:
        """Write the report."""
        if self._is_json:
            self._show_json(shown)
            return
        head = [instant_text(shown.made_at)]
        if shown.error is not None:
            head += wrapped(printable(f"This report is old: {shown.error}"), output().width)[:MAX_ERROR_LINES]
        if self.is_terminal:
            self._redraw(head, shown.render().split("\n"))
        else:
            write("".join(f"{line}\n" for line in [*head, shown.render(), ""]))

    def _show_json(self, shown: Shown) -> None:
        if shown.error is None:
            write(f"{shown.render()}\n")
        else:
            remark(str(shown.error))

    def _redraw(self, head: list[str], report: list[str]) -> None:
        """Write both parts. If they are too high, the beginning of the report is omitted, because its end says more."""
        start = _HOME if self._is_cleared else _HOME + _CLEAR_SCREEN
        self._is_cleared = True
        room = max(1, output().height - 1 - len(head))
        body = "".join(f"{line}{_CLEAR_LINE}\n" for line in [*head, *report[-room:]])
        write(f"{start}{body}{_CLEAR_REST}")


def write(text: str) -> None:
    """Write the text, with escapes or an ASCII character of the same width if the encoding of stdout needs them."""
    sys.stdout.write(encodable(text, sys.stdout.encoding or "utf-8"))
    sys.stdout.flush()


def encodable(text: str, encoding: str) -> str:
    """Return the text if this encoding can represent it, and otherwise the text with ASCII replacements."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.replace(ELLIPSIS, "~").encode(encoding, "backslashreplace").decode(encoding)
    return text
