"""
Handle stop signals before the daemon listens for them, and after it has stopped listening.

Rule: such a signal ends the process at once and raises nothing. No request is in progress then. An exception while trio
starts or stops would be an internal error for trio. A default action is not enough for process 1 of a container: the
kernel ignores a SIGTERM without a handler (pid_namespaces(7)), and the Pod would need its whole grace period to stop.
"""

import os
import signal


def end_as_any_process_would() -> None:
    """Let SIGTERM end process 1 with status 143, as it ends other processes. The command of an image is process 1."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


def end_at_once_on_signals() -> None:
    """End with status 0 on SIGTERM and SIGINT, until other handlers replace these."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)


def _end(*_: object) -> None:
    os._exit(0)
