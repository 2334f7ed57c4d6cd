"""Test `irsa-sidecar exec` as process 1 and on a terminal: orphaned processes, and signals from each sender."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from sidecar.client.application import until_signalled
from tests.support.processes import GUARD_SECONDS, pod_environment, scripted_sts

EXEC = [sys.executable, "-m", "sidecar", "exec", "--"]


def _unshare() -> list[str] | None:
    """Return a prefix that runs a command as process 1 of a new PID namespace, or None if that is forbidden."""
    for options in (["--pid"], ["--user", "--map-root-user", "--pid"]):
        command = ["unshare", *options, "--fork", "--kill-child"]
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
        except FileNotFoundError:
            return None
    return None


UNSHARE = _unshare()

needs_namespace = pytest.mark.skipif(UNSHARE is None, reason="this machine cannot create a PID namespace")

ORPHANS = """
import os, time
orphans = []
for _ in range(40):
    read, write = os.pipe()
    if os.fork() == 0:
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.write(write, str(pid).encode())
        os._exit(0)
    orphans.append(int(os.read(read, 20)))
    os.wait()
def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
while any(map(is_there, orphans)):  # a zombie exists until its parent reaps it
    time.sleep(0.01)
raise SystemExit(7 if os.getppid() == 1 else 8)
"""


@needs_namespace
async def test_process_1_reaps_orphans_and_returns_the_status(tmp_path: Path) -> None:
    async with scripted_sts() as sts:
        assert await _status([*(UNSHARE or []), *EXEC, sys.executable, "-c", ORPHANS], tmp_path, sts.url) == 7


@needs_namespace
@pytest.mark.parametrize(("program", "status"), [("os._exit(3)", 3), ("os.kill(os.getpid(), 9)", 137)])
async def test_process_1_returns_the_status(tmp_path: Path, program: str, status: int) -> None:
    async with scripted_sts() as sts:
        command = [*(UNSHARE or []), *EXEC, sys.executable, "-c", f"import os; {program}"]
        assert await _status(command, tmp_path, sts.url) == status


async def _status(command: list[str], tmp_path: Path, sts_url: str) -> int:
    with trio.fail_after(GUARD_SECONDS):
        done = await trio.run_process(command, env=pod_environment(tmp_path / "token", sts_url), check=False)
    return done.returncode


@needs_namespace
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGWINCH,
        signal.SIGALRM,
        signal.SIGPWR,
        signal.SIGRTMIN + 3,
    ],
)
async def test_process_1_forwards_signals(tmp_path: Path, number: int) -> None:
    """Send the signal from outside the namespace, as `docker stop` does with an image's STOPSIGNAL."""
    async with scripted_sts() as sts, _on_terminal([*(UNSHARE or []), *EXEC], tmp_path, sts.url, [number]) as terminal:
        os.kill(_only_child(terminal.process.pid), number)
        assert await terminal.line() == f"got {number}"


def _only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


# Tests on a terminal


WAITING = """
import signal
numbers = {numbers}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
while True:
    print("got", int(signal.sigwait(numbers)), flush=True)
"""

# The parent process makes this program a session leader. The program then acquires the terminal.
WITH_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A real terminal with `exec` in its foreground."""

    def __init__(self, process: trio.Process, descriptor: int) -> None:
        self.process = process
        self.descriptor = descriptor
        self._received = b""

    def press(self, key: bytes) -> None:
        os.write(self.descriptor, key)

    async def line(self) -> str:
        """Return the next line that the command printed, without the terminal's echo of keys."""
        with trio.fail_after(GUARD_SECONDS):
            while b"\n" not in self._received:
                await trio.lowlevel.wait_readable(self.descriptor)
                self._received += os.read(self.descriptor, 1000)
        line, _, self._received = self._received.partition(b"\n")
        return line.decode().strip().removeprefix("^C").removeprefix("^\\")


@contextmanager
def _pty() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


@asynccontextmanager
async def _on_terminal(
    command: list[str], tmp_path: Path, sts_url: str, numbers: Sequence[int]
) -> AsyncIterator[Terminal]:
    """Run `exec` in the terminal's foreground, with a command that prints each signal of `numbers` that arrives."""
    program = WAITING.format(numbers=[int(number) for number in numbers])
    with _pty() as (master, slave):
        async with trio.open_nursery() as nursery:
            start = partial(
                trio.run_process,
                [sys.executable, "-c", WITH_TERMINAL, *command, sys.executable, "-c", program],
                env=pod_environment(tmp_path / "token", sts_url),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                check=False,
            )
            process: trio.Process = await nursery.start(start)
            terminal = Terminal(process, master)
            try:
                while await terminal.line() != "ready":
                    pass
                yield terminal
            finally:
                os.killpg(process.pid, signal.SIGKILL)


