"""
Keep a copy of the credentials in service in an `~/.aws/credentials` file, for programs that read nothing else.

Rule: the file holds what the endpoint would serve now: the valid credentials of each role, as a profile with the role's
name. Expired credentials are removed. A role that only some users may use is left out, because a file does not know who
reads it. The file follows what is in service and never delays it: a background task writes it, in a thread because the
disk may hang. That task logs and counts each error, then retries. When the daemon stops, the file stays: a process that
is killed could not remove it, its credentials remain valid, and the rest of the Pod may need them.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import trio

from sidecar.clock import Clock
from sidecar.daemon.served_roles import ServedRoles
from sidecar.errors import ConfigurationError, FileTimeoutError
from sidecar.file_thread import in_thread
from sidecar.files import FileVersion, file_version, read_regular_file, replace_secret_file
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.refresh.refresher import REMINDER_SECONDS
from sidecar.refresh.schedule import CHECK_SECONDS
from sidecar.store import Snapshot

FIRST_ATTEMPTS_SECONDS = 15.0
"""Longest time that an earlier process's file stays while each role makes its first attempt."""

_SETTING = "IRSA_SIDECAR_CREDENTIALS_FILE"

HEADER = "# irsa-sidecar replaces this file whenever credentials change.\n"
"""The first line, which identifies our files, so that a person's own file is never replaced."""


def text_of(snapshots: Mapping[str, Snapshot]) -> str:
    """
    Return the whole file (AWS SDK reference, shared config and credentials files), with a profile for each name.

    No SDK reads `x_security_token_expires`. Other tools that write such files write it too.
    """
    return HEADER + "".join(_profile(name, snapshots[name]) for name in sorted(snapshots))


def _profile(name: str, snapshot: Snapshot) -> str:
    credentials = snapshot.credentials
    return (
        f"\n[{name}]\n"
        f"# {credentials.role_arn}\n"
        f"aws_access_key_id = {credentials.access_key_id}\n"
        f"aws_secret_access_key = {credentials.secret_access_key}\n"
        f"aws_session_token = {credentials.session_token}\n"
        f"x_security_token_expires = {credentials.expiration}\n"
    )


def is_ours(path: str) -> bool:
    """
    Return whether an earlier process of ours left a file there. A missing or empty file gives False.

    Raises ConfigurationError if another program wrote the file, which may hold a person's own keys.
    """
    try:
        start = read_regular_file(path, len(HEADER))
    except FileNotFoundError:
        return False
    except OSError as exc:
        problem = f"{_SETTING} is {path}, which cannot be read ({exc.strerror or exc})"
        raise ConfigurationError(problem, fix=_FIX, setting=_SETTING) from exc
    if start is None or start not in (b"", HEADER.encode()):
        problem = f"{_SETTING} is {path}, which irsa-sidecar did not write"
        raise ConfigurationError(problem, fix=_FIX, setting=_SETTING)
    return bool(start)


_FIX = "Name a file that irsa-sidecar may replace as a whole, or remove this one"


class CredentialsFile:
    """
    The task that keeps the file at `path` equal to what `roles` serve.

    Raises ConfigurationError if the file belongs to another program.
    """

    def __init__(
        self,
        path: str,
        roles: ServedRoles,
        *,
        clock: Clock,
        log: Logger,
        metrics: Metrics,
        call: Callable[..., Awaitable[Any]] = in_thread,
    ) -> None:
        self._is_left = is_ours(path)
        self._path = path
        self._roles = roles
        self._clock = clock
        self._log = log.bind(path=path)
        self._metrics = metrics
        self._call = call
        self._written: bytes | None = None
        """Digest of the text that was written last. The text itself would keep the secrets."""
        self._version: FileVersion | None = None
        self._last_error: str | None = None
        self._logged_at = float("-inf")

    async def run(self) -> None:
        """Write the file whenever it differs from what is in service, until cancelled."""
        if self._is_left:
            with trio.move_on_after(FIRST_ATTEMPTS_SECONDS):
                await self._roles.first_attempts()
        while True:
            considered = await self._update()
            if considered == _digest(text_of(self._valid())):  # else something changed meanwhile
                with trio.move_on_after(self._pause_seconds()):
                    await self._roles.next_credentials()

    async def _update(self) -> bytes:
        """Write the file if it is out of date. Return the digest of the text that it should have."""
        valid = self._valid()
        text = text_of(valid)
        digest = _digest(text)
        if digest != self._written or await self._is_changed():
            await self._write(text, valid)
        return digest

    def _valid(self) -> dict[str, Snapshot]:
        """Return the valid credentials of the roles that every user may have, by role name."""
        now = self._clock.now()
        unrestricted = (served for served in self._roles if served.allow_uids is None)
        return {
            served.role_name: snapshot
            for served in unrestricted
            if (snapshot := served.valid_snapshot(now)) is not None
        }

    def _pause_seconds(self) -> float:
        """Return the seconds until the first credentials expire, at most those to the next check of the clocks."""
        now = self._clock.now()
        return min([CHECK_SECONDS, *(snapshot.remaining_seconds(now) for snapshot in self._valid().values())])

    async def _is_changed(self) -> bool:
        """Return whether the file differs from the one we wrote. If its volume hangs, the next write reports that."""
        try:
            return bool(await self._call(self._path, file_version, self._path) != self._version)
        except (FileTimeoutError, OSError):
            return True

    async def _write(self, text: str, profiles: Iterable[str]) -> None:
        try:
            await self._call(self._path, replace_secret_file, self._path, text)
            self._version = await self._call(self._path, file_version, self._path)
        except FileTimeoutError as error:
            self._record_error(str(error))
        except Exception as exc:  # noqa: BLE001  whatever it is, only this file is affected
            self._record_error(getattr(exc, "strerror", None) or type(exc).__name__)
        else:
            self._written, self._last_error = _digest(text), None
            self._metrics.count_credentials_file(is_successful=True)
            self._log.info("credentials_file_written", profiles=sorted(profiles))

    def _record_error(self, error: str) -> None:
        """Count the error. Log it if it is new, and again after each REMINDER_SECONDS."""
        self._metrics.count_credentials_file(is_successful=False)
        now = self._clock.monotonic()
        if error == self._last_error and now - self._logged_at < REMINDER_SECONDS:
            return
        self._last_error, self._logged_at = error, now
        self._log.warning("credentials_file_write_failed", reason=error, retry_in_seconds=CHECK_SECONDS)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
