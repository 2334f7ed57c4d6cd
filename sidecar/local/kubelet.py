"""
A projected service account token volume, written and renewed as the kubelet does it.

Invariant: a reader of `token` sees one whole token, old or new. The files of one write live in a directory of their
own, named after its time; `token` links to `..data/token` and `..data` to that directory, and a rename over `..data`
is the one step that changes anything (Kubernetes pkg/volume/util/atomic_writer.go).
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
"""The kubelet has 0644 and 0755 in a Pod's own volume; on a laptop others have accounts too."""

MAX_AGE_SECONDS = 24 * 3600
MAX_JITTER_SECONDS = 10
"""The kubelet renews after 80 % of a token's life or 24 h, up to 10 s early (pkg/kubelet/token/token_manager.go)."""

CHECK_SECONDS = 5.0
"""How often the wall clock is looked at: a laptop's jumps when it wakes. The kubelet looks each minute or so."""

Issue = Callable[[], IssuedToken]
"""Asks the API server for a token, as the kubelet does by TokenRequest."""


class TokenVolume:
    """The volume at `directory`, which is made with its parents if it is not there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.token_file = directory / TOKEN_NAME

    def write(self, token: str, now: float) -> None:
        """
        Put the token there, without a newline. `now`, in Unix seconds, names the directory. Raises OSError.

        The same token again changes nothing.
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
        """Fill the directory `new` (mkdtemp makes it 0700) and let `..data` point at it, or leave nothing of it."""
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
    """The kubelet's rule. `now` is Unix seconds; `jitter_seconds` is drawn anew each time, from 0 to 10."""
    life = token.expires_at - token.issued_at
    return (
        now < token.issued_at
        or now > token.issued_at + MAX_AGE_SECONDS - jitter_seconds
        or now > token.expires_at - 0.2 * life - jitter_seconds
    )


def renew(volume: TokenVolume, issue: Issue, now: float, emit: Emit) -> IssuedToken:
    """Write a new token. Raises OSError."""
    token = issue()
    volume.write(token.raw, now)
    emit("token_renewed", path=str(volume.token_file), expires_at=datetime.fromtimestamp(token.expires_at, UTC))
    return token


async def keep_fresh(
    volume: TokenVolume,
    token: IssuedToken,
    issue: Issue,
    *,
    clock: Clock,
    jitter: Callable[[], float],
    emit: Emit,
) -> None:
    """
    Renew `token`, which the volume holds, and its successors for ever.

    A write that fails leaves the old token in place and is tried again at the next look, as the kubelet does.
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
