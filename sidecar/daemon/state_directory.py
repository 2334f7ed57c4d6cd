"""
Save the credentials of each role in IRSA_SIDECAR_STATE_DIR, so that they survive a restart of the process.

Rule: the saved credentials never delay the endpoint. The directory is read once, at the start. A file that cannot be
used is logged and ignored. A background task writes the files, in a thread because a disk may hang. A failed write
does not delay or end another part. Credentials are saved only in memory (tmpfs, ramfs), unless the operator allows a
disk.

The directory may be a volume that other users can list (Kubernetes creates an emptyDir with mode 0777). The files are
then in our own directory below it. A private directory of ours is used directly.
"""

import os
import stat
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import trio

from sidecar.clock import Clock, Instant
from sidecar.daemon.saved_state import (
    FILE_PREFIX,
    MAX_STATE_BYTES,
    Owner,
    Saved,
    UnusableStateError,
    decode,
    encode,
    file_name,
    role_digest,
    whole,
)
from sidecar.daemon.served_roles import ServedRole, ServedRoles
from sidecar.errors import ConfigurationError, FileTimeoutError
from sidecar.file_thread import check, in_thread
from sidecar.files import file_version, replace_secret_file
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.mounts import IN_MEMORY, MOUNTINFO, filesystem_type
from sidecar.refresh.refresher import REMINDER_SECONDS, Health, Progress
from sidecar.refresh.schedule import CHECK_SECONDS, Schedule
from sidecar.store import Snapshot
from sidecar.sts.settings import StsSettings

SETTING, ALLOW_DISK = "IRSA_SIDECAR_STATE_DIR", "IRSA_SIDECAR_STATE_ALLOW_DISK"

MODE = 0o600

OWN_DIRECTORY = "irsa-sidecar"
"""Name of our directory below a directory that other users can list."""

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Boot(NamedTuple):
    """The ID of the machine's boot, and a clock that counts the seconds since the boot. All processes share both."""

    boot_id: str
    now: Callable[[], float]


def this_boot() -> Boot | None:
    """Return the ID and the clock of this boot, or None if the kernel does not provide both, as in some sandboxes."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            boot_id = file.read(64).strip()
        clock = time.CLOCK_BOOTTIME
        time.clock_gettime(clock)
    except (OSError, ValueError, AttributeError):
        return None
    return Boot(boot_id, lambda: time.clock_gettime(clock)) if boot_id else None


def open_directory(path: str, *, allow_disk: bool) -> str:
    """
    Return the private directory for the files. Create it if necessary.

    Raises ConfigurationError if the directory cannot be used, or if it is on a disk and `allow_disk` is false.
    """
    try:
        if not allow_disk:
            _check_in_memory(path)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        return _private_directory(path)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigurationError(
            f"{SETTING} is {path}: it cannot be used as a directory ({reason})",
            fix=f"Use a directory on a memory volume that the sidecar may write, or unset {SETTING}",
            setting=SETTING,
        ) from exc


def _check_in_memory(path: str) -> None:
    """Raise ConfigurationError unless the directory, or its parent if it is missing, is in memory."""
    place = path if os.path.exists(path) else os.path.dirname(path.rstrip("/")) or "."
    with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        found = filesystem_type(file.read(), os.stat(place).st_dev)
    if found not in IN_MEMORY:
        raise ConfigurationError(
            f"{SETTING} is {path}: it is on {found or 'an unknown file system'}, and credentials are kept in memory "
            "only",
            fix=f"Mount a tmpfs there (emptyDir with medium Memory), or set {ALLOW_DISK}=true",
            setting=SETTING,
        )


def _private_directory(path: str) -> str:
    """
    Return `path` if only we can access it, else our own directory below it.

    Raises OSError if our own directory cannot be created or belongs to another user.
    """
    if _is_private(os.stat(path)):
        return path
    own = os.path.join(path, OWN_DIRECTORY)
    with suppress(FileExistsError):
        os.mkdir(own, 0o700)
    status = os.lstat(own)
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        os.chmod(own, 0o700)
    if not _is_private(os.lstat(own)):
        raise NotADirectoryError(0, f"{own} belongs to somebody else")
    return own


def _is_private(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def read_own_file(path: str) -> bytes | None:
    """
    Return the bytes of a file that we wrote, or None if it does not exist. Never wait.

    Raises UnusableStateError if we did not write the file, or if it cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise UnusableStateError(f"it cannot be opened ({exc.strerror})") from exc
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableStateError("it is not a regular file")
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise UnusableStateError("other users own it or have access to it")
        if status.st_size > MAX_STATE_BYTES:
            raise UnusableStateError(f"it is larger than {MAX_STATE_BYTES} bytes")
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(MAX_STATE_BYTES)
    except OSError as exc:
        raise UnusableStateError(f"it cannot be read ({exc.strerror})") from exc
    finally:
        os.close(fd)


class _FileContent(NamedTuple):
    """The identity of a file's content, without its secrets."""

    access_key_id: str
    expires: Instant
    schedule: Schedule


