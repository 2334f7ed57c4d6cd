"""Test which existing files and devices a file with a secret may replace."""

import os
import pty
from pathlib import Path

import pytest

from sidecar.files import replace_secret_file


def test_device_is_never_replaced() -> None:
    """Root could replace /dev/null with a file, and every program on the machine would then write into the file."""
    primary, secondary = pty.openpty()
    try:
        with pytest.raises(OSError, match="it is a device"):
            replace_secret_file(os.ttyname(secondary), "secret")
    finally:
        os.close(primary)
        os.close(secondary)


@pytest.mark.parametrize("kind", ["file", "link", "broken link", "fifo"])
def test_file_link_or_pipe_is_replaced(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "path", tmp_path / "other"
    other.write_text("other")
    if kind == "file":
        path.write_text("before")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(other if kind == "link" else "nowhere")
    replace_secret_file(str(path), "secret")
    assert path.read_text() == "secret"
    assert not path.is_symlink()
    assert other.read_text() == "other"
