"""
Write and renew a projected service account token volume as the kubelet does.

Rule: a reader of `token` sees one complete token, old or new. Each write puts its files into a new directory, whose
name contains the time of the write. `token` links to `..data/token`, and `..data` links to that directory. A reader
sees the new token only after the rename over `..data` (Kubernetes pkg/volume/util/atomic_writer.go).
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import trio

from sidecar.clock import Clock
from sidecar.local.events import Emit
from sidecar.local.issuer import IssuedToken

TOKEN_NAME = "token"  # noqa: S105  (a file name)
DATA_NAME, NEW_DATA_NAME = "..data", "..data_tmp"

FILE_MODE, DIRECTORY_MODE = 0o600, 0o700
"""
Modes of the files and directories. Other people may have accounts on this machine, so only the owner may read.

The kubelet uses 0644 and 0755 in a Pod's own volume.
"""

MAX_AGE_SECONDS = 24 * 3600
MAX_JITTER_SECONDS = 10
"""
Maximum number of seconds by which a renewal is early. The kubelet renews a token after 80 % of its lifetime, and after
24 h at the latest.

Source: pkg/kubelet/token/token_manager.go.
"""

CHECK_SECONDS = 5.0
"""
Interval between two checks for a due renewal. The kubelet checks about every minute.

This interval is shorter, because a laptop's wall clock jumps when the laptop wakes up.
"""

Issue = Callable[[], IssuedToken]
"""A function that returns a new token. The kubelet gets a token from the API server with a TokenRequest."""


class TokenVolume:
    """A token volume at `directory`. The first write creates the directory and its parents."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.token_file = directory / TOKEN_NAME

    def write(self, token: str, now: float) -> None:
        """
        Write the token without a newline, unless the volume already contains this token.

        Raises OSError if that fails.

        The name of the new directory contains the time `now`, in Unix seconds.
        """
        self.directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        old = self._data_target()
        if old is not None and _content(old / TOKEN_NAME) == token.encode("ascii"):
            return
        prefix = datetime.fromtimestamp(now, UTC).strftime("..%Y_%m_%d_%H_%M_%S.")
        self._swap_in(Path(tempfile.mkdtemp(prefix=prefix, dir=self.directory)), token)
        if not self.token_file.is_symlink():
            self.token_file.symlink_to(Path(DATA_NAME) / TOKEN_NAME)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)

    def _swap_in(self, new: Path, token: str) -> None:
        """Write the directory `new` (0700 by mkdtemp) and link `..data` to it. Remove `new` if that fails."""
        try:
            descriptor = os.open(new / TOKEN_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
            with open(descriptor, "wb") as file:
                file.write(token.encode("ascii"))
            link = self.directory / NEW_DATA_NAME
            link.unlink(missing_ok=True)
            link.symlink_to(new.name)
            link.rename(self.directory / DATA_NAME)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            raise

    def _data_target(self) -> Path | None:
        try:
            return self.directory / os.readlink(self.directory / DATA_NAME)
        except OSError:
            return None


def needs_renewal(token: IssuedToken, now: float, jitter_seconds: float) -> bool:
    """
    Return whether the kubelet would renew the token at `now`, in Unix seconds.

    `jitter_seconds` is a new random number from 0 to 10 for each call.
    """
    lifetime_seconds = token.expires_at - token.issued_at
    return (
        now < token.issued_at
        or now > token.issued_at + MAX_AGE_SECONDS - jitter_seconds
        or now > token.expires_at - 0.2 * lifetime_seconds - jitter_seconds
    )


def renew(volume: TokenVolume, issue: Issue, now: float, emit: Emit) -> IssuedToken:
    """
    Write a new token to the volume, and return the token.

    Raises OSError if the write fails.
    """
    token = issue()
    volume.write(token.raw, now)
    emit("token_renewed", path=str(volume.token_file), expires_at=datetime.fromtimestamp(token.expires_at, UTC))
    return token


async def keep_fresh(
    volume: TokenVolume, token: IssuedToken, issue: Issue, *, clock: Clock, jitter: Callable[[], float], emit: Emit
) -> None:
    """
    Renew the volume's `token` and each later token until cancelled.

    After a failed write, the old token stays and the next check tries again, as in the kubelet.
    """
    while True:
        await trio.sleep(CHECK_SECONDS)
        now = clock.wall()
        if needs_renewal(token, now, jitter()):
            try:
                token = renew(volume, issue, now, emit)
            except OSError as exc:
                emit("token_renewal_failed", path=str(volume.token_file), reason=str(exc))


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
