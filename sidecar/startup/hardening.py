"""
What a process with secrets in its memory asks of Linux, so that its neighbours cannot read them there.

Rule: hardening only takes away, and nothing depends on it. If a kernel or sandbox denies a step, the rest still
applies, and on other systems than Linux nothing happens. It comes before the process reads its first secret. `run`
takes all three steps. Other commands that run beside it only stop being dumpable, because the programs that some of
them start would inherit the other two.
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
"""Both from linux/prctl.h, the same on every architecture."""


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
    Be the first process that the kernel ends when the container's memory is short: the daemon beside it must stay.

    See proc(5), oom_score_adj. On other systems no memory is shared with the daemon.
    """
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def harden() -> list[str]:
    """
    Close what is open by default, as far as this system lets us; a sentence for each thing that it did not.

    Not dumpable (PR_SET_DUMPABLE(2const)): /proc/PID/mem, environ and fd become root's and ptrace needs
    CAP_SYS_PTRACE, which walls off a container of the same user in a shared process namespace. No core file, whatever
    the image or node says. No new privileges (PR_SET_NO_NEW_PRIVS(2const)), also where the Pod does not say so itself.
    """
    if not sys.platform.startswith("linux"):
        return []
    return [f"{name}: {reason}" for name, apply in GUARDS.items() if (reason := _refusal(apply)) is not None]


def _refusal(apply: Callable[[], None]) -> str | None:
    try:
        apply()
    except (OSError, ValueError) as exc:  # setrlimit raises ValueError for what it may not do
        return getattr(exc, "strerror", None) or str(exc)
    return None


def _refuse_core_files() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _set(option: int, value: int) -> None:
    """One prctl. Every argument is an unsigned long: the kernel wants unused ones to be zero in all their bits."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


GUARDS: Mapping[str, Callable[[], None]] = MappingProxyType(
    {
        "not dumpable": lambda: _set(_PR_SET_DUMPABLE, 0),
        "no core files": _refuse_core_files,
        "no new privileges": lambda: _set(_PR_SET_NO_NEW_PRIVS, 1),
    }
)
"""What is asked for, by the name that a warning gives it."""
