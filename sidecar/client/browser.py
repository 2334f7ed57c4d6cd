"""
Open a page in the browser of the user.

Rule: the browser inherits neither our standard streams nor our blocked signals, and does not delay us.
"""

import os
import sys
from collections.abc import Sequence

_ARGUMENTS = ("-m", "webbrowser")
"""Arguments of Python for a process that finds and starts the user's browser, with the standard library's module."""


def open_browser(url: str, signal_mask: Sequence[int]) -> int:
    """
    Start a process that opens `url` in the browser, and return the id of this process. `signal_mask` is its mask.

    Other users of the machine can see `url` in the list of processes.

    Raises OSError if no process can be started. A machine without a browser is not an error.
    """
    to_nowhere = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *_ARGUMENTS, url],
        os.environ,
        file_actions=to_nowhere,
        setpgroup=0,
        setsigmask=signal_mask,
    )
