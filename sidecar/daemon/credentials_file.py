"""
Keep a copy of the credentials in service in an `~/.aws/credentials` file, for programs that can only read such a file.

Rule: the file contains the credentials that the endpoint would serve now. The valid credentials of each role are a
profile with the role's name, and expired credentials are removed. A role that only some users may use is omitted,
because a file cannot check its readers. The file never delays the endpoint: a background task writes it, in a thread
because the disk may hang. The task counts each error, logs each new one, and retries. When the daemon stops, the file
stays, because its credentials remain valid and the rest of the Pod may need them. A killed process could not remove the
file anyway.
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
"""Maximum time for which an earlier process's file stays unchanged while the roles make their first attempts."""

_SETTING = "IRSA_SIDECAR_CREDENTIALS_FILE"

HEADER = "# irsa-sidecar replaces this file whenever credentials change.\n"
"""First line of the file, which identifies our files, so that the daemon never replaces a person's own file."""


def text_of(snapshots: Mapping[str, Snapshot]) -> str:
    """
    Return the text of the file (AWS SDK reference, shared config and credentials files), with a profile for each name.

    No SDK reads `x_security_token_expires`, but other tools that write such files include it.
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
    Return whether irsa-sidecar wrote the file at `path`; False for a missing or empty file.

    Raises ConfigurationError if another program wrote the file, because the file may contain a person's own keys, or if
    the file cannot be read.
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


_FIX = "Use a path that irsa-sidecar may replace, or remove this file"


class CredentialsFile:
    """
    The task that keeps the file at `path` equal to the served credentials of `roles`.

    Raises ConfigurationError if the file belongs to another program or cannot be read.
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
        """Digest of the text that was written last. A digest is enough, and the text would keep secrets in memory."""
        self._version: FileVersion | None = None
        self._last_error: str | None = None
        self._logged_at = float("-inf")

    async def run(self) -> None:
        """Write the file whenever it differs from the credentials in service, until cancelled."""
        if self._is_left:
            with trio.move_on_after(FIRST_ATTEMPTS_SECONDS):
                await self._roles.first_attempts()
        while True:
            considered = await self._update()
            if considered == _digest(text_of(self._valid())):  # otherwise the credentials changed during the check
                with trio.move_on_after(self._pause_seconds()):
                    await self._roles.next_credentials()

    async def _update(self) -> bytes:
        """Write the file if it is outdated. Return the digest of the text that the file should have."""
        valid = self._valid()
        text = text_of(valid)
        digest = _digest(text)
        if digest != self._written or await self._is_changed():
            await self._write(text, valid)
        return digest

    def _valid(self) -> dict[str, Snapshot]:
        """Return the valid credentials of the roles without `allow_uids`, by role name."""
        now = self._clock.now()
        unrestricted = (served for served in self._roles if served.allow_uids is None)
        return {
            served.role_name: snapshot
            for served in unrestricted
            if (snapshot := served.valid_snapshot(now)) is not None
        }

    def _pause_seconds(self) -> float:
        """Return the seconds until the first credentials expire, at most until the next check of the clocks."""
        now = self._clock.now()
        return min([CHECK_SECONDS, *(snapshot.remaining_seconds(now) for snapshot in self._valid().values())])

    async def _is_changed(self) -> bool:
        """Return whether the file may have changed since our write. If its volume hangs, the next write reports it."""
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
        """Count the error. Log it if it is new, and then every REMINDER_SECONDS."""
        self._metrics.count_credentials_file(is_successful=False)
        now = self._clock.monotonic()
        if error == self._last_error and now - self._logged_at < REMINDER_SECONDS:
            return
        self._last_error, self._logged_at = error, now
        self._log.warning("credentials_file_write_failed", reason=error, retry_in_seconds=CHECK_SECONDS)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
