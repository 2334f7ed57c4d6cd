"""Files that somebody else may replace at any time: read in one bounded go, and known again by what changes then."""

import errno
import os
import stat

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK: opening a FIFO that somebody put at the path must not wait for a writer."""


def read_regular_file(path: str, limit: int) -> bytes | None:
    """
    Return at most `limit` bytes of the file; None if it is not a regular file. It never waits for a writer.

    Raises OSError, also for a path that cannot be one.
    """
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except ValueError as exc:  # a NUL, or what the file system's encoding has no bytes for
        raise OSError(errno.EINVAL, "the path is not one that a file can have") from exc
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(fd)


FileIdentity = tuple[int, int, int]


def file_identity(path: str) -> FileIdentity | None:
    """What changes whenever the file at `path` is replaced or rewritten; None while it is not there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
