"""
Report changes in directories at once, with one inotify instance for the whole daemon.

The watch is on a file's *directory*: the kubelet renames `..data` inside it, and no event ever names the file's own
path (kubernetes pkg/volume/util/atomic_writer.go). Rule: the watch only shortens a wait. inotify is missing on macOS,
unreliable on some sandboxed runtimes, and limited per user and node (fs.inotify.max_user_instances is 128). So callers
also check their file every CHECK_SECONDS (schedule.py).
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import trio

from sidecar.file_thread import in_thread

_IN_CLOSE_WRITE = 0x0008
_IN_MOVED_TO = 0x0080
_IN_CREATE = 0x0100
_IN_DELETE_SELF = 0x0400
_IN_MOVE_SELF = 0x0800
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_CHANGES = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE_SELF | _IN_MOVE_SELF
_LOST = _IN_MOVE_SELF | _IN_IGNORED
"""The events that end a watch: the directory was moved, deleted or unmounted."""

_READ_BYTES = 4096
"""Size of one read. An event has 16 bytes and a name of at most 255 bytes (inotify(7)), so a read can hold several."""

SETTLE_SECONDS = 0.05
"""Delay after the first event. One rotation causes several events, and the delay combines them into one call."""

REOPEN_SECONDS = 10.0
"""Delay before a missing or replaced directory is watched again, and before a lost instance is opened again."""


async def watch_directory(path: str, changed: Callable[[], None]) -> None:
    """
    Call `changed` after anything in the directory `path` changed, until cancelled.

    Returns at once on systems other than Linux. If inotify fails, or if the directory is missing or replaced, the watch
    is tried again. Each new watch calls `changed` once, because the directory may have changed before the watch began.
    """
    if not sys.platform.startswith("linux"):
        return
    while True:
        with suppress(Exception):  # for any error, the caller's own checks continue without the watch
            instance = _instance_of_this_run()
            watch = await in_thread(f"{path}/", instance.add, path)
            with instance.following(watch, changed) as lost:
                changed()
                await lost.wait()
        await trio.sleep(REOPEN_SECONDS)


class _Follower:
    __slots__ = ("changed", "lost")

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.lost = trio.Event()


class _Instance:
    """An inotify instance. `followers` holds the callers by watch descriptor. Paths of one directory share a watch."""

    __slots__ = ("fd", "followers", "is_closed", "libc")

    def __init__(self, fd: int, libc: ctypes.CDLL) -> None:
        self.fd = fd
        self.libc = libc
        self.followers: dict[int, list[_Follower]] = {}
        self.is_closed = False

    def add(self, path: str) -> int:
        """
        Return the watch descriptor of the directory. A volume that hangs blocks the call.

        Raises OSError if the kernel rejects the watch.
        """
        watch: int = self.libc.inotify_add_watch(self.fd, os.fsencode(path), _CHANGES)
        if watch < 0:
            raise OSError(ctypes.get_errno(), "the directory cannot be watched", path)
        return watch

    @contextmanager
    def following(self, watch: int, changed: Callable[[], None]) -> Iterator[trio.Event]:
        """Call `changed` after each event of the watch. Yields an event that is set when the watch is lost."""
        follower = _Follower(changed)
        self.followers.setdefault(watch, []).append(follower)
        if self.is_closed:
            follower.lost.set()
        try:
            yield follower.lost
        finally:
            self.followers[watch].remove(follower)
            if not self.followers[watch]:
                del self.followers[watch]
                self._remove(watch)

    def _remove(self, watch: int) -> None:
        if not self.is_closed:
            self.libc.inotify_rm_watch(self.fd, watch)  # a failure is harmless: the kernel has already ended the watch

    async def forward_events(self) -> None:
        """Call the followers until the instance cannot be read any more, or the trio run ends. Never raises."""
        try:
            with suppress(Exception):  # a system task that raises would end the run
                while True:
                    await trio.lowlevel.wait_readable(self.fd)
                    await trio.sleep(SETTLE_SECONDS)
                    self._forward(self._read())
        finally:
            self._close()

    def _read(self) -> bytes:
        events = b""
        with suppress(BlockingIOError):
            while True:
                events += os.read(self.fd, _READ_BYTES)
        return events

    def _forward(self, events: bytes) -> None:
        masks = masks_by_watch(events)
        has_lost_events = any(mask & _IN_Q_OVERFLOW for mask in masks.values())
        for watch, followers in list(self.followers.items()):
            mask = masks.get(watch, 0)
            for follower in list(followers):
                if mask or has_lost_events:
                    follower.changed()
                if mask & _LOST:
                    follower.lost.set()

    def _close(self) -> None:
        self.is_closed = True
        trio.lowlevel.notify_closing(self.fd)
        os.close(self.fd)
        for followers in self.followers.values():
            for follower in followers:
                follower.lost.set()


def masks_by_watch(events: bytes) -> dict[int, int]:
    """
    Return the combined mask of the events for each watch descriptor. An overflow of the queue has the descriptor -1.

    `events` is a sequence of struct inotify_event {int wd; uint32 mask, cookie, len; char name[len]}.
    """
    masks: dict[int, int] = {}
    offset = 0
    while offset + 16 <= len(events):
        watch = int.from_bytes(events[offset : offset + 4], sys.byteorder, signed=True)
        mask = int.from_bytes(events[offset + 4 : offset + 8], sys.byteorder)
        masks[watch] = masks.get(watch, 0) | mask
        offset += 16 + int.from_bytes(events[offset + 12 : offset + 16], sys.byteorder)
    return masks


_INSTANCE: trio.lowlevel.RunVar[_Instance | None] = trio.lowlevel.RunVar("inotify instance", None)


def _instance_of_this_run() -> _Instance:
    """
    Return the instance of this trio run, and open it if there is none.

    Raises OSError if the kernel has no free instance.
    """
    instance = _INSTANCE.get()
    if instance is None or instance.is_closed:
        instance = _open_instance()
        _INSTANCE.set(instance)
        trio.lowlevel.spawn_system_task(instance.forward_events, name="inotify")
    return instance


def _open_instance() -> _Instance:
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "no inotify instance is available")
    return _Instance(fd, libc)
