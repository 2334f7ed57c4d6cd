"""Volumes whose operations block until a test ends them, as those of a dead NFS server or FUSE driver do."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.file_thread import Operation


class HangingVolume:
    """A volume whose operations block until `release` is called. `reads` counts them, `has_read` tells of the first."""

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
    Directories in which operations block while `hang` holds. Operations in other directories take no time.

    It replaces the thread of file_thread: an operation that does not hang runs directly, for clocks that jump.
    """

    def __init__(self) -> None:
        self._hung: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []
        self.blocked = 0
        """How many operations have started in a directory that hangs."""

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
        """Let operations beside the file at `path` block."""
        directory = os.path.dirname(path)
        self._hung[directory] = threading.Event()
        try:
            yield
        finally:
            self._hung.pop(directory).set()
            for thread in self._threads:
                thread.join()
