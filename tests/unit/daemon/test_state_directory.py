"""Test the state directory: credentials that a restarted daemon serves or ignores, and the places of the files."""

import hashlib
import json
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.clock import Clock
from sidecar.daemon import state_directory
from sidecar.daemon.daemon import Daemon, Listeners, make_daemon
from sidecar.daemon.saved_state import MAX_STATE_BYTES, file_name
from sidecar.daemon.state_directory import Boot, StateDirectory, open_directory
from sidecar.errors import ConfigurationError, NextStep
from sidecar.file_thread import in_thread
from sidecar.files import replace_secret_file
from sidecar.mounts import filesystem_type
from sidecar.refresh.refresher import REMINDER_SECONDS, Sources
from sidecar.refresh.schedule import CHECK_SECONDS
from sidecar.role import ChainStep, Role
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.support.users import needs_linux, needs_root
from tests.unit.daemon.test_daemon import make_config, make_log

OUT = refusal("Unreachable", NextStep.RETRY)
ARN = "arn:aws:iam::111122223333:role/cart"
MAIN = file_name("default")


@dataclass
class Machine:
    """One Pod over several processes. Each process has its own monotonic clock; all processes share one boot clock."""

    wall: FakeWall
    sts: FakeExchange
    token_file: str
    directory: Path
    boot: Boot
    events: list[Any] = field(default_factory=list)
    starts: int = 0
    error: Exception | None = None

    def role(self, name: str = "default", **changes: Any) -> Role:
        return Role(name, ARN, self.token_file, None, 3600)._replace(**changes)

    def logged(self, event: str) -> list[Any]:
        return [entry for entry in self.events if entry["event"] == event]

    async def call(self, path: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.error is not None:
            raise self.error
        return await in_thread(path, function, *arguments)

    @asynccontextmanager
    async def process(self, *roles: Role, **sts: Any) -> AsyncIterator[Daemon]:
        """Run one process from its start until it is killed."""
        self.starts += 1
        self.events.clear()
        offset = 10_000.0 * self.starts
        clock = Clock(self.wall.time, lambda: trio.current_time() + offset)
        config = make_config(self.token_file)
        config = config._replace(roles=roles or (self.role(),), sts=config.sts._replace(**sts))
        log = make_log(self.events)
        daemon = make_daemon(config, self.sts, sources=Sources(clock, lambda: 0.5), log=log)
        path = open_directory(str(self.directory), allow_disk=True)
        daemon.state = StateDirectory(path, config.sts, clock=clock, boot=self.boot, log=log, metrics=daemon.metrics)
        daemon.state._call = self.call
        daemon.state.restore(daemon.roles)
        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.serve, Listeners())
            yield daemon
            nursery.cancel_scope.cancel()


def key(daemon: Daemon, role: str = "default") -> str | None:
    served = daemon.roles[role]
    valid = served.valid_snapshot(served.now())
    return valid.credentials.access_key_id if valid else None


@pytest.fixture
async def machine(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, tmp_path: Path) -> Machine:
    volume.write(service_account_token(wall.time(), lifetime_seconds=86_400))
    boot = Boot("a-boot", lambda: trio.current_time() + 777.0)
    sts = FakeExchange(wall.true_time)
    sts.latency_seconds = 0.5  # so that a test can check the state before the end of the first exchange
    return Machine(wall, sts, volume.path, tmp_path / "state", boot)


# A restart


