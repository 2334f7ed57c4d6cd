"""Test the hardening of `run` from another process of the same user."""

import ctypes
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from sidecar.cli import NEAR_THE_TOKEN
from sidecar.startup import hardening
from tests.support.processes import get, our_program, pod_environment, run_daemon, scripted_sts, started
from tests.unit.serving.test_listen import needs_ipv6

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="hardening is for Linux only")

DO_NOT_HIDE = "import sidecar.startup.hardening; sidecar.startup.hardening.hide_process = lambda: None"

DO_NOT_HARDEN = "import sidecar.startup.hardening; sidecar.startup.hardening.harden = list"

WITHOUT_CAPABILITIES = """
import ctypes, os, sys
if 0 in [ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) for capability in range(64)]:
    os.execv(sys.executable, sys.orig_argv)
"""
"""A program that drops every capability (PR_CAPBSET_DROP) before an exec, because a test may run as root."""

LOOK = WITHOUT_CAPABILITIES + "sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"

DENY_CORE_LIMIT = """
import resource
def deny(*_):
    raise ValueError("not allowed to raise maximum limit")
resource.setrlimit = deny
"""

REPORT_SECRET = """
import os, sys
import sidecar.startup.hardening as hardening
harden, secret = hardening.harden, os.environ["IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE"]
hardening.harden = lambda: print("SECRET", os.path.exists(secret), file=sys.stderr) or harden()
"""
"""A program that prints whether the secret's file exists when the hardening starts."""

PRINT_DUMPABLE = """
import atexit, ctypes, sys
atexit.register(lambda: print("DUMPABLE", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), file=sys.stderr))
"""

PRINT_PROCESSES = """
import sys
started = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
sys.addaudithook(lambda event, _: event in started and print("STARTED", event, file=sys.stderr, flush=True))
"""


def unmeasured(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment without coverage, which cannot write its file from these processes."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def neighbour_reads(pid: int, name: str) -> "subprocess.CompletedProcess[bytes]":
    """Read a file in /proc/PID in another process of the same user."""
    command = [sys.executable, "-c", LOOK, f"/proc/{pid}/{name}"]
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)


@linux_only
async def test_other_process_cannot_read_a_hardened_process(tmp_path: Path) -> None:
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:1")
    async with run_daemon(environment, prelude=WITHOUT_CAPABILITIES) as running:
        await running.logged("started")
        for name in ("environ", "maps", "mem"):
            found = await neighbour_reads(running.process.pid, name)
            assert found.stdout == b""
            assert b"Permission denied" in found.stderr


@linux_only
async def test_other_process_can_read_a_process_without_hardening(tmp_path: Path) -> None:
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:1")
    async with run_daemon(environment, prelude=WITHOUT_CAPABILITIES + DO_NOT_HARDEN) as running:
        await running.logged("started")
        for name, content in (("environ", b"AWS_ROLE_ARN"), ("maps", b"[heap]")):
            assert content in (await neighbour_reads(running.process.pid, name)).stdout


@linux_only
async def test_run_is_not_dumpable_and_has_no_core_or_privileges(tmp_path: Path) -> None:
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:1")
    async with run_daemon(environment, prelude=PRINT_DUMPABLE) as running:
        await running.logged("started")
        assert status_of(running.process.pid)["NoNewPrivs"] == "1"
        assert resource.prlimit(running.process.pid, resource.RLIMIT_CORE) == (0, 0)
        assert await running.stop(signal.SIGTERM) == 0
        assert await running.line_of("DUMPABLE") == "DUMPABLE 0"
    assert "hardening_failed" not in running.errors


PRINT_DUMPABLE_AT_IMPORT = """
import ctypes, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "sidecar.commands.NAME":
            print("DUMPABLE", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), file=sys.stderr, flush=True)
sys.meta_path.insert(0, Finder)
"""


