"""Provide the fakes to every test, and check that no test leaves resources behind."""

import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from trio.testing import MockClock

from sidecar import file_thread
from sidecar.file_thread import Operation
from sidecar.serving import connection
from tests.support.exchanges import Authority
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.hanging_volume import HangingDirectories
from tests.support.fakes.kubelet import FakeVolume
from tests.support.scene import Scene, make_scene
from tests.support.served import Served, serving

# Every run uses the same examples, so a failure is reproducible everywhere. HYPOTHESIS_PROFILE=explore tries other
# examples and prints how to repeat a failure. There are no deadlines, because machines vary in speed.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


REAL_START_THREAD = file_thread.start_thread

# A shell makes its background processes ignore the first two signals, and nohup makes a process ignore SIGHUP. The
# processes under test would also ignore them.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


def _open_files() -> set[str]:
    """Return each descriptor of this process with its target. On a system without /proc, return nothing."""
    directory = "/proc/self/fd"
    if not os.path.isdir(directory):
        return set()
    found = set()
    for name in os.listdir(directory):
        try:
            found.add(f"{name} {os.readlink(f'{directory}/{name}')}")
        except OSError:
            continue
    return found


def _what_signals_do() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


@pytest.fixture(autouse=True)
def server_sees_clients_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tests with a fake clock, accept silent clients at once, because this clock cannot move the kernel's timer."""
    if "mock_clock" in request.fixturenames or "autojump_clock" in request.fixturenames:
        monkeypatch.setattr(connection, "_DEFER_ACCEPT", None)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """
    Check that no socket, pipe, inotify instance or thread is left, and that signal handlers are restored.

    The check excludes trio's tasks, because a nursery waits for its tasks.
    """
    files, threads, signals = _open_files(), set(threading.enumerate()), _what_signals_do()
    yield
    assert _what_signals_do() == signals
    if _open_files() - files:
        gc.collect()  # an object that only a traceback or a cycle holds is not a leak
    # Trio keeps an idle worker thread for a while, for the next name to resolve.
    left = {thread for thread in set(threading.enumerate()) - threads if not thread.name.startswith("Trio")}
    assert not left, f"threads left behind: {left}"
    new = {entry for entry in _open_files() - files if "socket:" in entry or "inotify" in entry or "pipe:" in entry}
    assert not new, f"descriptors left behind: {new}"


@pytest.fixture(autouse=True)
def file_operations_in_virtual_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run file operations without a thread. While a thread works, an autojumping clock would reach the deadline."""
    if {"autojump_clock", "mock_clock"} & set(request.fixturenames):
        monkeypatch.setattr(file_thread, "start_thread", Operation.run)


@pytest.fixture(autouse=True)
def temporary_files_may_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat test files as if they were on a disk, even if /tmp is a tmpfs."""
    monkeypatch.setattr(file_thread, "is_in_memory", lambda _path: False)


@pytest.fixture
def real_file_threads(file_operations_in_virtual_time: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run file operations in real threads again, for tests in which an operation hangs until the test ends it."""
    monkeypatch.setattr(file_thread, "start_thread", REAL_START_THREAD)


@pytest.fixture
def volumes(file_operations_in_virtual_time: None, monkeypatch: pytest.MonkeyPatch) -> HangingDirectories:
    """Provide directories that a test can make hang, in virtual time."""
    directories = HangingDirectories()
    monkeypatch.setattr(file_thread, "start_thread", directories.start_thread)
    return directories


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all proxy settings, so that only the proxies of the test apply."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, no_proxies: None) -> None:
    """Remove the user's settings for AWS SDKs and for this program, such as AWS_PROFILE."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "IRSA_SIDECAR_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def wall(autojump_clock: object) -> FakeWall:
    return FakeWall()


@pytest.fixture
def volume(tmp_path: Path) -> FakeVolume:
    return FakeVolume(tmp_path)


@pytest.fixture
async def scene(wall: FakeWall, volume: FakeVolume) -> Scene:
    return make_scene(wall, volume)


@pytest.fixture
async def served(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> AsyncIterator[Served]:
    """Run the daemon with its first credentials, on a real socket and in virtual time."""
    async with serving(autojump_clock, wall, volume) as served:
        yield served
