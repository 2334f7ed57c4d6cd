"""
Run one process of this user in the background, and end it from another process.

Rule: a lock shows whether the process runs, because the kernel releases the lock when its holder ends. A process id
does not show this. After a crash or a restart of the machine, another process can have the same id.

Rule: the lock, the log and the text are in a directory that only this user can enter. They are opened relative to the
descriptor of this directory, so another user can replace neither the directory nor the files by links.
"""

import fcntl
import os
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple, TextIO

from sidecar.console import complain, show_log
from sidecar.errors import ConfigurationError, SidecarError

LOCK_FILE, LOG_FILE = "local.lock", "local.log"

TEXT_FILE = "local.lines"
"""File with the text of the running process. The text contains a secret."""

STOP_SECONDS = 10.0
"""The longest wait for the end of the process. The daemon ends within a second on an idle machine."""

CHECK_SECONDS = 0.02
"""Pause between two checks of the lock. The kernel cannot wait for a lock with a deadline."""

MAX_SHOWN_LINES = 20
"""Maximum number of log lines that are shown if the process does not start. The last line has the error."""

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_PID = 2**31 - 1
"""The highest id that fits into a pid_t."""

_FILE_MODE, _DIRECTORY_MODE = 0o600, 0o700


@dataclass(frozen=True, slots=True)
class Place:
    """The private directory of the background process: its path and an open descriptor."""

    path: str
    descriptor: int

    @property
    def log(self) -> str:
        return os.path.join(self.path, LOG_FILE)

    def open(self, name: str, flags: int) -> int:
        """
        Open or create a file in the directory, and return its descriptor. Never wait, for example for a FIFO's reader.

        Raises ConfigurationError if that is not possible, for example because the disk is full.
        """
        flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(name, flags, _FILE_MODE, dir_fd=self.descriptor)
        except OSError as exc:
            raise self.unusable(name, exc.strerror or str(exc)) from exc
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise self.unusable(name, "it is not a regular file")

    def unusable(self, name: str, reason: str) -> ConfigurationError:
        return _unusable(os.path.join(self.path, name), reason)


@contextmanager
def open_place(environ: Mapping[str, str]) -> Iterator[Place]:
    """
    Yield the directory for the background process, in XDG_RUNTIME_DIR or else in the temporary directory.

    Raises ConfigurationError if no such directory can be used.
    """
    path = "XDG_RUNTIME_DIR and TMPDIR"
    try:
        path = _place_path(environ)
        with suppress(FileExistsError):
            os.mkdir(path, _DIRECTORY_MODE)
        descriptor = os.open(path, _DIRECTORY_FLAGS)
    except OSError as exc:
        raise _unusable(path, exc.strerror or str(exc)) from exc
    try:
        if not _is_private(os.fstat(descriptor)):
            raise _unusable(path, "other users can use it, or it belongs to another user")
        yield Place(path, descriptor)
    finally:
        os.close(descriptor)


def _place_path(environ: Mapping[str, str]) -> str:
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    with suppress(OSError, ValueError):
        if os.path.isabs(runtime) and _is_private(os.stat(runtime)):
            return os.path.join(runtime, "irsa-sidecar")
    return os.path.join(tempfile.gettempdir(), f"irsa-sidecar-{os.geteuid()}")


