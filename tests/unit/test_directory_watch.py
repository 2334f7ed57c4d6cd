"""
Test the watch on real directories, with events of the kernel.

These tests never wait for real time. Trio's clock moves only when a test moves it, and the kernel queues an event
before the call that causes the event returns.
"""

import os
import resource
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from sidecar import directory_watch
from sidecar.directory_watch import REOPEN_SECONDS, SETTLE_SECONDS, masks_by_watch, watch_directory
from sidecar.file_thread import DEADLINE_SECONDS, TURN_SECONDS
from tests.support.fakes.hanging_volume import HangingDirectories
from tests.support.fakes.kubelet import FakeVolume

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify exists only on Linux")


class Watch:
    """A running watch. `calls` counts the calls of `changed`. Only the test moves the clock."""

    def __init__(self, clock: MockClock) -> None:
        self.calls = 0
        self._clock = clock

    def changed(self) -> None:
        self.calls += 1

    async def after(self, seconds: float = SETTLE_SECONDS) -> int:
        """Return the number of calls after this time has passed."""
        await wait_all_tasks_blocked()
        self._clock.jump(seconds)
        await wait_all_tasks_blocked()
        return self.calls


@asynccontextmanager
async def watching(path: str | Path, clock: MockClock) -> AsyncIterator[Watch]:
    watch = Watch(clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_directory, str(path), watch.changed)
        await wait_all_tasks_blocked()
        yield watch
        nursery.cancel_scope.cancel()


async def test_new_watch_calls_the_follower_once(tmp_path: Path, mock_clock: MockClock) -> None:
    async with watching(tmp_path, mock_clock) as watch:
        assert watch.calls == 1


async def test_rotation_causes_one_call_after_the_token_changed(volume: FakeVolume, mock_clock: MockClock) -> None:
    volume.write("token 0")
    async with watching(volume.directory, mock_clock) as watch:
        for turn in range(1, 6):
            volume.write(f"token {turn}")
            assert await watch.after() == 1 + turn
            assert (volume.directory / "token").read_text() == f"token {turn}"


async def test_quick_rotations_cause_one_call(volume: FakeVolume, mock_clock: MockClock) -> None:
    async with watching(volume.directory, mock_clock) as watch:
        for turn in range(10):
            volume.write(f"token {turn}")
        assert await watch.after() == 2


async def test_watch_waits_for_the_end_of_a_rotation(volume: FakeVolume, mock_clock: MockClock) -> None:
    async with watching(volume.directory, mock_clock) as watch:
        volume.write("token")
        assert await watch.after(SETTLE_SECONDS / 2) == 1
        assert await watch.after(SETTLE_SECONDS / 2) == 2


async def test_write_to_a_file_causes_a_call(tmp_path: Path, mock_clock: MockClock) -> None:
    (tmp_path / "token").write_text("one")
    async with watching(tmp_path, mock_clock) as watch:
        (tmp_path / "token").write_text("two")
        assert await watch.after() == 2


async def test_rename_of_a_file_causes_a_call(tmp_path: Path, mock_clock: MockClock) -> None:
    (tmp_path / "draft").write_text("two")
    async with watching(tmp_path, mock_clock) as watch:
        (tmp_path / "draft").rename(tmp_path / "token")
        assert await watch.after() == 2


async def test_read_of_a_file_causes_no_call(volume: FakeVolume, mock_clock: MockClock) -> None:
    volume.write("token")
    async with watching(volume.directory, mock_clock) as watch:
        (volume.directory / "token").read_text()
        assert await watch.after(86_400) == 1


async def test_events_that_exceed_one_read_are_all_read(tmp_path: Path, mock_clock: MockClock) -> None:
    async with watching(tmp_path, mock_clock) as watch:
        for number in range(300):
            (tmp_path / f"{number:0200}").touch()
        assert await watch.after() == 2
        assert await watch.after(3600) == 2


async def test_directory_created_later_is_watched(tmp_path: Path, mock_clock: MockClock) -> None:
    directory = tmp_path / "late"
    async with watching(directory, mock_clock) as watch:
        assert await watch.after(REOPEN_SECONDS) == 0
        directory.mkdir()
        assert await watch.after(REOPEN_SECONDS) == 1
        (directory / "token").touch()
        assert await watch.after() == 2


@pytest.mark.parametrize("way", ["deleted", "moved"])
async def test_replaced_directory_is_watched_again(tmp_path: Path, mock_clock: MockClock, way: str) -> None:
    directory = tmp_path / "volume"
    directory.mkdir()
    async with watching(directory, mock_clock) as watch:
        directory.rmdir() if way == "deleted" else directory.rename(tmp_path / "elsewhere")
        directory.mkdir()
        assert await watch.after() == 2
        assert await watch.after(REOPEN_SECONDS) == 3
        (directory / "token").touch()
        assert await watch.after() == 4


def _runs(*command: str | Path) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


async def test_unmounted_volume_is_watched_again(tmp_path: Path, mock_clock: MockClock) -> None:
    if os.geteuid() != 0 or not _runs("mount", "-t", "tmpfs", "tmpfs", tmp_path):
        pytest.skip("mounting needs root and CAP_SYS_ADMIN")
    async with watching(tmp_path, mock_clock) as watch:
        assert _runs("umount", tmp_path)
        assert await watch.after() == 2
        assert await watch.after(REOPEN_SECONDS) == 3
        (tmp_path / "token").touch()
        assert await watch.after() == 4


