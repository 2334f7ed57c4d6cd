"""
Reload the file of roles when it changes or when SIGHUP requests it.

Rule: the file is used whole or not at all. If the file is invalid or unreadable, the roles in service stay. The error
is logged once for each change of the file, and a metric shows it until the file is valid again. The kubelet swaps a
mounted ConfigMap in the same way as the token. inotify on the directory shortens the wait, and a check every
CHECK_SECONDS finds every change. The file is read in a thread, because its volume may hang.
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
    The task that keeps `roles` equal to the roles that `read` returns for the file at `path`.

    `as_read` is the version that the file had before the roles in service were read.
    """

    def __init__(
        self,
        path: str,
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
        self._version = as_read
        self._maybe_changed = trio.Event()
        self._turn = trio.Lock()
        self._hung = False

    async def run(self) -> None:
        """Follow the file until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_directory, os.path.dirname(self._path) or ".", self._wake)
            while True:
                changed = self._maybe_changed
                await self._check()
                with trio.move_on_after(CHECK_SECONDS - trio.current_time() % CHECK_SECONDS):
                    await changed.wait()

    async def now(self) -> None:
        """Read the file even if it has not changed. SIGHUP requests this read."""
        async with self._turn:
            self._hung = False
            await self._read_if_changed(is_requested=True)

    def _wake(self) -> None:
        self._maybe_changed.set()
        self._maybe_changed = trio.Event()

    async def _check(self) -> None:
        async with self._turn:
            await self._read_if_changed()

    async def _read_if_changed(self, *, is_requested: bool = False) -> None:
        try:
            version = await check(self._path, file_version, self._path)
            # If the file is missing during a swap, the next check finds it.
            if is_requested or version not in {None, self._version}:
                await self._read_now(is_requested=is_requested)
                self._version = version
            self._hung = False
        except (FileTimeoutError, OSError) as error:
            self._report_hung(error)

    async def _read_now(self, *, is_requested: bool) -> None:
        """
        Read the file and use it, or reject it.

        Raises FileTimeoutError if the volume of the file or of a role's secret hangs, and OSError if no thread can be
        started.
        """
        try:
            roles = await in_thread(self._path, self._read)
            await self._roles.read_secrets(roles)
            self._use(roles, is_requested=is_requested)
        except ConfigurationError as error:
            self._reject(reason=str(error))
        except (FileTimeoutError, OSError):
            raise
        except Exception as exc:  # noqa: BLE001  whatever the content causes, the roles in service stay
            fix = "Remove unusual content from the file, and report this as a bug."
            self._reject(reason=f"{self._path} cannot be read ({type(exc).__name__}). {fix}", exc=exc)

    def _report_hung(self, error: Exception) -> None:
        """Log once that the volume hangs. The content is not rejected, because the next check tries again."""
        if not self._hung:
            self._log.error("configuration_check_failed", reason=str(error), still_active="the previous configuration")
        self._hung = True

    def _reject(self, **fields: Any) -> None:
        self._metrics.count_reload(is_accepted=False)
        self._log.error("configuration_rejected", **fields, still_active="the previous configuration")

    def _use(self, roles: Sequence[Role], *, is_requested: bool) -> None:
        changes = self._roles.replace(roles)
        self._metrics.count_reload(is_accepted=True)
        # The kubelet swaps a volume that also contains the token at every renewal, even if no role changed.
        if is_requested or any(changes):
            self._log.info("configuration_reloaded", path=self._path, **changes._asdict())
