"""Write our own messages to a person on stderr, one place for all commands. Text from outside is made printable."""

import os
import sys
from contextlib import suppress

from sidecar.printable import printable, printable_lines
from sidecar.redaction import without_user_info

MAX_LENGTH = 8_000
"""Characters of one message. A Pod, a file or a server can make a message as long as it likes."""


def remark(text: str) -> None:
    """Write `irsa-sidecar: ` and the text to stderr. Lines after the first are indented."""
    with suppress(OSError):  # such as of a reader that left, or of a full disk
        if sys.stderr is not None:  # None where it was closed before the start
            sys.stderr.write(f"irsa-sidecar: {printable_lines(without_user_info(text), max_length=MAX_LENGTH)}\n")


def warn(text: str) -> None:
    """Write a remark about something that a person should change, or know before going on."""
    remark(f"warning: {text}")


def complain(text: str) -> None:
    """Write a remark about why the command ends without success."""
    remark(f"error: {text}")


def is_on_terminal() -> bool:
    """Return whether a person sees stderr on a terminal that can erase a line."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def show_progress(text: str) -> None:
    """Write a line of progress over the last one on the terminal of stderr. An empty text clears it."""
    if is_on_terminal():
        sys.stderr.write(f"\r\033[K{f'irsa-sidecar: {printable(without_user_info(text))}' if text else ''}")
        sys.stderr.flush()
