"""
Create and read the secrets that clients send as `Authorization`, each in a file that may change.

The secret isolates containers that share the Pod's loopback but not the volume of the secret. Rule: a secret that we
created is replaced at every start, because another program may have listened on the port and received it. A secret that
an operator created is kept. The file contains only the secret, without a line ending, because botocore and Go reject a
token that ends in one. The module must import fast, because the daemon imports it before it listens
(serving/early_listener.py).
"""

import os
from binascii import b2a_base64
from collections.abc import Collection, Iterable, Mapping

from sidecar.errors import ConfigurationError
from sidecar.files import SECRET_MODE, FileVersion, file_version, read_regular_file, replace_secret_file

SECRET_BYTES = 32
"""Number of random bytes in a secret that we create."""
MAX_SECRET_BYTES = 4096
"""Maximum size of a secret's file."""

TOKEN_MODES = ("0600", "0640", "0644")
"""The allowed modes of a file with the clients' secret."""

PREFIX = "irsa-sidecar-"
"""Prefix of each secret that we create. It distinguishes our secrets from an operator's."""

_DIGITS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_NUMBER_OF_DIGITS = 43
"""The characters after the prefix: SECRET_BYTES in base64url without padding."""


class Secret:
    """The content of a secret's file, and the version of the file that contained it."""

    __slots__ = ("value", "version")  # not a NamedTuple, because `typing` is imported after the daemon listens

    def __init__(self, value: bytes, version: FileVersion | None) -> None:
        self.value = value
        self.version = version

    def __repr__(self) -> str:
        return f"Secret(version={self.version})"


def start_secrets(
    paths: Iterable[str], mode: int = SECRET_MODE, known: Mapping[str, Secret] | None = None
) -> dict[str, Secret]:
    """
    Create a secret in each file that is missing or contains an older secret of ours, and read the other files.

    A file whose secret is in `known` is not changed, even if its path is new.

    Raises ConfigurationError if a file cannot be read or written.
    """
    secrets: dict[str, Secret] = {}
    for path in dict.fromkeys(paths):
        current = {secret.value for secret in (*(known or {}).values(), *secrets.values())}
        secrets[path] = _start_secret(path, mode, current)
    return secrets


def _start_secret(path: str, mode: int, current: Collection[bytes]) -> Secret:
    if os.path.exists(path):
        secret = read_secret(path)
        if secret.value in current or not is_created_by_us(secret.value):
            return secret
    write_secret(path, new_secret(), mode)
    return read_secret(path)


def is_created_by_us(secret: bytes) -> bool:
    prefix, digits = secret[: len(PREFIX)], secret[len(PREFIX) :]
    return prefix == PREFIX.encode() and len(digits) == _NUMBER_OF_DIGITS and _DIGITS.issuperset(digits)


def read_secret(path: str) -> Secret:
    """
    Read the file at `path`.

    Raises ConfigurationError if the file cannot be read or its content is invalid.
    """
    version = file_version(path)  # before the content, so that a later check notices a change during the read
    return Secret(_read(path), version)


def new_secret() -> str:
    """
    Return a new secret: PREFIX and 256 random bits in base64url.

    The standard module `secrets` is not used, because it imports OpenSSL.
    """
    digits = b2a_base64(os.urandom(SECRET_BYTES), newline=False).rstrip(b"=")
    return PREFIX + digits.translate(bytes.maketrans(b"+/", b"-_")).decode("ascii")


def write_secret(path: str, secret: str, mode: int = SECRET_MODE) -> None:
    """
    Write the secret to `path` with replace_secret_file.

    Raises ConfigurationError if that fails.
    """
    try:
        replace_secret_file(path, secret, mode)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE is {path}, which cannot be created "
            f"({getattr(exc, 'strerror', None) or exc})",
            fix="Mount a memory-backed emptyDir there that this user may write, or create the file",
            setting="IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE",
        ) from exc


def _read(path: str) -> bytes:
    try:
        content = read_regular_file(path, MAX_SECRET_BYTES + 1) or b""
    except OSError as exc:
        raise ConfigurationError(
            f"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE is {path}, which cannot be read ({exc.strerror or exc})",
            fix=f"Let uid {os.geteuid()} read it, or remove it so that the daemon creates one",
            setting="IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE",
        ) from exc
    secret = content.strip()
    is_field_value = all(0x20 <= byte < 0x7F for byte in secret)
    if not secret or len(content) > MAX_SECRET_BYTES or not is_field_value:
        raise ConfigurationError(
            f"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE is {path}, which must contain one line of at most "
            f"{MAX_SECRET_BYTES} visible ASCII characters, because it is sent in an HTTP header",
            fix="Remove it so that the daemon creates one",
            setting="IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE",
        )
    return secret
