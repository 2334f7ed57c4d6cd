"""
Write a file that holds a secret: whole or not at all, for the owner and, unless told otherwise, the Pod's group.

A reader sees the file before or the file after, never a part of either. It is not flushed to the disk (fsync): what
that would save from a power failure is made anew when the process starts, and a slow disk would take its time for it.
"""

import os
from contextlib import suppress

MODE = 0o640
"""The sidecar's user writes and the Pod's group (fsGroup) reads, whatever the umask."""


def replace_secret_file(path: str, text: str, mode: int = MODE) -> None:
    """Put this ASCII text in place of whatever file or link is at `path`. Raises OSError, with nothing changed."""
    # Always the same name: what a killed process left there is replaced and not added to.
    draft = f"{path}.draft"
    with suppress(FileNotFoundError):
        os.unlink(draft)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
        os.rename(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
