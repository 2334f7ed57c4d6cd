"""
Write a report into a file.

Rule: an existing file in a writable directory is replaced as a whole. If a write fails, for example because the disk is
full, the earlier report stays, because it may be the only baseline.
"""

import errno
import os
import stat
from contextlib import suppress

_ONLY_IN_PLACE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY})
"""
Error numbers of a directory in which no file can be created or replaced.

The file itself may be writable, for example a file that is mounted into a container.
"""

NEW_FILE_MODE = 0o666
"""Mode of a new file, which the umask reduces, as for a redirection of the shell."""


def write_report(path: str, text: str) -> None:
    """
    Replace the file at `path` by this text. A device, a FIFO or the target of a link is kept and written to.

    If this raises OSError for a file in a writable directory, nothing has changed.
    """
    content = text.encode("utf-8", "backslashreplace")
    target = os.path.realpath(path)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        _write_in_place(path, content)
        return
    try:
        _replace(target, content, mode)
    except OSError as error:
        if mode is None or error.errno not in _ONLY_IN_PLACE:
            raise
        _write_in_place(path, content)


def _replace(target: str, content: bytes, mode: int | None) -> None:
    """Write a file beside the target, with the mode of the existing target, and rename it."""
    draft = f"{target}.draft"
    with suppress(FileNotFoundError):
        os.unlink(draft)  # left by a run that was killed
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, NEW_FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, stat.S_IMODE(mode))
            file.write(content)
        os.rename(draft, target)
    except BaseException:
        os.unlink(draft)
        raise


def _write_in_place(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