def _is_private(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _unusable(path: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be used for the background process ({reason})",
        fix="Remove it, or set XDG_RUNTIME_DIR to a directory of mode 0700 that belongs to you",
        setting="XDG_RUNTIME_DIR",
    )


class Started(NamedTuple):
    """The text of the background process, and whether this call started the process."""

    text: str
    is_new: bool


def run_detached(place: Place, run: Callable[[TextIO], int], settings: str) -> Started:
    """
    Call `run` in a new process, and return the text that it writes to its argument before it closes the argument.

    The new process has its own session, so neither Ctrl-C nor the end of the terminal reaches it. Its stderr is the log
    in `place`. If it ends without a text, this process shows the end of the log, and exits with the same status. If a
    process with the same `settings` (one line) already runs, return its text.

    Raises ConfigurationError if a process with other settings already runs.
    """
    lock = place.open(LOCK_FILE, os.O_RDWR)
    is_new = _is_acquired(lock)
    if is_new:
        text = _start(place, lock, run)
        _store(place, text, _end_line(lock, settings))
    else:
        text = _stored(place, _end_line(lock, settings)) or _reject(lock)
    os.close(lock)
    return Started(text, is_new)


def _start(place: Place, lock: int, run: Callable[[TextIO], int]) -> str:
    """Run the new process, and return its text."""
    os.ftruncate(lock, 0)
    with os.fdopen(place.open(LOG_FILE, os.O_RDWR | os.O_TRUNC | os.O_APPEND), "a+", errors="replace") as log:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _detach(place, lock, log)
            with os.fdopen(writer, "w") as report:
                raise SystemExit(run(report))
        os.close(writer)
        with os.fdopen(reader) as report:
            text = report.read()
        return text or _end_as(pid, log)


def _end_line(lock: int, settings: str) -> str:
    """Return the last line of the stored text. It shows that the text is complete, and of this process and settings."""
    return f"# {_record(lock)} {settings}\n"


def _store(place: Place, text: str, end_line: str) -> None:
    """Store the text for `_stored`. If the disk is full, the next start fails instead."""
    flags = os.O_WRONLY | os.O_TRUNC
    with suppress(OSError, ConfigurationError), os.fdopen(place.open(TEXT_FILE, flags), "w") as file:
        file.write(text + end_line)


def _stored(place: Place, end_line: str) -> str | None:
    """Return the stored text if it has this last line."""
    with suppress(OSError, ConfigurationError), os.fdopen(place.open(TEXT_FILE, os.O_RDONLY)) as file:
        text = file.read()
        return text.removesuffix(end_line) if text.endswith(end_line) else None
    return None


def _reject(lock: int) -> str:
    """Raise the ConfigurationError for a process that already runs."""
    holder = _holder(lock)
    os.close(lock)
    known = "" if holder is None else f" as process {holder.pid}"
    raise ConfigurationError(
        f"--background is set, but irsa-sidecar local already runs in the background{known} with other settings",
        fix='Use the same settings, or run eval "$(irsa-sidecar local --stop)" first',
        setting="--background",
    )


def _is_acquired(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _detach(place: Place, lock: int, log: TextIO) -> None:
    """
    Leave the session of the terminal, redirect the standard streams, and write this process's id into the lock.

    The id is written before stderr becomes the log, because a full disk can store neither of them.
    """
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    own = _Holder(os.getpid(), _start_time(os.getpid()))
    try:
        os.pwrite(lock, f"{own.pid} {own.started}\n".encode("ascii"), 0)
    except OSError as exc:
        raise place.unusable(LOCK_FILE, exc.strerror or str(exc)) from exc
    os.dup2(log.fileno(), 2)
    log.close()


def _end_as(pid: int, log: TextIO) -> str:
    """Show the end of the log of the process that did not start, and exit with its status."""
    _, status = os.waitpid(pid, 0)
    log.seek(0)
    show_log(log.read().splitlines()[-MAX_SHOWN_LINES:])
    complain("irsa-sidecar local did not start in the background.")
    code = os.waitstatus_to_exitcode(status)
    raise SystemExit(code if code > 0 else 1)


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that holds the lock: its id, and its start in clock ticks since the boot, or an empty text."""

    pid: int
    started: str


def _holder(lock: int) -> _Holder | None:
    """Return the process that holds the lock, or None if it has not written a valid id yet."""
    pid, _, started = _record(lock).partition(" ")
    if not (pid.isascii() and pid.isdigit() and 0 < int(pid) <= _MAX_PID):
        return None  # kill(2) with 0 would signal the processes of our own group
    return _Holder(int(pid), started)


def _record(lock: int) -> str:
    """Return the content of the lock: the id and the start of its holder."""
    return os.pread(lock, 100, 0).decode("ascii", "replace").strip()


def _start_time(pid: int) -> str:
    """Return the start of the process (proc_pid_stat(5), field 22), or an empty text on a system without /proc."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def end_detached(place: Place, stop_seconds: float = STOP_SECONDS) -> int | None:
    """
    End the background process, and return its id after it has ended. Return None if no such process runs.

    Raises SidecarError if the process does not end in time, or if it is not visible here.
    """
    lock = place.open(LOCK_FILE, os.O_RDWR)
    give_up_at = time.monotonic() + stop_seconds
    ended: _Holder | None = None
    try:
        while not _is_acquired(lock):
            if ended is None and (ended := _holder(lock)) is not None:
                _terminate(ended)
            if time.monotonic() > give_up_at:
                raise _not_ended(ended, stop_seconds)
            time.sleep(CHECK_SECONDS)
        with suppress(OSError):
            os.unlink(TEXT_FILE, dir_fd=place.descriptor)
    finally:
        os.close(lock)
    return None if ended is None else ended.pid


def _terminate(holder: _Holder) -> None:
    """
    Send SIGTERM to the holder of the lock.

    Raises SidecarError if its id belongs to another process, as in a container that has other process ids.
    """
    if _start_time(holder.pid) != holder.started:
        raise SidecarError(
            f"irsa-sidecar local runs in the background as process {holder.pid}, which is not visible here",
            fix="Run this command on the machine or in the container in which you started it",
        )
    with suppress(ProcessLookupError):  # it has ended since the last check of the lock
        os.kill(holder.pid, signal.SIGTERM)


def _not_ended(holder: _Holder | None, stop_seconds: float) -> SidecarError:
    if holder is None:
        return SidecarError("irsa-sidecar local is about to start in the background", fix="Run this command again")
    return SidecarError(
        f"process {holder.pid} did not end within {stop_seconds:.0f} s", fix=f"Run `kill -KILL {holder.pid}`"
    )