@linux_only
@pytest.mark.parametrize("name", sorted(NEAR_THE_TOKEN))
def test_command_is_not_dumpable_before_its_module_is_imported(name: str) -> None:
    """Check the earliest moment for our Python code, before it reads a file or parses the configuration."""
    command = [*our_program(PRINT_DUMPABLE_AT_IMPORT.replace("NAME", name)), name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "DUMPABLE 0\n"


@linux_only
async def test_program_under_exec_is_dumpable_and_may_gain_privileges(tmp_path: Path) -> None:
    look = "import ctypes; prctl = ctypes.CDLL(None).prctl; print(prctl(3, 0, 0, 0, 0), prctl(39, 0, 0, 0, 0))"
    command = [*our_program(), "exec", "--", sys.executable, "-c", look]
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        done = await trio.run_process(command, env=environment, capture_stdout=True)
    assert done.stdout == b"1 0\n"


@linux_only
@pytest.mark.parametrize(("hide", "found"), [("", b""), (DO_NOT_HIDE, b"the token")])
async def test_probe_hides_files_below_its_root(tmp_path: Path, hide: str, found: bytes) -> None:
    """A probe runs in a container that mounts the token, so the probe hides its /proc entries before it connects."""
    (tmp_path / "token").write_text("the token")
    listener = trio.socket.socket()
    with listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        # With --wait, the probe still runs when the neighbour reads, even if the neighbour takes a second to start.
        probe = ("probe", "--admin-listen", address, "--wait", "60")
        async with started([*our_program(WITHOUT_CAPABILITIES + hide), *probe], {}) as running:
            accepted, _ = await listener.accept()
            with accepted:
                seen = await neighbour_reads(running.process.pid, f"root{tmp_path}/token")
    assert seen.stdout == found
    assert (b"Permission denied" in seen.stderr) is (not found)


@linux_only
@needs_ipv6
async def test_credentials_are_served_only_on_two_addresses(tmp_path: Path) -> None:
    async with scripted_sts() as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        await running.logged("credentials_refreshed")
        for host in ("127.0.0.1", "[::1]"):
            assert (await get(running.url.replace("127.0.0.1", host)))[0] == 200
        with pytest.raises(OSError, match="connect"):
            await get(running.url.replace("127.0.0.1", "127.0.0.2"))  # another loopback address of this machine


@linux_only
async def test_run_starts_no_process(tmp_path: Path) -> None:
    async with (
        scripted_sts() as sts,
        run_daemon(unmeasured(pod_environment(tmp_path / "token", sts.url)), prelude=PRINT_PROCESSES) as running,
    ):
        await running.logged("credentials_refreshed")
        assert await running.stop(signal.SIGTERM) == 0
    assert "STARTED" not in running.errors


@linux_only
async def test_denied_step_causes_one_warning(tmp_path: Path) -> None:
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url), prelude=DENY_CORE_LIMIT) as running,
    ):
        warning = await running.logged("hardening_failed")
        assert warning["failed"] == ["no core files: not allowed to raise maximum limit"]
        await running.logged("credentials_refreshed")
        assert (await get(running.url))[0] == 200
        assert status_of(running.process.pid)["NoNewPrivs"] == "1"
    assert running.errors.count("hardening_failed") == 1


@linux_only
async def test_run_hardens_itself_before_it_creates_a_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    environment = pod_environment(
        tmp_path / "token", "http://127.0.0.1:1", IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE=str(secret)
    )
    async with run_daemon(environment, prelude=REPORT_SECRET) as running:
        assert await running.line_of("SECRET") == "SECRET False"
        await running.logged("started")
        assert secret.exists()


def no_such_option() -> None:
    hardening._set(0x7FFF_FFFF, 0)


@linux_only
def test_each_denied_step_is_returned_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    granted: list[str] = []
    guards: dict[str, Callable[[], None]] = {"first": no_such_option, "second": lambda: granted.append("second")}
    monkeypatch.setattr(hardening, "GUARDS", guards)
    assert hardening.harden() == ["first: Invalid argument"]
    assert granted == ["second"]


def test_hardening_has_no_effect_outside_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", unreachable)
    monkeypatch.setattr(resource, "setrlimit", unreachable)
    assert hardening.harden() == []
