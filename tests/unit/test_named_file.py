"""Test files that a person names: pipes, devices, sizes, and a closed stdin."""

import io
import os
import sys
from pathlib import Path
from threading import Thread

import pytest

from sidecar.errors import ConfigurationError
from sidecar.named_file import read_named_file


def read(path: str, limit: int = 10) -> bytes:
    return read_named_file("--file", path, limit=limit, fix="Use another file")


def test_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read(str(tmp_path / "file")) == b"0123456789"


def test_pipe_is_read_until_its_writer_closes_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=(b"content",))
    writer.start()
    assert read(str(tmp_path / "pipe")) == b"content"
    writer.join()


def test_stdin_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"content")))
    assert read("-") == b"content"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/dev/zero", "which cannot be read (it is a device)"),
        ("/dev/null", "which cannot be read (it is a device)"),
        ("/", "which cannot be read (Is a directory)"),
        ("", "which cannot be read (No such file or directory)"),
        ("a\0b", "which cannot be read (embedded null byte)"),
        ("\ud800", "which cannot be read ("),
        ("/proc/self/status", "which has more than 10 bytes"),
    ],
)
def test_unusable_file_is_reported(path: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    assert f"--file is {path}, {problem}" in str(caught.value)
    assert caught.value.fix == "Use another file"


def test_closed_stdin_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigurationError, match=r"--file is -, which cannot be read \(stdin is closed\)"):
        read("-")
