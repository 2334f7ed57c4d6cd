"""Fake volumes whose operations block until a test releases them, as with a dead NFS server or FUSE driver."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sidecar.file_thread import Operation


class HangingVolume:
    """
    A volume whose operations block until `release` is called.

    `reads` counts the operations, and the first operation sets `has_read`.
    """

    def __init__(self) -> None:
        self._released = threading.Event()
        self.has_read = threading.Event()
        self.reads = 0

    def read(self) -> str:
        self.reads += 1
        self.has_read.set()
        self._released.wait()
        return "read at last"

    def release(self) -> None:
        self._released.set()


@contextmanager
def hanging_volume() -> Iterator[HangingVolume]:
    volume = HangingVolume()
    try:
        yield volume
    finally:
        volume.release()


class HangingDirectories:
    """
    Directories in which operations block during `hang`. Operations in other directories take no time.

    This class replaces the thread of file_thread. An operation that does not hang runs without a thread, because the
    test's clock may jump while a thread works.
    """

    def __init__(self) -> None:
        self._hung: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []
        self.blocked = 0
        """The number of operations that started in a directory that hangs."""

    def start_thread(self, operation: Operation) -> None:
        released = self._hung.get(operation.directory)
        if released is None:
            operation.run()
            return
        self.blocked += 1

        def block() -> None:
            released.wait()
            operation.run()

        self._threads.append(threading.Thread(target=block, daemon=True))
        self._threads[-1].start()

    @contextmanager
    def hang(self, path: str) -> Iterator[None]:
        """Block operations in the directory of the file at `path`."""
        directory = os.path.dirname(path)
        self._hung[directory] = threading.Event()
        try:
            yield
        finally:
            self._hung.pop(directory).set()
            for thread in self._threads:
                thread.join()


_MNT_DETACH = 2


@contextmanager
def unresponsive_mount(directory: Path) -> Iterator[None]:
    """
    Mount a FUSE file system without a driver over the directory, so that the kernel blocks every access.

    Skips the test if the mount is not possible. At the end, blocked accesses fail with ENOTCONN.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        driver = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        pytest.skip("this system has no FUSE")
    options = f"fd={driver},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
    try:
        if libc.mount(b"hung", os.fsencode(directory), b"fuse", 0, options.encode()) != 0:
            pytest.skip(f"mounting needs root and CAP_SYS_ADMIN ({os.strerror(ctypes.get_errno())})")
        try:
            yield
        finally:
            libc.umount2(os.fsencode(directory), _MNT_DETACH)
    finally:
        os.close(driver)
