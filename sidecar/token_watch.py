"""
Tell at once when the token's directory changes, by inotify; say so when that cannot be had.

The watch is on the *directory*: the kubelet renames `..data` inside it, and no event ever names the token's own
path (kubernetes pkg/volume/util/atomic_writer.go). It only hurries: inotify is missing on macOS and unreliable on
some sandboxed runtimes, so the refresher looks at the file by itself too.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress

import trio

_IN_CLOSE_WRITE = 0x0008
_IN_MOVED_TO = 0x0080
_IN_CREATE = 0x0100
_IN_DELETE_SELF = 0x0400
_IN_MOVE_SELF = 0x0800
_IN_IGNORED = 0x8000
_CHANGES = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE_SELF | _IN_MOVE_SELF
_LOST = _IN_MOVE_SELF | _IN_IGNORED
"""The watch is on another path now, or the kernel ended it: the directory was deleted or unmounted."""

_READ_BYTES = 4096
"""Room for many events: one is 16 bytes and a name of at most 255 (inotify(7))."""

SETTLE_SECONDS = 0.05
"""One rotation is a handful of events; after the first the rest are let pass, to wake up once."""

REOPEN_SECONDS = 10.0
"""How soon a directory that is not there, or was replaced, is watched again."""


async def watch_directory(path: str, changed: Callable[[], None]) -> None:
    """
    Call `changed` after anything in the directory `path` changed, until cancelled.

    Returns at once where the system has no inotify. A directory that is missing or replaced is tried again, and
    each new watch calls `changed` once, as something may have happened before it.
    """
    if not sys.platform.startswith("linux"):
        return
    while True:
        fd = _open_watch(path)
        if fd is not None:
            try:
                changed()
                await _forward_events(fd, changed)
            finally:
                trio.lowlevel.notify_closing(fd)
                os.close(fd)
        await trio.sleep(REOPEN_SECONDS)


def _open_watch(path: str) -> int | None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        return None
    if libc.inotify_add_watch(fd, os.fsencode(path), _CHANGES) < 0:
        os.close(fd)
        return None
    return fd


async def _forward_events(fd: int, changed: Callable[[], None]) -> None:
    """Until the directory itself is deleted, moved or unmounted, which ends the watch."""
    while True:
        await trio.lowlevel.wait_readable(fd)
        await trio.sleep(SETTLE_SECONDS)
        lost = False
        with suppress(BlockingIOError):
            while True:
                lost |= _watch_is_lost(os.read(fd, _READ_BYTES))
        changed()
        if lost:
            return


def _watch_is_lost(events: bytes) -> bool:
    """Read struct inotify_event {int wd; uint32 mask, cookie, len; char name[len]}, one after the other."""
    offset, gone = 0, False
    while offset + 16 <= len(events):
        mask = int.from_bytes(events[offset + 4 : offset + 8], sys.byteorder)
        gone |= bool(mask & _LOST)
        offset += 16 + int.from_bytes(events[offset + 12 : offset + 16], sys.byteorder)
    return gone
