"""
Read files that others may replace at any time, and write files that hold secrets.

Rules. A file is read in one bounded step, and its version shows whether the file has changed since. A secret is written
whole or not at all, so a reader gets either the complete old file or the complete new file. The owner and, by default,
the Pod's group can read a secret. The file is not flushed to the disk (fsync), because a slow disk would delay the
process. After a power failure the process writes the file again when it starts.
"""

import errno
import os
import stat
from contextlib import suppress

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""Flags to open a file. With O_NONBLOCK, opening a FIFO at the path does not wait for a writer."""


SECRET_MODE = 0o640
"""Mode of a secret's file: the sidecar's user can write and the Pod's group (fsGroup) can read, whatever the umask."""


def read_regular_file(path: str, limit: int) -> bytes | None:
    """
    Return at most `limit` bytes of the file, or None if it is not a regular file. Never waits for a writer.

    Raises OSError if the file cannot be read, also if `path` is not a valid path.
    """
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except ValueError as exc:  # the path has a NUL, or a character that the file system's encoding lacks
        raise OSError(errno.EINVAL, "the path is not valid") from exc
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(fd)


FileVersion = tuple[int, int, int]
"""The type of a file's version: inode, modification time in nanoseconds, and size."""


def file_version(path: str) -> FileVersion | None:
    """Return a value that changes when the file at `path` is replaced or rewritten, or None if stat fails."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def replace_secret_file(path: str, text: str, mode: int = SECRET_MODE) -> None:
    """
    Replace the file or link at `path` by a file with this ASCII text. A device such as /dev/null is never replaced.

    If this raises OSError, nothing has changed.
    """
    with suppress(FileNotFoundError):
        mode_before = os.lstat(path).st_mode
        if stat.S_ISCHR(mode_before) or stat.S_ISBLK(mode_before):
            raise OSError(errno.EEXIST, "it is a device")
    # The name of the temporary file is always the same, so the file that a killed process left is replaced too.
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
