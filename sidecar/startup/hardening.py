"""
Harden the process on Linux, so that other processes cannot read the secrets in its memory.

Rule: hardening only removes permissions, and nothing depends on it. If a kernel or sandbox denies a step, the other
steps still apply. On other systems nothing happens. `run` takes all three steps before it creates or reads a secret, so
also before it reads a token. Other commands in the same Pod only become not dumpable, because programs that they start
would inherit the other two steps.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
"""Options of prctl, from linux/prctl.h. They are the same on every architecture."""


def hide_process() -> None:
    """
    Make this process not dumpable, so that other containers of its user cannot read files in its /proc/PID/root.

    The kernel makes a process dumpable again when it executes another program (execve(2)), so children are not
    affected. `doctor` must write to /proc/self before this call, because the files in it belong to root afterwards.
    """
    if sys.platform.startswith("linux"):
        with suppress(OSError):
            _set(_PR_SET_DUMPABLE, 0)


def give_way() -> None:
    """
    Make the kernel kill this process before the daemon when the container's memory is exhausted.

    The setting is oom_score_adj, see proc(5). On other systems the process shares no memory limit with the daemon.
    """
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def harden() -> list[str]:
    """
    Take all steps of GUARDS. Return `NAME: REASON` for each step that this system denied.

    The process becomes not dumpable (PR_SET_DUMPABLE(2const)): /proc/PID/mem, environ and fd then belong to root, and
    ptrace needs CAP_SYS_PTRACE. This protects the process from a container of the same user in a shared process
    namespace. The process writes no core files, whatever the image or node sets. It cannot gain new privileges
    (PR_SET_NO_NEW_PRIVS(2const)), even if the Pod does not forbid them.
    """
    if not sys.platform.startswith("linux"):
        return []
    return [f"{name}: {reason}" for name, apply in GUARDS.items() if (reason := _denial(apply)) is not None]


def _denial(apply: Callable[[], None]) -> str | None:
    try:
        apply()
    except (OSError, ValueError) as exc:  # setrlimit raises ValueError if it is not permitted
        return getattr(exc, "strerror", None) or str(exc)
    return None


def _forbid_core_files() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _set(option: int, value: int) -> None:
    """Call prctl with unsigned longs, because the kernel requires that all bits of unused arguments are 0."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


GUARDS: Mapping[str, Callable[[], None]] = MappingProxyType(
    {
        "not dumpable": lambda: _set(_PR_SET_DUMPABLE, 0),
        "no core files": _forbid_core_files,
        "no new privileges": lambda: _set(_PR_SET_NO_NEW_PRIVS, 1),
    }
)
"""The steps of the hardening, by their names in warnings."""
