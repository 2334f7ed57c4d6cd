"""
The secret that clients send as `Authorization`: made once, written once, re-read when its file changes.

It walls off what shares the Pod's loopback but not its volume. The file holds the bare secret without a line
ending, since botocore and Go refuse a token that ends in one.
"""

import os
import secrets

from sidecar.errors import ConfigurationError
from sidecar.regular_file import file_identity, read_regular_file
from sidecar.secret_file import MODE, replace_secret_file

SECRET_BYTES = 32
MAX_SECRET_BYTES = 4096

LOOK_SECONDS = 0.1
"""How often at most the file is looked at: a client that read a new secret may send it at once."""


class Authorization:
    """The secret in `path`, made with `mode` if the file is not there. Raises ConfigurationError if it cannot be."""

    def __init__(self, path: str, mode: int = MODE) -> None:
        self._path = path
        if not os.path.exists(path):
            write_secret(path, new_secret(), mode)
        self._identity = file_identity(path)
        self._secret = _read(path)
        self._looked_at = float("-inf")

    def secret(self, monotonic: float) -> bytes:
        """What must be sent now. A changed file that cannot be read, or is empty for now, changes nothing."""
        if monotonic - self._looked_at >= LOOK_SECONDS:
            self._looked_at = monotonic
            identity = file_identity(self._path)
            if identity is not None and identity != self._identity:
                self._reread(identity)
        return self._secret

    def _reread(self, identity: tuple[int, int, int]) -> None:
        try:
            self._secret = _read(self._path)
        except ConfigurationError:
            return
        self._identity = identity


def new_secret() -> str:
    return secrets.token_urlsafe(SECRET_BYTES)


def write_secret(path: str, secret: str, mode: int = MODE) -> None:
    """Put the secret at `path`, as replace_secret_file does. Raises ConfigurationError."""
    try:
        replace_secret_file(path, secret, mode)
    except OSError as exc:
        raise ConfigurationError(
            f"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE is {path}, which cannot be made ({exc.strerror or exc}): mount a "
            "memory-backed emptyDir there that this user may write, or put the file there."
        ) from exc


def _read(path: str) -> bytes:
    try:
        content = read_regular_file(path, MAX_SECRET_BYTES + 1) or b""
    except OSError as exc:
        raise ConfigurationError(
            f"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE is {path}, which cannot be read ({exc.strerror or exc}): "
            f"let uid {os.geteuid()} read it, or remove it to have one made."
        ) from exc
    secret = content.strip()
    is_field_value = all(0x20 <= byte < 0x7F for byte in secret)
    if not secret or len(content) > MAX_SECRET_BYTES or not is_field_value:
        raise ConfigurationError(
            f"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE is {path}, which must be a file of one line of at most "
            f"{MAX_SECRET_BYTES} visible ASCII characters, as it travels in an HTTP header: remove it to have one made."
        )
    return secret
