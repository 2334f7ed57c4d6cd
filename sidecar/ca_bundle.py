"""
Load the authorities of AWS_CA_BUNDLE, and load them again when the file changes.

Rule: the context in use is replaced as a whole or not at all. If the file cannot be read, the context stays, and the
error is reported once for each change of the file. The file is checked before each exchange, in a thread, because its
volume may hang. Each check opens the file by its path, because a mounted ConfigMap swaps a symbolic link in the path.
"""

import ssl
from typing import NamedTuple

import trio

from sidecar.authorities import CA_BUNDLE, Authorities, trust_in
from sidecar.errors import ConfigurationError, FileTimeoutError
from sidecar.file_thread import in_thread
from sidecar.files import FileVersion, file_version


class Loaded(NamedTuple):
    """The version of the file (None if the file is missing or unreadable), and the loaded context or the error."""

    version: FileVersion | None
    result: ssl.SSLContext | ConfigurationError


class CaBundle(Authorities):
    """
    The authorities of the file at `path`.

    Raises ConfigurationError if the first read fails.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = trio.Lock()
        self._hangs = False
        self._version = file_version(path)
        super().__init__(trust_in(path))

    async def refresh(self) -> None:
        """Load the file again if it has changed."""
        async with self._lock:  # exchanges of several roles may start at once
            try:
                loaded = await in_thread(self._path, load_if_changed, self._path, self._version)
            except (FileTimeoutError, OSError) as error:
                self._report_hanging(error)
                return
            self._hangs = False
            if loaded is not None:
                self._use(loaded)

    def _use(self, loaded: Loaded) -> None:
        self._version = loaded.version
        if isinstance(loaded.result, ConfigurationError):
            self.report(self._path, loaded.result)
            return
        self.context = loaded.result
        self.report(self._path, None)

    def _report_hanging(self, error: FileTimeoutError | OSError) -> None:
        if not self._hangs:
            self._hangs = True
            self.report(self._path, error)


def load_if_changed(path: str, before: FileVersion | None) -> Loaded | None:
    """
    Load the authorities of the file, or return None if the file still has the version `before`. The call blocks.

    The version is read first. So if the file changes during the read, the next check reads it again.
    """
    version = file_version(path)
    if version == before:
        return None
    try:
        return Loaded(version, trust_in(path))
    except ConfigurationError as error:
        is_gone = isinstance(error.__cause__, FileNotFoundError)
        return Loaded(version, _gone(path) if is_gone else error)


def _gone(path: str) -> ConfigurationError:
    problem = f"{CA_BUNDLE} is {path!r}, which no longer exists"
    return ConfigurationError(problem, fix="Restore the file, or remove the setting and restart", setting=CA_BUNDLE)
