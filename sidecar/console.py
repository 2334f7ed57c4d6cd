"""
Write the messages of all commands to stderr.

Rule: text from outside is escaped, and passwords in URLs are hidden.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress

from sidecar.printable import printable, printable_lines
from sidecar.redaction import without_secrets

MAX_LENGTH = 8_000
"""Longest message, in characters. Without a limit, a Pod, a file or a server could cause a message of any length."""


def remark(text: str) -> None:
    """Write `irsa-sidecar: ` and the text to stderr. Lines after the first are indented."""
    with suppress(OSError):  # for example, the reader has exited or the disk is full
        if sys.stderr is not None:  # None if it was closed before the start
            sys.stderr.write(f"irsa-sidecar: {printable_lines(without_secrets(text), max_length=MAX_LENGTH)}\n")


def warn(text: str) -> None:
    """Write a warning about something that a person should change, or should know before continuing."""
    remark(f"warning: {text}")


def complain(text: str) -> None:
    """Write the error that ends the command."""
    remark(f"error: {text}")


def show_log(lines: Iterable[str]) -> None:
    """Write lines of the log of another process."""
    with suppress(OSError):
        if sys.stderr is not None:
            sys.stderr.write("".join(f"{printable(without_secrets(line), max_length=MAX_LENGTH)}\n" for line in lines))


def is_on_terminal() -> bool:
    """Return whether stderr is a terminal that can erase a line."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def show_progress(text: str) -> None:
    """Replace the line of progress on the terminal of stderr. An empty text clears the line."""
    if is_on_terminal():
        sys.stderr.write(f"\r\033[K{f'irsa-sidecar: {printable(without_secrets(text))}' if text else ''}")
        sys.stderr.flush()
