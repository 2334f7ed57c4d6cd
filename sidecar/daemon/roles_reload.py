"""
The file of roles, read again when it changes or when SIGHUP requests it.

Rule: it is used whole or not at all. A file that cannot be used, for any reason, leaves everything as it was. It is
logged once for each time that it changes, and stays visible in a metric until a usable file arrives. A mounted
ConfigMap is swapped like the token: inotify on the directory shortens the wait, and the check every CHECK_SECONDS finds
every change. The file is read in a thread, because its volume may hang.
"""

import os.path
from collections.abc import Callable, Sequence
from typing import Any

import trio

from sidecar.daemon.served_roles import ServedRoles
from sidecar.directory_watch import watch_directory
from sidecar.errors import ConfigurationError, FileTimeoutError
from sidecar.file_thread import check, in_thread
from sidecar.files import FileVersion, file_version
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.refresh.schedule import CHECK_SECONDS
from sidecar.role import Role


class Reload:
    """
    Keeps `roles` as `read` has them; `path` is the file, None where there is none.

    `as_read` is the file's identity from before the roles in service were read.
    """

    def __init__(
        self,
        path: str | None,
        read: Callable[[], Sequence[Role]],
        roles: ServedRoles,
        *,
        as_read: FileVersion | None,
        log: Logger,
        metrics: Metrics,
    ) -> None:
        self._path = path
        self._read = read
        self._roles = roles
        self._log = log
        self._metrics = metrics
        self._identity = as_read
        self._maybe_changed = trio.Event()
        self._turn = trio.Lock()
        self._hung = False

    async def run(self) -> None:
        """Follow the file until cancelled."""
        if self._path is None:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_directory, os.path.dirname(self._path) or ".", self._wake)
            while True:
                changed = self._maybe_changed
                await self._check(self._path)
                with trio.move_on_after(CHECK_SECONDS - trio.current_time() % CHECK_SECONDS):
                    await changed.wait()

    async def now(self) -> None:
        """Read the file whether or not it changed, as SIGHUP requests."""
        if self._path is None:
            self._log.info("nothing_to_reload", why="IRSA_SIDECAR_CONFIG names no file, and variables do not change")
            return
        async with self._turn:
            self._hung = False
            await self._read_if_changed(self._path, is_asked=True)

    def _wake(self) -> None:
        self._maybe_changed.set()
        self._maybe_changed = trio.Event()

    async def _check(self, path: str) -> None:
        async with self._turn:
            await self._read_if_changed(path)

    async def _read_if_changed(self, path: str, *, is_asked: bool = False) -> None:
        try:
            identity = await check(path, file_version, path)
            # A file that is missing during a swap is there at the next check.
            if is_asked or identity not in {None, self._identity}:
                await self._read_now(path, is_asked=is_asked)
                self._identity = identity
            self._hung = False
        except (FileTimeoutError, OSError) as error:
            self._report_hung(error)

    async def _read_now(self, path: str, *, is_asked: bool) -> None:
        """Raises FileTimeoutError if the volume of the file or of a role's secret hangs, OSError without a thread."""
        try:
            roles = await in_thread(path, self._read)
            await self._roles.read_secrets(roles)
            self._use(path, roles, is_asked=is_asked)
        except ConfigurationError as error:
            self._reject(reason=str(error))
        except (FileTimeoutError, OSError):
            raise
        except Exception as exc:  # noqa: BLE001  whatever the file makes us raise, the roles in service stay
            fix = "Remove unusual content from it, and report this as a bug."
            self._reject(reason=f"{path} cannot be read ({type(exc).__name__}). {fix}", exc=exc)

    def _report_hung(self, error: Exception) -> None:
        """Log it once. The next check tries again, so it is no rejection of the content."""
        if not self._hung:
            self._log.error("configuration_check_failed", reason=str(error), in_service="the configuration before")
        self._hung = True

    def _reject(self, **fields: Any) -> None:
        self._metrics.count_reload(is_taken=False)
        self._log.error("configuration_refused", **fields, in_service="the configuration before")

    def _use(self, path: str, roles: Sequence[Role], *, is_asked: bool) -> None:
        changes = self._roles.replace(roles)
        self._metrics.count_reload(is_taken=True)
        # A volume that holds the token too is swapped whenever that is rotated.
        if is_asked or any(changes):
            self._log.info("configuration_reloaded", path=path, **changes._asdict())
