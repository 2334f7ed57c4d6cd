"""
Harden the process on Linux, so that other processes cannot read the secrets in its memory.

Rule: hardening only removes rights, and nothing depends on it. If a kernel or sandbox denies a step, the other steps
still apply. On other systems nothing happens. Hardening comes before the process reads its first secret. `run` takes
all three steps. Other commands that run beside it only become not dumpable, because the programs that some of them
start would inherit the other two.
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
    Make this process not dumpable, so that a container of the same user cannot read files through its /proc/PID/root.

    The kernel makes it dumpable again when it executes another program (execve(2)), so children are not affected. For
    `doctor` this comes after a write to /proc/self, whose files belong to root from then on.
    """
    if sys.platform.startswith("linux"):
        with suppress(OSError):
            _set(_PR_SET_DUMPABLE, 0)


def give_way() -> None:
    """
    Let the kernel end this process first when the container's memory is short, because the daemon must stay.

    See proc(5), oom_score_adj. On other systems the process shares no memory limit with the daemon.
    """
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def harden() -> list[str]:
    """
    Take all steps of GUARDS. Return a sentence for each step that this system denied.

    Not dumpable (PR_SET_DUMPABLE(2const)): /proc/PID/mem, environ and fd then belong to root, and ptrace needs
    CAP_SYS_PTRACE. This isolates a container of the same user in a shared process namespace. No core files, with any
    setting of the image or node. No new privileges (PR_SET_NO_NEW_PRIVS(2const)), even if the Pod does not set it.
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
    """Call prctl. Every argument is an unsigned long, because the kernel requires all bits of unused ones to be 0."""
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
"""The steps, by their names in warnings."""
