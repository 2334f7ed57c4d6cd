"""
The authorities of AWS_CA_BUNDLE, loaded again when the file changes.

Rule: the context in use is replaced as a whole, or stays. A file that cannot be read leaves it, and is reported once
for each change of the file. The file is looked at before each exchange, in a thread, because its volume may hang. It is
followed by its path: a mounted ConfigMap swaps a symbolic link of a directory above it.
"""

import ssl
from typing import NamedTuple

import trio

from sidecar.errors import ConfigurationError, FileTimeoutError
from sidecar.file_thread import in_thread
from sidecar.files import FileVersion, file_version
from sidecar.outbound import CA_BUNDLE, Authorities, trust_in


class Loaded(NamedTuple):
    """The file as it was looked at: its identity, None where it is missing, and what came of loading it."""

    identity: FileVersion | None
    result: ssl.SSLContext | ConfigurationError


class CaBundle(Authorities):
    """
    The authorities of the file at `path`.

    Raises ConfigurationError if the file cannot be read at first.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = trio.Lock()
        self._hangs = False
        self._identity = file_version(path)
        super().__init__(trust_in(path))

    async def refresh(self) -> None:
        """Load the file again if it has changed."""
        async with self._lock:  # several roles' exchanges may begin at once
            try:
                loaded = await in_thread(self._path, load_if_changed, self._path, self._identity)
            except (FileTimeoutError, OSError) as error:
                self._tell_of_hanging(error)
                return
            self._hangs = False
            if loaded is not None:
                self._take(loaded)

    def _take(self, loaded: Loaded) -> None:
        self._identity = loaded.identity
        if isinstance(loaded.result, ConfigurationError):
            self.report(self._path, loaded.result)
            return
        self.context = loaded.result
        self.report(self._path, None)

    def _tell_of_hanging(self, error: FileTimeoutError | OSError) -> None:
        if not self._hangs:
            self._hangs = True
            self.report(self._path, error)


def load_if_changed(path: str, before: FileVersion | None) -> Loaded | None:
    """
    Return the authorities of the file unless it is as it was `before`. It blocks.

    The identity is taken first: a file that changes while it is read is read again the next time.
    """
    identity = file_version(path)
    if identity == before:
        return None
    if identity is None:
        error = f"{CA_BUNDLE} is {path!r}, which no longer exists: restore it, or restart without the setting."
        return Loaded(None, ConfigurationError(error))
    try:
        return Loaded(identity, trust_in(path))
    except ConfigurationError as error:
        return Loaded(identity, error)
