"""
Find out which file system a path is on, from the kernel's table of mounts (proc(5), /proc/PID/mountinfo).

Rule: a read of the table never waits for a volume. `stat` of a path may wait, so callers run it in file_thread.py.
"""

import os

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
"""Types of file systems in memory. They cannot hang, and their content is never on a disk."""

MOUNTINFO = "/proc/self/mountinfo"
"""The table of mounts of this process."""


def filesystem_type(mountinfo: str, device: int) -> str | None:
    """Return the type of the file system with this device number, or None if the table does not contain it."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split(" ")
        if separator and len(fields) > 2 and fields[2] == wanted:
            return source.partition(" ")[0]
    return None


def is_in_memory(path: str) -> bool:
    """Return whether the file or directory at `path` is in memory; False if that is unknown."""
    try:
        device = os.stat(path).st_dev
        with open(MOUNTINFO, encoding="utf-8", errors="replace") as file:
            return filesystem_type(file.read(), device) in IN_MEMORY
    except OSError:
        return False
