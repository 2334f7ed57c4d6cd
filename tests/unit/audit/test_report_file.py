"""Test that a report replaces an earlier one as a whole."""

import errno
import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.audit.report_file import write_report


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "audit.json"
    path.write_text("earlier\n")
    path.chmod(0o640)
    return path


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limit the size of files, so that a longer write fails as on a full disk. Python ignores SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_report_replaces_the_earlier_one_and_keeps_its_mode(report: Path) -> None:
    write_report(str(report), "new\ud800\n")
    assert report.read_text() == "new\\ud800\n"
    assert stat.S_IMODE(report.stat().st_mode) == 0o640
    assert [each.name for each in report.parent.iterdir()] == ["audit.json"]


def test_new_report_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_report(str(tmp_path / "new"), "new\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_failed_write_leaves_the_earlier_report(report: Path) -> None:
    with file_size_limit(1_000), pytest.raises(OSError, match="File too large"):
        write_report(str(report), "x" * 2_000)
    assert report.read_text() == "earlier\n"
    assert [each.name for each in report.parent.iterdir()] == ["audit.json"]


def test_draft_of_a_killed_run_is_replaced(report: Path) -> None:
    report.with_name("audit.json.draft").write_text("half")
    write_report(str(report), "new\n")
    assert (report.read_text(), len([*report.parent.iterdir()])) == ("new\n", 1)


def test_target_of_a_link_is_replaced_and_the_link_stays(report: Path) -> None:
    link = report.with_name("latest")
    link.symlink_to(report.name)
    write_report(str(link), "new\n")
    assert (link.is_symlink(), report.read_text()) == (True, "new\n")


def test_fifo_receives_the_report(tmp_path: Path) -> None:
    """The shell gives a FIFO to a command in `>(COMMAND)`."""
    os.mkfifo(tmp_path / "fifo")
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "fifo").read_text()))
    reader.start()
    write_report(str(tmp_path / "fifo"), "new\n")
    reader.join()
    assert received == ["new\n"]
    assert (tmp_path / "fifo").is_fifo()


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EROFS, errno.EACCES])
def test_mounted_file_is_written_in_place(report: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A file that is mounted into a container cannot be replaced (rename(2), EBUSY)."""

    def rename(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "rename", rename)
    write_report(str(report), "new\n")
    assert (report.read_text(), len([*report.parent.iterdir()])) == ("new\n", 1)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_report(str(report.with_name("other")), "new\n")
