"""Test the files in the state directory: files that are not used, and failed or hung writes."""

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.daemon import state_directory
from sidecar.daemon.saved_state import MAX_STATE_BYTES, file_name
from sidecar.files import replace_secret_file
from sidecar.refresh.refresher import REMINDER_SECONDS
from sidecar.refresh.schedule import CHECK_SECONDS
from tests.support.users import needs_root
from tests.unit.daemon.restarted_pod import MAIN, Machine, key


def in_place_of_the_file(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(path: Path) -> None:
        path.rename(path.parent / "other")
        make(path)

    return replace


def damaged(content: bytes) -> dict[str, Callable[[Path], object]]:
    """Return functions that damage the file at a path, by the name of the damage."""
    half = len(content) // 2
    return {
        "empty": lambda path: path.write_bytes(b""),
        "truncated": lambda path: path.write_bytes(content[:half]),
        "a byte less": lambda path: path.write_bytes(content[:-2]),
        "a changed byte": lambda path: path.write_bytes(content[:half] + b"#" + content[half + 1 :]),
        "text": lambda path: path.write_text("no state"),
        "json": lambda path: path.write_text(json.dumps({"credentials": {}})),
        "zeros": lambda path: path.write_bytes(bytes(len(content))),
        "too large": lambda path: path.write_bytes(content + b" " * MAX_STATE_BYTES),
        "huge and sparse": lambda path: os.truncate(path, 2**40),
        "a link": in_place_of_the_file(lambda path: path.symlink_to("other")),
        "a link to nothing": in_place_of_the_file(lambda path: path.symlink_to("nowhere")),
        "a link to a device": in_place_of_the_file(lambda path: path.symlink_to("/dev/zero")),
        "a FIFO": in_place_of_the_file(lambda path: os.mkfifo(path, 0o600)),
        "a directory": in_place_of_the_file(Path.mkdir),
        "readable by others": lambda path: path.chmod(0o644),
        "writable by the group": lambda path: path.chmod(0o620),
    }


HEALTH = {"skew_seconds": "x", "session_seconds": [], "token_expires_at": "x", "last_error": 5, "last_error_step": None}


@pytest.mark.parametrize("field", sorted(HEALTH))
async def test_health_of_another_version_is_ignored(autojump_clock: MockClock, machine: Machine, field: str) -> None:
    """Use invalid fields. An earlier version loaded them, and then raised exceptions in metrics and refreshes."""
    async with machine.process():
        await trio.sleep(1)
    path = machine.directory / MAIN
    body = json.loads(path.read_text().partition("\n")[2])
    body["health"][field] = HEALTH[field]
    text = json.dumps(body)
    path.write_text(f"irsa-sidecar state 1 {hashlib.sha256(text.encode()).hexdigest()}\n{text}\n")
    async with machine.process() as daemon:
        assert key(daemon) is None
        await trio.sleep(1)
        assert key(daemon) == "ASIAFAKE0002"
    assert len(machine.logged("saved_credentials_ignored")) == 1


async def test_unexpected_error_in_a_restore_skips_only_that_file(
    autojump_clock: MockClock, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine.process():
        await trio.sleep(1)

    def fail(*_: Any) -> None:
        raise RecursionError

    with monkeypatch.context() as patch:
        patch.setattr(state_directory, "decode", fail)
        async with machine.process() as daemon:
            await trio.sleep(1)
            assert key(daemon) == "ASIAFAKE0002"
    assert len(machine.logged("saved_credentials_ignored")) == 1


@pytest.mark.parametrize("way", list(damaged(b"xx")))
async def test_unusable_file_is_ignored_logged_and_replaced(
    autojump_clock: MockClock, machine: Machine, way: str
) -> None:
    async with machine.process():
        await trio.sleep(1)
    path = machine.directory / MAIN
    damaged(path.read_bytes())[way](path)
    async with machine.process() as daemon:
        assert key(daemon) is None
        await trio.sleep(1)
        assert key(daemon) == "ASIAFAKE0002"
    (ignored,) = machine.logged("saved_credentials_ignored")
    assert ignored["role_name"] == "default"
    assert "secret" not in str(machine.events)
    if way == "a directory":
        path.rmdir()
    else:
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        async with machine.process() as daemon:
            assert key(daemon) == "ASIAFAKE0002"


async def test_file_that_another_daemon_removes_is_written_again(autojump_clock: MockClock, machine: Machine) -> None:
    """Use a second daemon with the same directory. It removes the files of roles that it does not have."""
    async with machine.process(machine.role("one")):
        await trio.sleep(1)
        async with machine.process(machine.role("other")):
            await trio.sleep(3 * CHECK_SECONDS)
            assert {path.name for path in machine.directory.iterdir()} == {file_name("one"), file_name("other")}


async def test_directory_that_vanishes_is_reported(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process() as daemon:
        await trio.sleep(1)
        machine.directory.rename(machine.directory.with_name("elsewhere"))
        await trio.sleep(2 * CHECK_SECONDS)
        assert key(daemon) == "ASIAFAKE0001"
        (failed,) = machine.logged("state_write_failed")
        assert failed["reason"] == "No such file or directory"
        machine.directory.with_name("elsewhere").rename(machine.directory)
        (machine.directory / MAIN).unlink()
        await trio.sleep(2 * CHECK_SECONDS)
        assert (machine.directory / MAIN).exists()


@needs_root
async def test_file_of_another_user_is_ignored(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(1)
    os.chown(machine.directory / MAIN, 12_345, -1)
    async with machine.process() as daemon:
        assert key(daemon) is None
    assert "other users own it" in machine.logged("saved_credentials_ignored")[0]["reason"]


# Writing


async def test_files_and_directory_are_private_to_the_owner(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(1)
    assert stat.S_IMODE(machine.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((machine.directory / MAIN).stat().st_mode) == 0o600


async def test_failed_write_is_logged_counted_and_tried_again(autojump_clock: MockClock, machine: Machine) -> None:
    machine.error = OSError(28, "No space left on device")
    async with machine.process() as daemon:
        await trio.sleep(REMINDER_SECONDS - 1)
        assert key(daemon) == "ASIAFAKE0001"
        assert [entry["reason"] for entry in machine.logged("state_write_failed")] == ["No space left on device"]
        assert daemon.metrics.state_writes["failure"] == pytest.approx(REMINDER_SECONDS / CHECK_SECONDS, abs=2)
        machine.error = None
        await trio.sleep(CHECK_SECONDS)
        assert daemon.metrics.state_writes["success"] == 1
    async with machine.process() as daemon:
        assert key(daemon) == "ASIAFAKE0001"


async def test_state_is_written_only_after_a_change(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process() as daemon:
        await trio.sleep(9 * 3600)
        assert 18 <= len(machine.sts.called_at) <= 20
        assert daemon.metrics.state_writes == {"success": len(machine.sts.called_at)}


async def test_hung_write_does_not_replace_newer_credentials(
    autojump_clock: MockClock, machine: Machine, real_file_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that serving continues, that one thread waits, and that the newest credentials are written last."""
    hangs, written = threading.Event(), list[str]()

    def replace(path: str, text: str, mode: int) -> None:
        hangs.wait()
        written.append(text.partition("ASIA")[2][:8])
        replace_secret_file(path, text, mode)

    monkeypatch.setattr(state_directory, "replace_secret_file", replace)
    autojump_clock.autojump_threshold = 0.02  # enough time for a thread that does not hang
    machine.sts.life_seconds = 60
    async with machine.process() as daemon:
        await trio.sleep(45)
        assert key(daemon) == "ASIAFAKE0002"
        assert "its volume hangs" in machine.logged("state_write_failed")[0]["reason"]
        hangs.set()
        await trio.sleep(CHECK_SECONDS)
    assert written == sorted(written)
    assert written[-1] == "FAKE0002"
    assert len(written) == 2
