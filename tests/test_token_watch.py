"""
The watch on real directories, with the kernel's own events.

Nothing here waits for real time: trio's clock stands still until a test moves it, and the kernel has queued an event
when the call that caused it returns.
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

from sidecar.token_watch import REOPEN_SECONDS, SETTLE_SECONDS, _watch_is_lost, watch_directory
from tests.fakes.kubelet import FakeVolume

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")


class Watch:
    """A running watch. `calls` counts what it reported; the clock is the test's to move."""

    def __init__(self, clock: MockClock) -> None:
        self.calls = 0
        self._clock = clock

    def changed(self) -> None:
        self.calls += 1

    async def after(self, seconds: float = SETTLE_SECONDS) -> int:
        """How often it has called when this long has passed from what happened so far."""
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


async def test_a_new_watch_calls_once_for_what_may_have_happened_before(tmp_path: Path, mock_clock: MockClock) -> None:
    async with watching(tmp_path, mock_clock) as watch:
        assert watch.calls == 1


async def test_each_rotation_calls_once_with_the_new_token_in_place(volume: FakeVolume, mock_clock: MockClock) -> None:
    volume.write("token 0")
    async with watching(volume.directory, mock_clock) as watch:
        for turn in range(1, 6):
            volume.write(f"token {turn}")
            assert await watch.after() == 1 + turn
            assert (volume.directory / "token").read_text() == f"token {turn}"


async def test_rotations_that_follow_close_upon_each_other_call_once(volume: FakeVolume, mock_clock: MockClock) -> None:
    async with watching(volume.directory, mock_clock) as watch:
        for turn in range(10):
            volume.write(f"token {turn}")
        assert await watch.after() == 2


async def test_nothing_is_reported_before_the_rest_of_a_rotation_had_time_to_pass(
    volume: FakeVolume, mock_clock: MockClock
) -> None:
    async with watching(volume.directory, mock_clock) as watch:
        volume.write("token")
        assert await watch.after(SETTLE_SECONDS / 2) == 1
        assert await watch.after(SETTLE_SECONDS / 2) == 2


async def test_a_file_rewritten_in_place_calls(tmp_path: Path, mock_clock: MockClock) -> None:
    (tmp_path / "token").write_text("one")
    async with watching(tmp_path, mock_clock) as watch:
        (tmp_path / "token").write_text("two")
        assert await watch.after() == 2


async def test_a_file_renamed_into_place_calls(tmp_path: Path, mock_clock: MockClock) -> None:
    (tmp_path / "draft").write_text("two")
    async with watching(tmp_path, mock_clock) as watch:
        (tmp_path / "draft").rename(tmp_path / "token")
        assert await watch.after() == 2


async def test_reading_and_waiting_wake_nobody_up(volume: FakeVolume, mock_clock: MockClock) -> None:
    volume.write("token")
    async with watching(volume.directory, mock_clock) as watch:
        (volume.directory / "token").read_text()
        assert await watch.after(86_400) == 1


async def test_more_events_than_one_read_holds_are_all_taken(tmp_path: Path, mock_clock: MockClock) -> None:
    async with watching(tmp_path, mock_clock) as watch:
        for number in range(300):
            (tmp_path / f"{number:0200}").touch()
        assert await watch.after() == 2
        assert await watch.after(3600) == 2


async def test_a_directory_that_comes_late_is_watched_from_then_on(tmp_path: Path, mock_clock: MockClock) -> None:
    directory = tmp_path / "late"
    async with watching(directory, mock_clock) as watch:
        assert await watch.after(REOPEN_SECONDS) == 0
        directory.mkdir()
        assert await watch.after(REOPEN_SECONDS) == 1
        (directory / "token").touch()
        assert await watch.after() == 2


@pytest.mark.parametrize("way", ["deleted", "moved"])
async def test_a_replaced_directory_is_watched_again(tmp_path: Path, mock_clock: MockClock, way: str) -> None:
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


async def test_an_unmounted_volume_is_watched_again(tmp_path: Path, mock_clock: MockClock) -> None:
    if os.geteuid() != 0 or not _runs("mount", "-t", "tmpfs", "tmpfs", tmp_path):
        pytest.skip("mounting needs root and CAP_SYS_ADMIN")
    async with watching(tmp_path, mock_clock) as watch:
        assert _runs("umount", tmp_path)
        assert await watch.after() == 2
        assert await watch.after(REOPEN_SECONDS) == 3
        (tmp_path / "token").touch()
        assert await watch.after() == 4


async def test_a_process_out_of_descriptors_tries_again(tmp_path: Path, mock_clock: MockClock) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        async with watching(tmp_path, mock_clock) as watch:
            assert watch.calls == 0
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert await watch.after(REOPEN_SECONDS) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_cancelled_watch_leaves_nothing_open(tmp_path: Path, mock_clock: MockClock) -> None:
    before = os.listdir("/proc/self/fd")
    async with watching(tmp_path, mock_clock):
        assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    assert os.listdir("/proc/self/fd") == before


async def test_a_system_without_inotify_has_no_watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[None] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    await watch_directory(str(tmp_path), lambda: calls.append(None))
    assert calls == []


_IN_CREATE, _IN_MOVE_SELF, _IN_IGNORED, _IN_ISDIR = 0x0100, 0x0800, 0x8000, 0x4000_0000
_MASK = st.sampled_from([_IN_CREATE, _IN_MOVE_SELF, _IN_IGNORED, _IN_CREATE | _IN_ISDIR])


def _event(mask: int, name: bytes) -> bytes:
    padded = name + b"\0" * (16 - len(name) % 16) if name else b""
    return struct.pack("=iIII", 1, mask, 0, len(padded)) + padded


@given(st.lists(st.tuples(_MASK, st.binary(max_size=255))))
def test_the_end_of_a_watch_is_found_among_any_events(events: list[tuple[int, bytes]]) -> None:
    is_lost = any(mask & (_IN_MOVE_SELF | _IN_IGNORED) for mask, _ in events)
    assert _watch_is_lost(b"".join(_event(mask, name) for mask, name in events)) is is_lost
