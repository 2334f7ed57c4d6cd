"""Test blocking file operations in threads: results, deadlines, and the effect of a hung volume on others."""

import _thread
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from sidecar import file_thread, mounts
from sidecar.errors import FileTimeoutError
from sidecar.file_thread import DEADLINE_SECONDS, TURN_SECONDS, Operation, check, in_thread, shared_check
from sidecar.files import file_version
from tests.support.fakes.hanging_volume import HangingVolume, hanging_volume

HUNG, HEALTHY = "/hung/file", "/healthy/file"


@pytest.mark.parametrize("path", [HEALTHY, "file", "/file", "", "/a/very/../long//path"])
async def test_in_thread_returns_the_result(path: str) -> None:
    loop_thread = threading.get_ident()
    assert await in_thread(path, lambda word, number: (word, number), "word", 2) == ("word", 2)
    assert await in_thread(path, threading.get_ident) != loop_thread


@pytest.mark.parametrize("error", [FileNotFoundError(2, "no such file"), ValueError("bad"), SystemExit(3)])
async def test_in_thread_raises_the_exception_of_the_function(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await in_thread(HEALTHY, fail)
    assert caught.value is error


async def test_no_thread_is_left_after_an_operation() -> None:
    before = _thread._count()
    await in_thread(HEALTHY, os.stat, "/")
    while _thread._count() > before:  # the thread has reported its result and will end soon
        await trio.lowlevel.checkpoint()


async def test_operations_run_one_at_a_time() -> None:
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        os.stat("/")
        running -= 1

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(in_thread, f"/{number % 7}/file", work)
    assert most == 1


async def test_hung_operation_fails_at_its_deadline(autojump_clock: MockClock, real_file_threads: None) -> None:
    with hanging_volume() as volume:
        with pytest.raises(FileTimeoutError, match="/hung/file could not be used within 5 s"):
            await in_thread(HUNG, volume.read)
        assert trio.current_time() == pytest.approx(DEADLINE_SECONDS)


@pytest.mark.parametrize("path", [HUNG, "/hung/other"])
async def test_hung_directory_fails_at_once_without_a_thread(
    autojump_clock: MockClock, real_file_threads: None, path: str
) -> None:
    with hanging_volume() as volume:
        with pytest.raises(FileTimeoutError):
            await in_thread(HUNG, volume.read)
        volume.has_read.wait()
        threads, now = _thread._count(), trio.current_time()
        for _ in range(100):
            with pytest.raises(FileTimeoutError, match=path):
                await in_thread(path, volume.read)
        assert (_thread._count(), trio.current_time(), volume.reads) == (threads, now, 1)


async def test_hung_directory_delays_another_by_one_turn(autojump_clock: MockClock, real_file_threads: None) -> None:
    with hanging_volume() as volume:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_timeout, HUNG, volume.read)
            await trio.testing.wait_all_tasks_blocked()
            waited_from, done = trio.current_time(), trio.Event()

            def finish_at_once() -> None:
                pass

            async def read_healthy() -> None:
                autojump_clock.autojump_threshold = (
                    1.0  # the thread of the healthy directory is real, so it needs real time
                )
                await in_thread(HEALTHY, finish_at_once)
                done.set()

            autojump_clock.autojump_threshold = 0.0
            nursery.start_soon(read_healthy)
            await done.wait()
            assert trio.current_time() - waited_from == pytest.approx(TURN_SECONDS)
            autojump_clock.autojump_threshold = 0.0


async def _expect_timeout(path: str, function: Callable[[], object]) -> None:
    with pytest.raises(FileTimeoutError):
        await in_thread(path, function)


async def test_second_operation_in_a_slow_directory_waits(autojump_clock: MockClock, real_file_threads: None) -> None:
    autojump_clock.autojump_threshold = float("inf")
    results: list[str] = []

    async def read(volume: HangingVolume) -> None:
        results.append(await in_thread(HUNG, volume.read))

    with hanging_volume() as volume:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, volume)
            nursery.start_soon(read, volume)
            await trio.testing.wait_all_tasks_blocked()
            autojump_clock.jump(DEADLINE_SECONDS * 0.9)
            await trio.testing.wait_all_tasks_blocked()
            volume.has_read.wait()
            assert volume.reads == 1
            volume.release()
    assert results == ["read at last"] * 2


async def test_directory_is_usable_again_after_the_volume_returned(
    autojump_clock: MockClock, real_file_threads: None
) -> None:
    with hanging_volume() as volume:
        await _expect_timeout(HUNG, volume.read)
    autojump_clock.autojump_threshold = float("inf")
    while file_thread._operations_of_this_run().running:  # wait until the abandoned thread has reported its end
        await trio.lowlevel.checkpoint()
    assert await in_thread(HUNG, volume.read) == "read at last"


async def test_cancelled_waiter_leaves_the_operation_running(
    autojump_clock: MockClock, real_file_threads: None
) -> None:
    with hanging_volume() as volume:
        with trio.move_on_after(0.1) as scope:
            await in_thread(HUNG, volume.read)
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(0.1)
        await _expect_timeout("/hung/other", volume.read)
        assert trio.current_time() == pytest.approx(DEADLINE_SECONDS)
        volume.has_read.wait()
        assert volume.reads == 1


async def _leave_a_hung_operation(volume: HangingVolume) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_thread, HUNG, volume.read)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


