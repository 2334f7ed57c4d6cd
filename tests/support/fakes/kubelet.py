"""Fake a projected token volume: the steps of the kubelet's AtomicWriter in a real directory."""

import os
import shutil
from itertools import count
from pathlib import Path


class FakeVolume:
    """A volume with the file `token` in `directory`. The path goes through `..data`, as in a Pod."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = str(directory / "token")
        self._numbers = count()

    def write(self, content: str | bytes) -> None:
        """Replace the token as the kubelet does in a rotation."""
        data = content.encode() if isinstance(content, str) else content
        fresh = self.directory / f"..2027_01_15_{next(self._numbers)}"
        fresh.mkdir()
        (fresh / "token").write_bytes(data)
        current = self.directory / "..data"
        old = current.readlink() if current.is_symlink() else None
        draft = self.directory / "..data_tmp"
        draft.symlink_to(fresh.name)
        draft.rename(current)
        if not (self.directory / "token").is_symlink():
            (self.directory / "token").symlink_to("..data/token")
        if old is not None:
            shutil.rmtree(self.directory / old)

    def remove(self) -> None:
        os.unlink(self.path)
