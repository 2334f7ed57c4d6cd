"""
Save an inventory in a directory and load it, so that an audit can run without access to the cluster and the account.

Rule: the files are readable only by their owner, because the inventory lists every weak role of an account.
"""

import errno
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from sidecar.audit.inventory import VERSION, Account, Cluster, Inventory
from sidecar.errors import ConfigurationError

CLUSTER_FILE, ACCOUNT_FILE = "cluster.json", "account.json"

DIRECTORY_MODE, FILE_MODE = 0o700, 0o600

_Part = TypeVar("_Part", Cluster, Account)


def save(inventory: Inventory, directory: str) -> None:
    """
    Write both files into the directory. A missing directory is created.

    Raises ConfigurationError if the directory is not writable.
    """
    path = Path(directory)
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        for name, part in ((CLUSTER_FILE, inventory.cluster), (ACCOUNT_FILE, inventory.account)):
            _replace(path / name, msgspec.json.encode(part))
    except OSError as exc:
        raise ConfigurationError(
            f"--save is {directory}, which cannot be written ({exc.strerror or exc})",
            fix="Use a directory that you may write to",
            setting="--save",
        ) from exc


def _replace(target: Path, content: bytes) -> None:
    """Replace the file or link by a new file, so that neither an old mode nor an old link has an effect."""
    draft = target.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(target)


def load(directory: str) -> Inventory:
    """
    Return the saved inventory.

    Raises ConfigurationError if a file cannot be read, is not a saved inventory, or has another version.
    """
    return Inventory(_read(directory, CLUSTER_FILE, Cluster), _read(directory, ACCOUNT_FILE, Account))


def _read(directory: str, name: str, kind: type[_Part]) -> _Part:
    path = Path(directory) / name
    fix = "Create the files with `irsa-sidecar audit --save DIRECTORY`"
    try:
        part = msgspec.json.decode(_content(path), type=kind)
    except OSError as exc:
        raise ConfigurationError(
            f"--from is {directory}: {name} cannot be read ({exc.strerror or exc})", fix=fix, setting="--from"
        ) from exc
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:  # text that is not UTF-8 causes a ValueError
        raise ConfigurationError(
            f"--from is {directory}: {name} is not a saved inventory ({exc})", fix=fix, setting="--from"
        ) from exc
    if part.version != VERSION:
        raise ConfigurationError(
            f"--from is {directory}: {name} has version {part.version}, and this release reads {VERSION}",
            fix=fix,
            setting="--from",
        )
    return part


def _content(path: Path) -> bytes:
    """
    Return the content of the file.

    Raises OSError if it is not a regular file, because a read of a FIFO would wait for its writer.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
    return path.read_bytes()