async def test_watch_without_free_descriptors_tries_again(tmp_path: Path, mock_clock: MockClock) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        async with watching(tmp_path, mock_clock) as watch:
            assert watch.calls == 0
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert await watch.after(REOPEN_SECONDS) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _instances() -> list[str]:
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return [link for link in links if os.path.islink(link) and "inotify" in os.readlink(link)]


def _watches() -> int:
    """Return the number of watches that the kernel has for the instance (proc(5), fdinfo)."""
    (instance,) = _instances()
    text = Path(instance.replace("/fd/", "/fdinfo/")).read_text()
    return sum(line.startswith("inotify wd:") for line in text.splitlines())


@pytest.mark.parametrize("count", [1, 2, 50])
async def test_all_directories_share_one_instance(tmp_path: Path, mock_clock: MockClock, count: int) -> None:
    directories = [tmp_path / str(number) for number in range(count)]
    watches = [Watch(mock_clock) for _ in directories]
    async with trio.open_nursery() as nursery:
        for directory, watch in zip(directories, watches, strict=True):
            directory.mkdir()
            nursery.start_soon(watch_directory, str(directory), watch.changed)
        await wait_all_tasks_blocked()
        assert len(_instances()) == 1
        assert _watches() == count
        (directories[-1] / "token").touch()
        await watches[-1].after()
        assert [watch.calls for watch in watches] == [1] * (count - 1) + [2]
        nursery.cancel_scope.cancel()
    assert _watches() == 0


async def test_followers_of_one_directory_share_its_watch(tmp_path: Path, mock_clock: MockClock) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    async with watching(tmp_path, mock_clock) as first:
        async with watching(tmp_path / "link", mock_clock) as second:
            assert _watches() == 1
            (tmp_path / "token").touch()
            assert (await first.after(), second.calls) == (2, 2)
        (tmp_path / "token").unlink()
        (tmp_path / "token").touch()
        assert (await first.after(), second.calls) == (3, 2)


async def test_failed_inotify_instance_is_opened_again(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    async with watching(tmp_path, mock_clock) as watch:
        with monkeypatch.context() as patched:
            patched.setattr(directory_watch._Instance, "_read", fail)
            (tmp_path / "token").touch()
            await watch.after()
            assert _instances() == []
        assert await watch.after(REOPEN_SECONDS) == 2
        (tmp_path / "token").unlink()
        (tmp_path / "token").touch()
        assert await watch.after() == 3


@pytest.mark.parametrize("bug", [ValueError(), RecursionError(), KeyError(), MemoryError()], ids=repr)
async def test_bug_in_the_watch_does_not_end_the_run(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, bug: Exception
) -> None:
    """Let the task that reads the events fail. It is a system task of trio, whose exceptions would end the process."""

    def fail(_events: bytes) -> dict[int, int]:
        raise bug

    async with watching(tmp_path, mock_clock) as watch:
        with monkeypatch.context() as patch:
            patch.setattr(directory_watch, "masks_by_watch", fail)
            (tmp_path / "file").touch()
            await watch.after()
        assert await watch.after(REOPEN_SECONDS) == 2  # a new watch was added
        (tmp_path / "another").touch()
        assert await watch.after() == 3


async def test_watch_is_added_again_after_a_bug(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise AttributeError("a C library without inotify_init1")

    with monkeypatch.context() as patch:
        patch.setattr(directory_watch, "_open_instance", fail)
        async with watching(tmp_path, mock_clock) as watch:
            assert await watch.after() == 0
            patch.undo()
            assert await watch.after(REOPEN_SECONDS) == 1


async def test_overflow_of_the_queue_calls_every_follower(tmp_path: Path, mock_clock: MockClock) -> None:
    directories = [tmp_path / "a", tmp_path / "b"]
    for directory in directories:
        directory.mkdir()
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 20_000:
        pytest.skip("fs.inotify.max_queued_events is too large to fill the queue")
    async with watching(directories[0], mock_clock) as busy, watching(directories[1], mock_clock) as quiet:
        for number in range(most + 1):  # each write causes an event that differs from the previous event
            (directories[0] / f"{number % 2}").write_bytes(b"")
        assert (await busy.after(), quiet.calls) == (2, 2)


async def test_hung_directory_does_not_delay_another(
    tmp_path: Path, mock_clock: MockClock, volumes: HangingDirectories
) -> None:
    hung, healthy = tmp_path / "hung", tmp_path / "healthy"
    for directory in (hung, healthy):
        directory.mkdir()
    with volumes.hang(f"{hung}/"):
        async with watching(hung, mock_clock) as stuck, watching(healthy, mock_clock) as watch:
            await watch.after(TURN_SECONDS)
            assert watch.calls == 1
            (healthy / "token").touch()
            assert await watch.after() == 2
            assert await stuck.after(DEADLINE_SECONDS + REOPEN_SECONDS) == 0
            assert volumes.blocked == 1


async def test_system_without_inotify_has_no_watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[None] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    await watch_directory(str(tmp_path), lambda: calls.append(None))
    assert calls == []


@given(
    st.lists(st.tuples(st.integers(-1, 5), st.integers(0, 2**32 - 1), st.binary(max_size=255))), st.binary(max_size=15)
)
def test_masks_of_the_events_of_one_watch_are_combined(events: list[tuple[int, int, bytes]], rest: bytes) -> None:
    expected: dict[int, int] = {}
    for watch, mask, _ in events:
        expected[watch] = expected.get(watch, 0) | mask
    assert masks_by_watch(b"".join(_event(*event) for event in events) + rest) == expected


def _event(watch: int, mask: int, name: bytes) -> bytes:
    padded = name + b"\0" * (16 - len(name) % 16) if name else b""
    return struct.pack("=iIII", watch, mask, 0, len(padded)) + padded
