"""Write our own messages to a person on stderr, one place for all commands. Text from outside is made printable."""

import sys

from sidecar.printable import printable_lines

MAX_LENGTH = 8_000
"""Characters of one message. A Pod, a file or a server can make a message as long as it likes."""


def remark(text: str) -> None:
    """Write `irsa-sidecar: ` and the text to stderr. Lines after the first are indented."""
    if sys.stderr is not None:  # None where it was closed before the start
        sys.stderr.write(f"irsa-sidecar: {printable_lines(text, max_length=MAX_LENGTH)}\n")
