"""Replace a stdout that was closed before the process started, for example by `>&-` in a shell."""

import errno
import io
import os


class ClosedStdout(io.TextIOBase):
    """A stdout that fails on each write. Python itself would silently discard the output."""

    def write(self, _text: str) -> int:
        """Raise OSError for any text."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
