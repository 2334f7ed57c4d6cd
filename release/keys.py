"""
Keep the keys that sign a release on a laptop or in a test.

The folder has four files: `cosign.key` and `cosign.pub`, and the OpenPGP keys `chart.key` and `chart.pub` that Helm
verifies. A published release is signed without a cosign key ("keyless"), and needs only `chart.key`.

Rule: GnuPG runs in a temporary home, and its agent ends before the home is deleted.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release.signing import create_keys

USER = "irsa-sidecar trial release"
"""User of OpenPGP keys that are created here. The name distinguishes these keys from the keys of published releases."""


def cosign_key(folder: Path) -> Path:
    return folder / "cosign.key"


def cosign_public_key(folder: Path) -> Path:
    return folder / "cosign.pub"


def chart_public_key(folder: Path) -> Path:
    return folder / "chart.pub"


def create_trial_keys(cosign: Path, folder: Path) -> None:
    """Create all keys. Nobody else trusts them. The chart's key has no password."""
    folder.mkdir(parents=True, mode=0o700)
    create_keys(cosign, folder)
    with _gnupg() as gpg:
        _run([*gpg, "--passphrase=", "--quick-generate-key", USER, "rsa3072", "sign", "never"])
        (folder / "chart.pub").write_bytes(_run([*gpg, "--export"]))
        (folder / "chart.key").write_bytes(_run([*gpg, "--passphrase=", "--export-secret-keys"]))
        (folder / "chart.key").chmod(0o600)


def clear_sign(text: bytes, folder: Path) -> bytes:
    """Return the text with an OpenPGP signature of `chart.key`."""
    with _gnupg() as gpg:
        _run([*gpg, "--import", str(folder / "chart.key")])
        return _run([*gpg, "--digest-algo=SHA512", "--clear-sign"], text)


@contextmanager
def _gnupg() -> Iterator[list[str]]:
    """
    Yield the start of a gpg command with a temporary home directory.

    The directory is in /tmp, because the path of the agent's socket has a length limit.
    """
    with tempfile.TemporaryDirectory(prefix="gnupg-", dir="/tmp") as home:
        try:
            yield ["gpg", "--homedir", home, "--batch", "--yes", "--quiet", "--pinentry-mode=loopback"]
        finally:
            _run(["gpgconf", "--homedir", home, "--kill", "all"])


def _run(command: list[str], content: bytes = b"") -> bytes:
    return subprocess.run(command, input=content, stdout=subprocess.PIPE, check=True).stdout
