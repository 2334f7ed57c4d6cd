"""
Find the process that holds a socket, for the `pid` field of the audit log.

It exists for Pods with a shared process namespace, where several containers run as the same user. There the user alone
does not tell which container received credentials (docs/roles.md).

Rule: each second has a budget of checks, so that no number of clients makes this expensive. Denied requests have a
budget of their own, so that denied clients cannot use up the others'. Only processes that we may trace, in our process
namespace, can be found.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from sidecar.serving.sock_diag import Owner

MAX_LISTED = 1024
"""Most entries of /proc that are read. Of these, the newest processes are checked first."""

CHECKS_A_SECOND, DENIAL_CHECKS_A_SECOND = 512, 128
"""Budget of checks of processes and their open files: 2.5 ms a second in all, however many clients there are."""


class ProcessLookup:
    """A search with a budget of checks per second."""

    def __init__(self) -> None:
        self._second, self._left = -1, dict.fromkeys((False, True), 0)
        self._last_found: int | None = None

    def find(self, owner: Owner, second: int, *, is_denial: bool) -> int | None:
        """Return the id of a process that holds the owner's socket, or None if the budget does not suffice."""
        if second != self._second:
            self._second, self._left = second, {False: CHECKS_A_SECOND, True: DENIAL_CHECKS_A_SECOND}
        wanted = f"socket:[{owner.inode}]"
        for pid, link in islice(open_files(owner.uid, self._last_found), self._left[is_denial]):
            self._left[is_denial] -= 1
            if link == wanted:
                self._last_found = pid
                return pid
        return None


def open_files(uid: int, first: int | None = None) -> Iterator[tuple[int, str]]:
    """
    Yield the links of open files of this user's processes, each with its process.

    A process comes once with an empty link first. The process `first` comes before the others, because the last client
    is often the next one. The newest processes follow, because clients start after their sidecar.
    """
    for pid in _processes(first):
        yield pid, ""
        with suppress(OSError):  # it ended, or we may not trace it
            if os.stat(f"/proc/{pid}").st_uid == uid:
                with os.scandir(f"/proc/{pid}/fd") as descriptors:
                    for descriptor in descriptors:
                        yield pid, os.readlink(descriptor.path)


def _processes(first: int | None) -> Iterator[int]:
    """Yield `first` before the others are listed, because a list takes longer than a check of one process."""
    if first is not None:
        yield first
    yield from (pid for pid in _newest_processes() if pid != first)


def _newest_processes() -> list[int]:
    with suppress(OSError), os.scandir("/proc") as entries:
        return sorted((int(entry.name) for entry in islice(entries, MAX_LISTED) if entry.name.isdigit()), reverse=True)
    return []