INTERRUPT, QUIT = b"\x03", b"\x1c"


async def test_new_size_of_the_terminal_reaches_the_command_once(tmp_path: Path) -> None:
    numbers = [signal.SIGWINCH, signal.SIGTERM]
    async with scripted_sts() as sts, _on_terminal(EXEC, tmp_path, sts.url, [*numbers]) as terminal:
        fcntl.ioctl(terminal.descriptor, termios.TIOCSWINSZ, struct.pack("4H", 50, 100, 0, 0))
        assert await terminal.line() == f"got {int(signal.SIGWINCH)}"
        os.kill(terminal.process.pid, signal.SIGTERM)
        assert await terminal.line() == f"got {int(signal.SIGTERM)}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH])
async def test_signal_from_a_process_is_forwarded_on_a_terminal(tmp_path: Path, number: signal.Signals) -> None:
    async with scripted_sts() as sts, _on_terminal(EXEC, tmp_path, sts.url, [number]) as terminal:
        os.kill(terminal.process.pid, number)
        assert await terminal.line() == f"got {number}"


@pytest.mark.parametrize(("key", "number"), [(INTERRUPT, signal.SIGINT), (QUIT, signal.SIGQUIT)])
async def test_key_on_the_terminal_reaches_the_command_once(tmp_path: Path, key: bytes, number: signal.Signals) -> None:
    """
    Check the order of the signals.

    The terminal also sends the signal to the command. A forwarded copy would arrive before the SIGTERM.
    """
    numbers = [number, signal.SIGTERM]
    async with scripted_sts() as sts, _on_terminal(EXEC, tmp_path, sts.url, numbers) as terminal:
        terminal.press(key)
        assert await terminal.line() == f"got {number}"
        os.kill(terminal.process.pid, signal.SIGTERM)
        assert await terminal.line() == f"got {signal.SIGTERM}"


# Tests of inherited signals


STATUS = ["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]


async def test_command_inherits_ignored_signals_and_blocks_none(tmp_path: Path) -> None:
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        for setting, blocked, ignored in (("", 0, 0), ("trap '' HUP;", 0, 1 << signal.SIGHUP - 1)):
            done = await trio.run_process(
                ["sh", "-c", f'{setting} exec "$@"', "sh", *EXEC, *STATUS], env=environment, capture_stdout=True
            )
            found = dict(line.split(":\t") for line in done.stdout.decode().splitlines())
            standard = (1 << 31) - 1  # the C library uses the higher bits for internal signals
            assert {name: int(value, 16) & standard for name, value in found.items()} == {
                "SigBlk": blocked,
                "SigIgn": ignored,
            }


BLOCKED = (signal.SIGTERM, signal.SIGHUP, signal.SIGRTMIN + 3, signal.SIGTSTP)

WITH_BLOCKED = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, map(int, sys.argv[1].split(',')));"
    "os.execvp(sys.argv[2], sys.argv[2:])"
)


async def test_command_blocks_no_signal_that_exec_forwards(tmp_path: Path) -> None:
    """The parent of `exec` blocks signals. The command inherits the blocked ones that `exec` does not forward."""
    numbers = ",".join(str(int(number)) for number in BLOCKED)
    show = [sys.executable, "-c", "import signal; print(*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))"]
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        parent = [sys.executable, "-c", WITH_BLOCKED, numbers]
        assert await _output([*parent, *show], environment) == {*BLOCKED}
        assert await _output([*parent, *EXEC, *show], environment) == {signal.SIGTSTP}


async def _output(command: list[str], environment: Mapping[str, str]) -> set[int]:
    """Return the numbers that the command prints."""
    with trio.fail_after(GUARD_SECONDS):
        done = await trio.run_process(command, env=environment, capture_stdout=True)
    return {int(number) for number in done.stdout.split()}


async def test_signal_ignored_by_default_does_not_end_a_wait() -> None:
    """SIGWINCH or SIGURG arrives while no command runs, for example during the wait for credentials."""

    async def body() -> int:
        for number in (signal.SIGWINCH, signal.SIGURG, signal.SIGALRM):
            os.kill(os.getpid(), number)
        await trio.sleep_forever()

    with trio.fail_after(GUARD_SECONDS):
        assert await until_signalled(body) == 128 + signal.SIGALRM


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 3])
async def test_user_signal_runs_cleanup_and_sets_the_exit_status(tmp_path: Path, number: int) -> None:
    async def body() -> int:
        try:
            os.kill(os.getpid(), number)
            await trio.sleep_forever()
        finally:
            (tmp_path / "ended").touch()

    with trio.fail_after(GUARD_SECONDS):
        assert await until_signalled(body) == 128 + number
    assert (tmp_path / "ended").exists()
