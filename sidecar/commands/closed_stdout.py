"""A stdout that was closed before the process started, as by `>&-` in a shell."""

import errno
import io
import os


class ClosedStdout(io.TextIOBase):
    """Fails like any stdout that cannot be written, where Python would print nothing and go on."""

    def write(self, _text: str) -> int:
        """Raises OSError."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
