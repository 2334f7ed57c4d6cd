"""
Run blocking file operations in a thread, with a deadline, so that a volume that hangs never stops the event loop.

Rule: after start-up the daemon opens, reads, stats and writes files only through this module. A system call on a
volume that hangs (NFS, FUSE, CSI) does not return for minutes, and nothing can interrupt the call. Each operation has
its own daemon thread, so the process can exit while a thread hangs. Usually one thread runs at a time. After
TURN_SECONDS, an operation no longer delays operations in other directories. An operation that exceeds its deadline is
abandoned, and no other operation starts in that directory until the abandoned one returns.

Files in memory (tmpfs) cannot hang, so the frequent checks for changes of these files need no thread. In a Pod, the
volumes of tokens and secrets are in memory.
"""

import errno
import os
from _thread import start_new_thread
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, TypeVar, TypeVarTuple, cast

import trio

from sidecar.errors import FileTimeoutError
from sidecar.mounts import is_in_memory

DEADLINE_SECONDS = 5.0
"""Deadline for one operation. An operation on a healthy volume takes well under a millisecond."""

TURN_SECONDS = 0.5
"""Longest time for which an operation delays operations in other directories."""

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


async def in_thread(path: str, function: Callable[[*_Ts], _T], *arguments: *_Ts) -> _T:
    """
    Run `function`, which uses the file at `path`, in a thread, and return its result. Its exceptions pass unchanged.

    Raises FileTimeoutError if this or an abandoned operation in the same directory takes more than DEADLINE_SECONDS.
    Raises OSError if a thread cannot be started.
    """
    operations, directory = _operations_of_this_run(), os.path.dirname(path)
    while True:
        if before := operations.running.get(directory):
            await before.wait_until_ended(path)
            continue
        async with operations.turn:
            if directory in operations.running:
                continue
            operation = operations.start(directory, lambda: function(*arguments))
            with trio.move_on_after(TURN_SECONDS):
                await operation.ended.wait()
        await operation.wait_until_ended(path)
        return cast("_T", operation.result())


async def check(path: str, function: Callable[[*_Ts], _T], *arguments: *_Ts, others: Collection[str] = ()) -> _T:
    """
    Run `function`, which reads only the status of `path` and of `others`. All are files of one directory.

    The function runs directly if an earlier call found all files in memory. Otherwise it runs in a thread, as in
    in_thread.
    """
    in_memory, paths = _operations_of_this_run().in_memory, {path, *others}
    if paths <= in_memory:
        return function(*arguments)
    result, are_in_memory = await in_thread(path, lambda: (function(*arguments), all(map(is_in_memory, paths))))
    if are_in_memory:
        in_memory |= paths
    return result


async def shared_check(path: str, function: Callable[[str], _T]) -> _T:
    """
    Run `function(path)` as check does. Calls that arrive while the function runs share its result, but not its error.

    All roles with the same token file check that file at the same moment, and share one call.
    """
    if path in _operations_of_this_run().in_memory:
        return function(path)
    shared = _operations_of_this_run().shared
    while call := shared.get((function, path)):
        await call.ended.wait()
        if call.results:
            return cast("_T", call.results[0])
    call = shared[function, path] = _SharedCall()
    try:
        result = await check(path, function, path)
        call.results.append(result)
        return result
    finally:
        del shared[function, path]
        call.ended.set()


class _SharedCall:
    """A call that several waiters share. After a failure `results` is empty, and the next waiter repeats the call."""

    __slots__ = ("ended", "results")

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.results: list[Any] = []


class Operation:
    """One call of a blocking function. `end` runs in the event loop after the function has returned."""

    __slots__ = ("deadline", "directory", "end", "ended", "error", "function", "token", "value")

    def __init__(self, directory: str, function: Callable[[], Any], end: Callable[["Operation"], None]) -> None:
        self.directory = directory
        self.function = function
        self.end = end
        self.ended = trio.Event()
        self.token = trio.lowlevel.current_trio_token()
        self.deadline = trio.current_time() + DEADLINE_SECONDS
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call the function and store its result or error. Runs in the thread."""
        try:
            self.value = self.function()
        except BaseException as exc:  # noqa: BLE001  the waiting task raises it
            self.error = exc
        with suppress(trio.RunFinishedError):  # the daemon stopped while the operation hung
            self.token.run_sync_soon(self.end, self)

    async def wait_until_ended(self, path: str) -> None:
        """
        Wait until the operation has ended. `path` is the file of the waiter.

        Raises FileTimeoutError if the operation has not ended at its deadline.
        """
        with trio.move_on_at(self.deadline):
            await self.ended.wait()
        if not self.ended.is_set():
            raise FileTimeoutError(path, DEADLINE_SECONDS)

    def result(self) -> Any:
        if self.error is None:
            return self.value
        try:
            raise self.error
        finally:
            self.error = None  # the traceback of the error refers to this frame, so a cycle would keep both in memory


class _Operations:
    """The operations of one trio run. `running` holds the operation that runs or hangs, by directory."""

    __slots__ = ("in_memory", "running", "shared", "turn")

    def __init__(self) -> None:
        self.turn = trio.Lock()
        self.running: dict[str, Operation] = {}
        self.in_memory: set[str] = set()
        """
        Paths of files that were found in memory.

        Other files in the same directory may be links to a volume that hangs.
        """
        self.shared: dict[tuple[Callable[[str], Any], str], _SharedCall] = {}

    def start(self, directory: str, function: Callable[[], Any]) -> Operation:
        operation = self.running[directory] = Operation(directory, function, self._end)
        try:
            start_thread(operation)
        except RuntimeError as exc:
            del self.running[directory]
            raise OSError(errno.EAGAIN, "no thread can be started") from exc
        return operation

    def _end(self, operation: Operation) -> None:
        del self.running[operation.directory]
        operation.ended.set()


def start_thread(operation: Operation) -> None:
    """
    Start a daemon thread that runs the operation. Tests replace it.

    `threading.Thread` would take 15 microseconds more, because its `start` waits until the thread runs.
    """
    start_new_thread(operation.run, ())


_OPERATIONS: trio.lowlevel.RunVar[_Operations] = trio.lowlevel.RunVar("file operations")


def _operations_of_this_run() -> _Operations:
    try:
        return _OPERATIONS.get()
    except LookupError:
        operations = _Operations()
        _OPERATIONS.set(operations)
        return operations
