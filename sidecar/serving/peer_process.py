"""
Find the process that has a socket open, for the `pid` field of the audit log.

Pods with a shared process namespace need this module if several containers run as the same user. The user alone then
does not show which container received credentials (docs/roles.md).

Rule: each second has a budget of checks, which limits the processor time for any number of clients. Denied requests
have a budget of their own, so that denied clients cannot use up the budget of the others. The search finds only
processes in our process namespace that we may trace.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from sidecar.serving.sock_diag import Owner

MAX_LISTED = 1024
"""Maximum number of entries of /proc that are read. The newest of these processes are checked first."""

CHECKS_A_SECOND, DENIAL_CHECKS_A_SECOND = 512, 128
"""
Maximum number of processes and open files that are checked per second, for served and for denied requests.

All checks together take 2.5 ms a second.
"""


class ProcessLookup:
    """A search with a budget of checks per second."""

    def __init__(self) -> None:
        self._second, self._left = -1, dict.fromkeys((False, True), 0)
        self._last_found: int | None = None

    def find(self, owner: Owner, second: int, *, is_denial: bool) -> int | None:
        """Return the id of a process that has the owner's socket open, or None if none is found within the budget."""
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
    Yield the links of the open files of this user's processes, each with its process.

    The first pair of each process, even of another user's, has an empty link and counts as a check. The process `first`
    comes before the others, because the last client is often also the next one. Then the newest processes follow,
    because clients start after their sidecar.
    """
    for pid in _processes(first):
        yield pid, ""
        with suppress(OSError):  # the process ended, or we may not trace it
            if os.stat(f"/proc/{pid}").st_uid == uid:
                with os.scandir(f"/proc/{pid}/fd") as descriptors:
                    for descriptor in descriptors:
                        yield pid, os.readlink(descriptor.path)


def _processes(first: int | None) -> Iterator[int]:
    """Yield `first` before the other processes are listed, because a listing takes longer than one check."""
    if first is not None:
        yield first
    yield from (pid for pid in _newest_processes() if pid != first)


def _newest_processes() -> list[int]:
    with suppress(OSError), os.scandir("/proc") as entries:
        return sorted((int(entry.name) for entry in islice(entries, MAX_LISTED) if entry.name.isdigit()), reverse=True)
    return []
