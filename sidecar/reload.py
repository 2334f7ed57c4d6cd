"""
The file of roles, read again when it changes or when SIGHUP asks for it.

Rule: it is taken whole or not at all. A file that cannot be taken leaves everything as it was, is told once for each
time that it changes, and stays visible in a metric until one comes that can. A mounted ConfigMap is swapped like the
token is, so the watch is the token's too: inotify on the directory hurries, and a look now and then is what counts.
"""

import os.path
from collections.abc import Callable, Sequence

import trio

from sidecar.directory_watch import watch_directory
from sidecar.errors import ConfigurationError
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.regular_file import FileIdentity, file_identity
from sidecar.role import Role
from sidecar.schedule import CHECK_SECONDS
from sidecar.served_roles import ServedRoles


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
        as_read: FileIdentity | None,
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

    async def run(self) -> None:
        """Follow the file until cancelled."""
        if self._path is None:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_directory, os.path.dirname(self._path) or ".", self._wake)
            while True:
                self._look(self._path)
                with trio.move_on_after(CHECK_SECONDS):
                    await self._maybe_changed.wait()

    def now(self) -> None:
        """Read the file whether or not it changed, as SIGHUP asks."""
        if self._path is None:
            self._log.info("nothing_to_reload", why="IRSA_SIDECAR_CONFIG names no file, and variables do not change")
            return
        self._identity = file_identity(self._path)
        self._take(self._path, is_asked=True)

    def _wake(self) -> None:
        self._maybe_changed.set()
        self._maybe_changed = trio.Event()

    def _look(self, path: str) -> None:
        identity = file_identity(path)
        if identity is None or identity == self._identity:
            return  # one that is gone for the moment of a swap is there at the next look
        self._identity = identity
        self._take(path)

    def _take(self, path: str, *, is_asked: bool = False) -> None:
        try:
            changes = self._roles.replace(self._read())
        except ConfigurationError as error:
            self._metrics.count_reload(is_taken=False)
            self._log.error("configuration_refused", reason=str(error), in_service="the configuration before")
            return
        self._metrics.count_reload(is_taken=True)
        # A volume that holds the token too is swapped whenever that is rotated.
        if is_asked or any(changes):
            self._log.info("configuration_reloaded", path=path, **changes._asdict())