async def test_restarted_daemon_serves_at_once_and_keeps_its_plan(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(60)
    for minutes in (5, 10, 5):
        async with machine.process() as daemon:
            assert key(daemon) == "ASIAFAKE0001"
            assert daemon.role.last_error is None
            await trio.sleep(60 * minutes)
        (restored,) = machine.logged("credentials_restored")
        assert restored["access_key_id"] == "ASIAFAKE0001"
    assert len(machine.sts.called_at) == 1
    async with machine.process() as daemon:
        await trio.sleep(1200)
        assert key(daemon) == "ASIAFAKE0002"
    assert machine.sts.called_at[1] == pytest.approx(1800, abs=2)


async def test_crash_loop_causes_one_sts_call(autojump_clock: MockClock, machine: Machine) -> None:
    for _ in range(100):
        async with machine.process():
            await trio.sleep(10)
    assert len(machine.sts.called_at) == 1


async def test_restart_during_an_outage_leaves_no_gap(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(60)
    machine.sts.error = OUT
    while trio.current_time() < 3590:
        async with machine.process() as daemon:
            assert key(daemon) == "ASIAFAKE0001"
            await trio.sleep(290)
            assert key(daemon) == ("ASIAFAKE0001" if trio.current_time() < 3598 else None)
    async with machine.process() as daemon:
        await trio.sleep(1)
        assert key(daemon) is None
        machine.sts.error = None
        await trio.sleep(120)
        assert key(daemon) is not None


async def test_back_off_and_retry_after_survive_a_restart(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(60)
        machine.sts.error = refusal("Throttling", NextStep.SLOW_DOWN, retry_after_seconds=280)
        await trio.sleep(1760)
    refused_at = machine.sts.called_at[-1]
    for _ in range(10):
        async with machine.process() as daemon:
            assert "Throttling" in str(daemon.role.last_error)
            await trio.sleep(20)
    assert machine.sts.called_at[-1] == refused_at


async def test_longest_duration_survives_a_restart(autojump_clock: MockClock, machine: Machine) -> None:
    longest = machine.role(duration_seconds=None)
    async with machine.process(longest):
        await trio.sleep(60)
    granted = machine.sts.requests[-1].duration_seconds
    async with machine.process(longest) as daemon:
        await trio.sleep(2000)
        assert daemon.role.refresher.progress.max_duration.granted_seconds == granted


SLEPT, STEPPED, BOTH = "the machine slept", "the wall clock was set", "time passed"


@pytest.mark.parametrize("seconds", [3599, 3600, 7200, 86_400 * 365])
@pytest.mark.parametrize("how", [SLEPT, STEPPED, BOTH])
async def test_expired_credentials_are_never_served_again(
    autojump_clock: MockClock, machine: Machine, how: str, seconds: float
) -> None:
    async with machine.process():
        await trio.sleep(1)
    machine.sts.error = OUT
    if how is BOTH:
        await trio.sleep(seconds)
    elif how is STEPPED:
        machine.wall.step(seconds)
    else:
        before = machine.boot.now
        machine.boot = machine.boot._replace(now=lambda: before() + seconds)
    async with machine.process() as daemon:
        assert key(daemon) is None
        await trio.sleep(1)
        assert key(daemon) is None
    assert "expired" in machine.logged("saved_credentials_ignored")[0]["reason"]


async def test_wall_clock_set_back_never_stretches_saved_credentials(
    autojump_clock: MockClock, machine: Machine
) -> None:
    """The clock is set back while the daemon runs and saves again, or between the two processes."""
    async with machine.process():
        await trio.sleep(1)
        machine.sts.error = OUT
        machine.wall.step(-86_400)
        await trio.sleep(60)
    async with machine.process() as daemon:
        assert key(daemon) == "ASIAFAKE0001"
        await trio.sleep(3500)
        assert key(daemon) == "ASIAFAKE0001"
        await trio.sleep(60)
        assert key(daemon) is None
        machine.sts.error = None
        await trio.sleep(120)
        assert key(daemon) is not None
    machine.wall.step(-3600)
    async with machine.process():
        await trio.sleep(1)
    assert "before the time" in machine.logged("saved_credentials_ignored")[0]["reason"]


async def test_another_boot_ignores_saved_credentials(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(1)
    machine.boot = machine.boot._replace(boot_id="another")
    async with machine.process() as daemon:
        assert key(daemon) is None
        await trio.sleep(1)
        assert key(daemon) == "ASIAFAKE0002"


@pytest.mark.parametrize(
    "changes",
    [
        {"role_arn": "arn:aws:iam::111122223333:role/other"},
        {"session_name": "other"},
        {"duration_seconds": 900},
        {"policy": "{}"},
        {"chain": (ChainStep(ARN),)},
        {"token_file": None},
    ],
)
async def test_another_configuration_ignores_saved_credentials(
    autojump_clock: MockClock, machine: Machine, changes: dict[str, Any]
) -> None:
    async with machine.process():
        await trio.sleep(1)
    machine.sts.error = OUT
    changes = {name: value or f"{machine.token_file}-other" for name, value in changes.items()}
    async with machine.process(machine.role(**changes)) as daemon:
        assert key(daemon) is None
    assert "configuration" in machine.logged("saved_credentials_ignored")[0]["reason"]


async def test_credentials_of_another_sts_are_ignored(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(1)
    async with machine.process(endpoint_url="https://sts.example") as daemon:
        assert key(daemon) is None


async def test_each_role_has_a_file_and_a_removed_role_has_none(autojump_clock: MockClock, machine: Machine) -> None:
    both = (machine.role(), machine.role("reporting", session_name="x"))
    async with machine.process(*both) as daemon:
        await trio.sleep(1)
        names = {path.name for path in machine.directory.iterdir()}
        assert names == {MAIN, file_name("reporting")}
        daemon.roles.replace([machine.role()])
        await trio.sleep(0.1)
        assert {path.name for path in machine.directory.iterdir()} == {MAIN}
        daemon.roles.replace(both)
        await trio.sleep(CHECK_SECONDS)
        assert {path.name for path in machine.directory.iterdir()} == names
    (machine.directory / f"{MAIN}.draft").write_text("half")
    async with machine.process() as daemon:
        await trio.sleep(1)
        assert {path.name for path in machine.directory.iterdir()} == {MAIN}


async def test_expired_file_is_removed(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(1)
        machine.sts.error = OUT
        await trio.sleep(3600 + 2 * CHECK_SECONDS)
        assert list(machine.directory.iterdir()) == []


async def test_changed_role_is_saved_with_its_own_credentials(autojump_clock: MockClock, machine: Machine) -> None:
    """The old credentials stay in service, but do not count as credentials of the new configuration."""
    async with machine.process() as daemon:
        await trio.sleep(60)
        machine.sts.error = OUT
        daemon.roles.replace([machine.role(duration_seconds=900)])
        await trio.sleep(60)
        assert key(daemon) == "ASIAFAKE0001"
    async with machine.process(machine.role(duration_seconds=900)) as daemon:
        assert key(daemon) is None


# Files that are not used


def in_place_of_the_file(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(path: Path) -> None:
        path.rename(path.parent / "other")
        make(path)

    return replace


def damaged(content: bytes) -> dict[str, Callable[[Path], object]]:
    """Functions that damage the file at a path, by name."""
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


HEALTH = {"skew_seconds": "x", "session_seconds": [], "token_expires_at": "x", "error": 5, "last_error_step": None}


@pytest.mark.parametrize("field", sorted(HEALTH))
async def test_health_of_another_version_is_ignored(autojump_clock: MockClock, machine: Machine, field: str) -> None:
    """An earlier version raised in metrics and refreshes after it had loaded such a file."""
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


async def test_unexpected_error_while_restoring_skips_only_the_file(
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


async def test_file_that_somebody_removes_is_written_again(autojump_clock: MockClock, machine: Machine) -> None:
    """A second daemon with the same directory removes the files of roles that it does not have."""
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


async def test_files_and_directory_are_only_for_the_owner(autojump_clock: MockClock, machine: Machine) -> None:
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


async def test_writes_happen_only_when_something_changed(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process() as daemon:
        await trio.sleep(9 * 3600)
        assert 18 <= len(machine.sts.called_at) <= 20
        assert daemon.metrics.state_writes == {"success": len(machine.sts.called_at)}


async def test_hung_write_is_abandoned_and_never_applied_late(
    autojump_clock: MockClock, machine: Machine, real_file_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serving continues, one thread waits, and old credentials replace no newer ones when the volume responds again."""
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


# The directory

MOUNTS = """\
21 1 0:20 / / rw,relatime - overlay overlay rw,lowerdir=/a
22 21 0:21 / /proc rw - proc proc rw
30 21 0:34 / /run/irsa-sidecar-state rw,relatime shared:12 master:3 - tmpfs tmpfs rw,size=1024k
31 21 8:1 /a\\040b /data rw - ext4 /dev/sda1 rw
32 21 0:40 / /ram rw - ramfs none rw
garbage
"""


@pytest.mark.parametrize(
    ("device", "found"),
    [((0, 34), "tmpfs"), ((8, 1), "ext4"), ((0, 20), "overlay"), ((0, 40), "ramfs"), ((0, 3), None), ((0, 99), None)],
)
def test_filesystem_type_is_found_by_the_device(device: tuple[int, int], found: str | None) -> None:
    assert filesystem_type(MOUNTS, os.makedev(*device)) == found


@needs_linux
@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no tmpfs here")
def test_directory_in_memory_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/dev/shm/irsa-sidecar-test-{os.getpid()}"
    try:
        assert open_directory(path, allow_disk=False) == path
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    finally:
        os.rmdir(path)


@pytest.mark.parametrize("found", ["ext4", "overlay", "xfs", "nfs4", "fuse.sshfs", None])
def test_directory_on_a_disk_is_rejected_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    monkeypatch.setattr(state_directory, "filesystem_type", lambda *_: found)
    path = tmp_path / "state"
    with pytest.raises(ConfigurationError, match=r"IRSA_SIDECAR_STATE_DIR is .*IRSA_SIDECAR_STATE_ALLOW_DISK=true"):
        open_directory(str(path), allow_disk=False)
    assert not path.exists()
    assert open_directory(str(path), allow_disk=True) == str(path)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o755, 0o750, 0o701, 0o2777])
def test_shared_directory_gets_a_private_one_below(tmp_path: Path, mode: int) -> None:
    """An emptyDir has such a mode, which we must not change."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(mode)
    for _ in range(2):
        path = open_directory(str(volume), allow_disk=True)
        assert path == f"{volume}/irsa-sidecar"
        assert os.stat(path).st_mode & 0o077 == 0
        os.chmod(path, 0o755)
    assert stat.S_IMODE(volume.stat().st_mode) == mode


@pytest.mark.parametrize("what", ["a file", "a missing parent", "a link below", "a file below", "no name"])
def test_directory_that_cannot_be_used_is_a_configuration_error(tmp_path: Path, what: str) -> None:
    path = tmp_path / "state"
    if what == "a file":
        path.write_text("x")
    elif what == "a missing parent":
        path = path / "below"
    elif what == "a link below":
        path.mkdir(mode=0o755)
        (path / "irsa-sidecar").symlink_to(tmp_path)
    elif what == "a file below":
        path.mkdir(mode=0o755)
        (path / "irsa-sidecar").write_text("x")
    else:
        path = tmp_path / "\x00"
    with pytest.raises(ConfigurationError, match="IRSA_SIDECAR_STATE_DIR is"):
        open_directory(str(path), allow_disk=True)


@needs_root
def test_directory_of_another_user_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "irsa-sidecar").mkdir(mode=0o700)
    tmp_path.chmod(0o777)
    os.chown(tmp_path / "irsa-sidecar", 12_345, -1)
    with pytest.raises(ConfigurationError, match="somebody else"):
        open_directory(str(tmp_path), allow_disk=True)


@needs_linux
def test_boot_clock_increases_and_has_an_id() -> None:
    boot = state_directory.this_boot()
    assert boot is not None
    assert len(boot.boot_id) == 36
    assert 0 < boot.now() <= boot.now()


@pytest.mark.parametrize("missing", ["the id", "an empty id", "the clock"])
async def test_kernel_without_boot_id_or_clock_disables_the_state(
    autojump_clock: MockClock, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    if missing == "the clock":
        monkeypatch.delattr("time.CLOCK_BOOTTIME")
    else:
        monkeypatch.setattr(state_directory, "_BOOT_ID", str(tmp_path / ("empty" if "empty" in missing else "none")))
    config = make_config(machine.token_file)._replace(state_dir=str(machine.directory), state_allow_disk=True)
    daemon = make_daemon(config, machine.sts, sources=Sources(machine.wall.clock), log=make_log(machine.events))
    assert daemon.state is None
    assert machine.logged("state_unavailable")
