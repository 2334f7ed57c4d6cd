"""
Follow the secrets of all roles in the background.

Rule: no request reads a file. inotify and a check every CHECK_SECONDS find changes. A client that sends a wrong secret
may have read a new secret just before. The request therefore waits for a check that starts after the request arrived.
There is at most one such check every RECHECK_SECONDS, however many wrong secrets arrive. If a file cannot be read, or
its volume hangs, the earlier secret stays in use.
"""

import os.path
from collections.abc import Iterable, Mapping

import trio

from sidecar.directory_watch import watch_directory
from sidecar.errors import ConfigurationError, FileTimeoutError
from sidecar.file_thread import check, in_thread
from sidecar.files import SECRET_MODE, FileVersion, file_version
from sidecar.log import Logger
from sidecar.refresh.schedule import CHECK_SECONDS
from sidecar.serving.authorization import Secret, read_secret, start_secrets

RECHECK_SECONDS = 0.1
"""Minimum time between two checks of one file because of wrong secrets."""

MAX_WAITING = 64
"""Maximum number of requests that wait for a check of one file. Further requests with a wrong secret are rejected at
once."""


class Authorization:
    """The secret in the file at `path`. `waiting` counts the requests that wait for a check."""

    def __init__(self, path: str, secret: Secret) -> None:
        self.path = path
        self.waiting = 0
        self._secret = secret
        self._turn = trio.Lock()
        self._checked_at = float("-inf")

    @property
    def secret(self) -> bytes:
        return self._secret.value

    @property
    def current(self) -> Secret:
        return self._secret

    async def check_after_mismatch(self) -> None:
        """Wait for a check that starts after this call. The caller sets a deadline."""
        arrived_at = trio.current_time()
        self.waiting += 1
        try:
            async with self._turn:
                if self._checked_at > arrived_at:
                    return
                await trio.sleep_until(self._checked_at + RECHECK_SECONDS)
                self._checked_at = trio.current_time()
                await self._check()
        finally:
            self.waiting -= 1

    def needs_read(self, version: FileVersion | None) -> bool:
        return version is not None and version != self._secret.version

    async def read(self) -> None:
        """Read the file and use its secret. If the file has no valid secret, the earlier secret stays in use."""
        try:
            self._secret = await in_thread(self.path, read_secret, self.path)
        except (ConfigurationError, FileTimeoutError, OSError):
            return

    async def _check(self) -> None:
        try:
            version = await check(self.path, file_version, self.path)
        except (FileTimeoutError, OSError):
            return
        if self.needs_read(version):
            await self.read()


class AuthorizationFiles:
    """The secrets in use, by the paths of their files. New files get the mode `mode`."""

    def __init__(self, secrets: Mapping[str, Secret], log: Logger, mode: int = SECRET_MODE) -> None:
        self._log = log
        self._mode = mode
        self._by_path = {path: Authorization(path, secret) for path, secret in secrets.items()}
        self._changed = trio.Event()
        self._watches: dict[str, trio.CancelScope] = {}
        self._hung: set[str] = set()

    def __getitem__(self, path: str) -> Authorization:
        return self._by_path[path]

    async def add(self, paths: Iterable[str]) -> None:
        """
        Create or read the secrets of these files, unless they are in use.

        Raises ConfigurationError if a secret cannot be used, and FileTimeoutError if a volume hangs.
        """
        for path in paths:
            if path in self._by_path:
                continue
            known = {path: authorization.current for path, authorization in self._by_path.items()}
            secrets = await in_thread(path, start_secrets, [path], self._mode, known)
            self._by_path[path] = Authorization(path, secrets[path])
        self._wake()

    def keep_only(self, paths: Iterable[str]) -> None:
        """Forget the other files. If a later role uses such a file, the daemon replaces a secret that it created."""
        kept = set(paths)
        self._by_path = {path: found for path, found in self._by_path.items() if path in kept}
        self._wake()

    async def run(self) -> None:
        """Follow the files until cancelled."""
        self._watches = {}
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._changed
                by_directory = self._by_directory()
                self._watch_directories(nursery, by_directory)
                await self._check_all(by_directory)
                with trio.move_on_after(self._pause_seconds()):
                    await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _by_directory(self) -> dict[str, list[Authorization]]:
        found: dict[str, list[Authorization]] = {}
        for authorization in self._by_path.values():
            found.setdefault(os.path.dirname(authorization.path) or ".", []).append(authorization)
        return found

    def _watch_directories(self, nursery: trio.Nursery, wanted: Mapping[str, list[Authorization]]) -> None:
        for directory in [directory for directory in self._watches if directory not in wanted]:
            self._watches.pop(directory).cancel()
        for directory in wanted:
            if directory not in self._watches:
                self._watches[directory] = trio.CancelScope()
                nursery.start_soon(self._watch, directory, self._watches[directory])

    async def _watch(self, directory: str, scope: trio.CancelScope) -> None:
        with scope:
            await watch_directory(directory, self._wake)

    async def _check_all(self, by_directory: Mapping[str, list[Authorization]]) -> None:
        for directory, authorizations in by_directory.items():
            paths = [authorization.path for authorization in authorizations]
            try:
                versions = await check(paths[0], _versions, paths, others=paths)
            except (FileTimeoutError, OSError) as error:
                self._report_hung(directory, error)
                continue
            self._hung.discard(directory)
            for authorization, version in zip(authorizations, versions, strict=True):
                if authorization.needs_read(version):
                    await authorization.read()

    def _report_hung(self, directory: str, error: Exception) -> None:
        """Log the error once, and again only after a check has succeeded."""
        if directory not in self._hung:
            self._hung.add(directory)
            self._log.warning("authorization_check_failed", reason=str(error), still_active="the previous secret")

    def _pause_seconds(self) -> float:
        """Return the seconds to the next check, or infinity without files. The checks of all roles share a wake-up."""
        return CHECK_SECONDS - trio.current_time() % CHECK_SECONDS if self._by_path else float("inf")


def _versions(paths: list[str]) -> list[FileVersion | None]:
    return [file_version(path) for path in paths]
