"""
A signal to stop that comes before a daemon listens for it, or after it has ceased to: nothing is in flight then.

Rule: it ends the process there, and raises nothing. An exception inside trio while it starts or ends is an internal
error to it. Process 1 of a container has no default to rely on either: the kernel passes over a SIGTERM that nothing
was set up for (pid_namespaces(7)), and the Pod would take its whole grace period to end.
"""

import os
import signal


def end_as_any_process_would() -> None:
    """Status 143 on SIGTERM, as process 1 too, which every command of an image is."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


def end_at_once_on_signals() -> None:
    """Status 0 on SIGTERM and SIGINT, until somebody listens for them."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)


def _end(*_: object) -> None:
    os._exit(0)