class StateDirectory:
    """The task that keeps one file per role in the directory `path`, which `open_directory` returned."""

    def __init__(self, path: str, sts: StsSettings, *, clock: Clock, boot: Boot, log: Logger, metrics: Metrics) -> None:
        self._path = path
        self._sts = sts
        self._clock = clock
        self._boot = boot
        self._log = log
        self._metrics = metrics
        self._call: Callable[..., Awaitable[Any]] = in_thread
        self._kept: dict[str, _FileContent | None] = {}
        """The content of each file, by file name. None means that an earlier process wrote the file."""
        self._last_error: str | None = None
        self._logged_at = float("-inf")

    def restore(self, roles: ServedRoles) -> None:
        """Restore the credentials that an earlier process saved, for each role. Call this before the roles run."""
        with suppress(OSError):
            self._kept = {name: None for name in os.listdir(self._path) if name.startswith(FILE_PREFIX)}
        for served in roles:
            try:
                self._restore_role(served)
            except UnusableStateError as exc:
                self._log.warning("saved_credentials_ignored", role_name=served.role_name, reason=exc.problem)
            except Exception as exc:  # noqa: BLE001  the daemon starts without a file that causes an error
                self._log.warning(
                    "saved_credentials_ignored", role_name=served.role_name, reason="it cannot be used", exc=exc
                )

    def _restore_role(self, served: ServedRole) -> None:
        name = file_name(served.role_name)
        data = read_own_file(os.path.join(self._path, name))
        if data is None:
            return
        now = self._clock.now()
        booted_at = now.monotonic - self._boot.now()
        saved = decode(data, self._owner(served), Instant(now.wall, self._boot.now())).shifted(booted_at)
        health = whole(Health, {**saved.health, "checked_at": now.monotonic, "last_call": None})
        served.store.restore(saved.credentials, saved.expires, saved.arrived_at)
        served.refresher.resume(Progress(saved.schedule, health, saved.max_duration, None, now.monotonic))
        if served.store.own_snapshot is not None:
            self._kept[name] = _content(served.store.own_snapshot, saved.schedule)
        self._log.info(
            "credentials_restored",
            role_name=served.role_name,
            role_arn=saved.credentials.role_arn,
            access_key_id=saved.credentials.access_key_id,
            expiration=saved.credentials.expiration,
            refresh_in_seconds=max(0, round(saved.schedule.due.monotonic - now.monotonic)),
        )

    async def run(self, roles: ServedRoles) -> None:
        """Save the credentials in service at each change, until cancelled."""
        while True:
            await self._follow(roles)
            with trio.move_on_after(CHECK_SECONDS):
                await roles.next_credentials()

    async def _follow(self, roles: ServedRoles) -> None:
        by_name = {file_name(served.role_name): served for served in roles}
        for name in [name for name in self._kept if name not in by_name]:
            await self._remove(name)
        for name, served in by_name.items():
            snapshot, now = served.store.own_snapshot, self._clock.now()
            if snapshot is None:
                continue
            if not snapshot.is_valid(now):
                await self._remove(name)
            elif self._is_outdated(name, served, snapshot) or await self._is_gone(name):
                await self._write(name, served, snapshot)

    def _is_outdated(self, name: str, served: ServedRole, snapshot: Snapshot) -> bool:
        return self._kept.get(name) != _content(snapshot, served.refresher.progress.schedule)

    async def _is_gone(self, name: str) -> bool:
        """Return whether the file is known to be missing. Another daemon with the same directory can remove it."""
        path = os.path.join(self._path, name)
        try:
            return await check(path, file_version, path) is None
        except FileTimeoutError as exc:
            self._report_change(str(exc))
        except OSError:  # no thread can be started
            pass
        return False

    async def _write(self, name: str, served: ServedRole, snapshot: Snapshot) -> None:
        progress, before = served.refresher.progress, self._kept.get(name)
        now = self._clock.now()
        since_boot = self._boot.now()
        saved = _saved(snapshot, progress).shifted(since_boot - now.monotonic)
        text = encode(saved, self._owner(served), Instant(now.wall, since_boot))
        if not await self._try(replace_secret_file, name, text, MODE):
            return
        content = self._kept[name] = _content(snapshot, progress.schedule)
        if before is None or before[:2] != content[:2]:
            self._log.info("credentials_saved", role_name=served.role_name, access_key_id=content.access_key_id)

    async def _remove(self, name: str) -> None:
        if name in self._kept and await self._try(_unlink, name):
            del self._kept[name]

    async def _try(self, function: Callable[..., Any], name: str, *arguments: Any) -> bool:
        """Call the function with the file's path in a thread. Return whether it succeeded in time."""
        path, error = os.path.join(self._path, name), None
        try:
            await self._call(path, function, path, *arguments)
        except FileTimeoutError as exc:
            error = str(exc)
        except Exception as exc:  # noqa: BLE001  whatever it is, only this directory is affected
            error = getattr(exc, "strerror", None) or type(exc).__name__
        self._metrics.count_state_write(is_successful=error is None)
        self._report_change(error)
        return error is None

    def _report_change(self, error: str | None) -> None:
        """Log an error when it is new, and then every REMINDER_SECONDS."""
        now = self._clock.monotonic()
        is_known = error == self._last_error and now - self._logged_at < REMINDER_SECONDS
        self._last_error = error
        if error is None or is_known:
            return
        self._logged_at = now
        self._log.warning("state_write_failed", path=self._path, reason=error, retry_in_seconds=CHECK_SECONDS)

    def _owner(self, served: ServedRole) -> Owner:
        return Owner(role_digest(served.refresher.role, self._sts), self._boot.boot_id)


def _content(snapshot: Snapshot, schedule: Schedule) -> _FileContent:
    return _FileContent(snapshot.credentials.access_key_id, snapshot.expires, schedule)


def _saved(snapshot: Snapshot, progress: Progress) -> Saved:
    health = progress.health._asdict()
    del health["checked_at"], health["last_call"]
    return Saved(
        snapshot.credentials, snapshot.expires, snapshot.arrived_at, progress.schedule, progress.max_duration, health
    )


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
