"""
Read a file that a person named on the command line, or stdin.

Rule: the memory is bounded, and every failure is a ConfigurationError that names the flag and the file. A pipe such as
bash's `<(…)` is read until its writer closes it. A device such as /dev/zero, which has no end, is rejected.
"""

import errno
import os
import stat
import sys

from sidecar.errors import ConfigurationError

STDIN = "-"
"""The path that stands for stdin."""


def read_named_file(setting: str, path: str, *, limit: int, fix: str) -> bytes:
    """
    Return the content of the file, or of stdin if the path is `-`.

    Raises ConfigurationError with this `fix` if the content cannot be read or has more than `limit` bytes.
    """
    try:
        content = _read(path, limit + 1)
    except (OSError, ValueError) as exc:  # a NUL in the path causes a ValueError
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigurationError(
            f"{setting} is {path}, which cannot be read ({reason})", fix=fix, setting=setting
        ) from exc
    check_size(setting, path, content, limit=limit, fix=fix)
    return content


def check_size(setting: str, path: str, content: bytes, *, limit: int, fix: str) -> None:
    """Raise ConfigurationError if the content has more than `limit` bytes."""
    if len(content) > limit:
        raise ConfigurationError(f"{setting} is {path}, which has more than {limit} bytes", fix=fix, setting=setting)


def _read(path: str, most: int) -> bytes:
    if path == STDIN:
        if sys.stdin is None:  # closed before the start
            raise OSError(errno.EBADF, "stdin is closed")
        return sys.stdin.buffer.read(most)
    with open(path, "rb") as file:
        if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a device")
        return file.read(most)
