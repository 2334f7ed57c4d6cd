"""
Which file system a path is on, by the kernel's table of mounts (proc(5), /proc/PID/mountinfo).

Rule: reading the table never waits for a volume. Looking at a path may, so it is done where files are read.
"""

import os

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
"""File systems without a device or a server behind them: they cannot hang, and nothing of them reaches a disk."""

MOUNTINFO = "/proc/self/mountinfo"


def filesystem_type(mountinfo: str, device: int) -> str | None:
    """Return the type of the file system with this device number."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split(" ")
        if separator and len(fields) > 2 and fields[2] == wanted:
            return source.partition(" ")[0]
    return None


def is_in_memory(path: str) -> bool:
    """Return whether the file or directory that `path` leads to is in memory. False where that cannot be known."""
    try:
        device = os.stat(path).st_dev
        with open(MOUNTINFO, encoding="utf-8", errors="replace") as file:
            return filesystem_type(file.read(), device) in IN_MEMORY
    except OSError:
        return False