def test_event_loop_ends_while_an_operation_hangs() -> None:
    with hanging_volume() as volume:
        trio.run(_leave_a_hung_operation, volume)
        volume.has_read.wait()
        threads = _thread._count()
    while _thread._count() >= threads:
        pass  # the thread ends without an exception, although the loop has ended


def test_hung_directory_does_not_affect_the_next_trio_run() -> None:
    with hanging_volume() as volume:

        async def next_main() -> str:
            return await in_thread(HUNG, lambda: "read")

        trio.run(_leave_a_hung_operation, volume)
        assert trio.run(next_main) == "read"


async def test_thread_that_cannot_start_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_operation: Operation) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(file_thread, "start_thread", fail)
        for _ in range(2):
            with pytest.raises(OSError, match="no thread can be started"):
                await in_thread(HEALTHY, os.stat, "/")
    assert (await in_thread(HEALTHY, os.stat, "/")).st_ino == os.stat("/").st_ino


# Results that callers share


async def test_calls_at_the_same_moment_share_one_operation() -> None:
    calls: list[str] = []

    def check(path: str) -> str:
        calls.append(path)
        return f"{path} {calls.count(path)}"

    results: list[str] = []

    async def share(path: str) -> None:
        results.append(await shared_check(path, check))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(share, HEALTHY)
        nursery.start_soon(share, "/healthy/other")
    assert sorted(calls) == [HEALTHY, "/healthy/other"]
    assert sorted(results) == sorted([f"{HEALTHY} 1"] * 50 + ["/healthy/other 1"])
    assert await shared_check(HEALTHY, check) == f"{HEALTHY} 2"


async def test_failed_operation_is_repeated_for_each_caller() -> None:
    calls: list[str] = []

    def fail(path: str) -> None:
        calls.append(path)
        raise OSError(2, path)

    async def share() -> None:
        with pytest.raises(OSError, match=HEALTHY):
            await shared_check(HEALTHY, fail)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(share)
    assert len(calls) == 5


async def test_cancelled_call_does_not_cancel_other_calls(autojump_clock: MockClock, real_file_threads: None) -> None:
    autojump_clock.autojump_threshold = float("inf")
    results: list[str] = []
    with hanging_volume() as volume:

        def read(_path: str) -> str:
            return volume.read()

        async def share() -> None:
            results.append(await shared_check(HUNG, read))

        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as first:
                first.start_soon(shared_check, HUNG, read)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(share)
                await trio.testing.wait_all_tasks_blocked()
                first.cancel_scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            volume.release()
    assert results == ["read at last"]


# Files in memory


class Threads:
    """A counter of the started threads."""

    def __init__(self) -> None:
        self.count = 0

    def start(self, operation: Operation) -> None:
        self.count += 1
        operation.run()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    found = Threads()
    monkeypatch.setattr(file_thread, "start_thread", found.start)
    return found


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "file").write_text("x")
    return str(tmp_path / "file")


@pytest.mark.parametrize("run", [check, shared_check])
@pytest.mark.parametrize("started", [1, 5])
async def test_check_of_a_file_in_memory_needs_no_thread(
    monkeypatch: pytest.MonkeyPatch, threads: Threads, path: str, run: Any, started: int
) -> None:
    monkeypatch.setattr(file_thread, "is_in_memory", lambda _path: started == 1)
    arguments = [path] if run is check else []
    for _ in range(5):
        assert await run(path, file_version, *arguments) == file_version(path)
    assert threads.count == started


async def test_each_file_is_checked_for_memory_separately(
    monkeypatch: pytest.MonkeyPatch, threads: Threads, path: str
) -> None:
    """Use a link next to a file in memory, because a link may point to a volume that hangs."""
    link = f"{path}-link"
    monkeypatch.setattr(file_thread, "is_in_memory", lambda found: found == path)
    await check(path, file_version, path)
    assert threads.count == 1
    for count in (2, 3):
        await check(link, file_version, link)
        await shared_check(link, file_version)
        await check(path, file_version, link, others=[path, link])
        assert threads.count == 1 + 3 * (count - 1)
    await check(path, file_version, path, others=[path])
    await shared_check(path, file_version)
    assert threads.count == 7


async def test_reads_always_use_a_thread(monkeypatch: pytest.MonkeyPatch, threads: Threads, path: str) -> None:
    monkeypatch.setattr(file_thread, "is_in_memory", lambda _path: True)
    await check(path, file_version, path)
    await in_thread(path, file_version, path)
    assert threads.count == 2


async def test_missing_file_is_checked_in_a_thread_until_it_exists(
    monkeypatch: pytest.MonkeyPatch, threads: Threads, tmp_path: Path
) -> None:
    monkeypatch.setattr(file_thread, "is_in_memory", os.path.exists)
    path = str(tmp_path / "token")
    for _ in range(3):
        assert await check(path, file_version, path) is None
    (tmp_path / "token").write_text("x")
    for _ in range(3):
        assert await check(path, file_version, path) is not None
    assert threads.count == 4


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="this system has no /proc")
def test_is_in_memory_follows_links_to_the_file(tmp_path: Path) -> None:
    """Use a link to /proc, which does not count as memory, and /dev/shm, which is always a tmpfs."""
    (tmp_path / "link").symlink_to("/proc/self/status")
    assert not mounts.is_in_memory(str(tmp_path / "link"))
    assert not mounts.is_in_memory(str(tmp_path / "missing"))
    if os.path.ismount("/dev/shm"):
        assert mounts.is_in_memory("/dev/shm")
