"""Test the directory and the lock of the background process. tests/end_to_end/test_local_background.py forks it."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.client.detached import (
    LOCK_FILE,
    LOG_FILE,
    TEXT_FILE,
    Place,
    Started,
    end_detached,
    open_place,
    run_detached,
)
from sidecar.errors import ConfigurationError, SidecarError

NO_PROCESS = 2**22 + 1
"""An id above the highest one of Linux (proc_sys_kernel(5), pid_max)."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a temporary directory of this test, whose mode is that of /tmp."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    directory.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    with open_place({"XDG_RUNTIME_DIR": str(runtime)}) as found:
        yield found


def held(place: Place, record: str) -> int:
    """Hold the lock, as a running process does, and write the record of this process into it."""
    lock = place.open(LOCK_FILE, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.pwrite(lock, record.encode(), 0)
    return lock


def test_place_is_private_and_in_the_runtime_directory(place: Place, tmp_path: Path) -> None:
    assert place.path == str(tmp_path / "runtime" / "irsa-sidecar")
    assert os.stat(place.path).st_mode & 0o777 == 0o700
    os.close(place.open(LOG_FILE, os.O_WRONLY))
    assert os.stat(place.log).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_runtime_directory_of_others_is_not_used(tmp_path: Path, temporary: Path, mode: int) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    runtime.chmod(mode)
    with open_place({"XDG_RUNTIME_DIR": str(runtime)}) as place:
        assert place.path == str(temporary / f"irsa-sidecar-{os.geteuid()}")


@pytest.mark.parametrize("runtime", ["", "relative", "/nowhere", "/dev/null", "\0"])
def test_unusable_runtime_directory_is_not_used(temporary: Path, runtime: str) -> None:
    with open_place({"XDG_RUNTIME_DIR": runtime}) as place:
        assert Path(place.path).parent == temporary


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create a directory of another user")
def test_directory_of_another_user_is_rejected(temporary: Path) -> None:
    """Another user may create the directory in /tmp first."""
    directory = temporary / f"irsa-sidecar-{os.geteuid()}"
    directory.mkdir(mode=0o700)
    os.chown(directory, 1001, 1001)
    with pytest.raises(ConfigurationError, match="belongs to another user"), open_place({}):
        pass


def test_link_of_another_user_is_rejected(temporary: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (temporary / f"irsa-sidecar-{os.geteuid()}").symlink_to(target)
    with pytest.raises(ConfigurationError, match="XDG_RUNTIME_DIR"), open_place({}):
        pass
    assert list(target.iterdir()) == []


def test_link_in_the_directory_is_not_followed(place: Place, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("keep")
    Path(place.log).symlink_to(mine)
    with pytest.raises(ConfigurationError, match=r"local\.log"):
        place.open(LOG_FILE, os.O_WRONLY | os.O_TRUNC)
    assert mine.read_text() == "keep"


def test_machine_without_a_temporary_directory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(ConfigurationError, match="/nowhere/irsa-sidecar"), open_place({}):
        pass


def test_stop_without_a_process_changes_nothing(place: Place) -> None:
    assert end_detached(place) is None


def test_stale_process_id_is_never_signalled(place: Place) -> None:
    """After a crash, the lock is free, and its process id can belong to another process."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = Path(f"/proc/{other.pid}/stat").read_text().split()[21]
    Path(place.path, LOCK_FILE).write_text(f"{other.pid} {started}\n")
    assert end_detached(place) is None
    other.communicate(b"\n")
    assert other.returncode == 0


@pytest.mark.parametrize("exists", [True, False])
def test_id_of_another_process_is_never_signalled(place: Place, *, exists: bool) -> None:
    """In another process namespace, the holder's id can belong to no process, or to one with another start time."""
    lock = held(place, f"{os.getpid() if exists else NO_PROCESS} 1\n")
    with pytest.raises(SidecarError, match="not visible here"):
        end_detached(place)
    os.close(lock)


def test_process_that_does_not_end_is_reported(place: Place) -> None:
    """The process ignores SIGTERM. It inherits the lock, and closes it only when it ends."""
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); input()"
    lock = held(place, "")
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[lock]
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"ready\n"
    os.pwrite(lock, f"{other.pid} {Path(f'/proc/{other.pid}/stat').read_text().split()[21]}\n".encode(), 0)
    os.close(lock)
    with pytest.raises(SidecarError, match=f"kill -KILL {other.pid}"):
        end_detached(place, stop_seconds=0)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert end_detached(place) is None


def test_process_that_is_about_to_start_is_reported(place: Place) -> None:
    lock = held(place, "")
    with pytest.raises(SidecarError, match="about to start"):
        end_detached(place, stop_seconds=0)
    os.close(lock)


def test_second_process_is_rejected_and_keeps_the_log(place: Place) -> None:
    lock = held(place, "4242 1\n")
    Path(place.log).write_text("of the first process")
    with pytest.raises(ConfigurationError, match="process 4242"):
        run_detached(place, lambda _report: 0, "settings")
    assert Path(place.log).read_text() == "of the first process"
    os.close(lock)


@pytest.mark.parametrize("name", [LOCK_FILE, LOG_FILE])
@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_special_file_is_rejected_without_waiting(place: Place, name: str, kind: int) -> None:
    """Without O_NONBLOCK, the open of a FIFO waits for another program."""
    os.mknod(Path(place.path, name), kind | 0o600)
    with pytest.raises(ConfigurationError, match=name):
        run_detached(place, lambda _report: 0, "settings")


@pytest.mark.parametrize("pid", ["0", "-1", str(2**31), str(2**64), "9" * 90, "\u0663"])
def test_impossible_process_id_is_never_signalled(place: Place, pid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda *call: pytest.fail(f"kill{call}"))
    lock = held(place, f"{pid} \n")
    with pytest.raises(SidecarError, match="about to start"):
        end_detached(place, stop_seconds=0)
    os.close(lock)


@pytest.mark.parametrize(
    ("stored", "is_returned"),
    [
        ("lines;\n# 4242 1 settings\n", True),
        ("lines;\n# 4242 1 other\n", False),
        ("lines;\n# 4242 2 settings\n", False),
        ("lines;\n# 4242 1 set", False),
        ("", False),
    ],
)
def test_stored_text_is_of_this_process_and_settings(place: Place, stored: str, *, is_returned: bool) -> None:
    """A text that an earlier process or a full disk left is not returned."""
    lock = held(place, "4242 1\n")
    Path(place.path, TEXT_FILE).write_text(stored)
    if is_returned:
        assert run_detached(place, lambda _report: 0, "settings") == Started("lines;\n", is_new=False)
    else:
        with pytest.raises(ConfigurationError, match="process 4242 with other settings"):
            run_detached(place, lambda _report: 0, "settings")
    os.close(lock)
