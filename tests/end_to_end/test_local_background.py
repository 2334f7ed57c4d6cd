"""Test `irsa-sidecar local --background` and `--stop` with real shells, a terminal, and an SDK in another process."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import GUARD_SECONDS
from tests.support.users import BECOME, OTHER, needs_root

PROGRAM = f"{sys.executable} -m sidecar local"
BOTO3 = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
WAITS = "import signal; print('wait' + 'ing', flush=True); signal.pause()"
"""A program that Ctrl-C ends. It writes `waiting` when it is in the foreground."""

IDENTITY = "arn:aws:sts::111122223333:assumed-role/app/default.app-0"
SHELLS = [name for name in ("bash", "fish") if shutil.which(name)]
"""Shells with different lines. tests/unit/client/test_shell_lines.py evaluates the lines in more shells."""

PROMPT = "ready> "


class Home:
    """A person's environment with own credentials. At the end, `stop` ends the background process if it runs."""

    def __init__(self, runtime: Path) -> None:
        self.runtime = runtime
        kept = {name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
        own = {"AWS_PROFILE": "own", "AWS_ACCESS_KEY_ID": "AKIAOWN", "AWS_SECRET_ACCESS_KEY": "own"}
        self.environment = {
            **kept,
            **own,
            "HOME": str(runtime),
            "XDG_RUNTIME_DIR": str(runtime),
            "TMPDIR": str(runtime),
            "TERM": "dumb",
            "PS1": PROMPT,
        }

    def run(self, script: str, shell: str = "bash") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [shell, "-c", script],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=GUARD_SECONDS,
        )

    @property
    def log(self) -> Path:
        return self.runtime / "irsa-sidecar" / "local.log"

    @property
    def pid(self) -> int:
        return int((self.runtime / "irsa-sidecar" / "local.lock").read_text().split()[0])

    def is_running(self) -> bool:
        """Return whether the process exists. A process that has ended, and that init has not reaped, does not count."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
        except OSError:
            return False


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    tmp_path.chmod(0o700)
    found = Home(tmp_path)
    yield found
    found.run(f"{PROGRAM} --stop")


def evaluated(flags: str, shell: str = "bash") -> str:
    return f"eval ({PROGRAM} {flags})" if shell == "fish" else f'eval "$({PROGRAM} {flags})"'


@pytest.mark.parametrize("shell", SHELLS)
def test_shell_gets_credentials_until_the_stop(home: Home, shell: str) -> None:
    script = f"""
        {evaluated("--background --no-page", shell)}
        {sys.executable} -c "{BOTO3}"
        {evaluated("--stop", shell)}
        env
    """
    done = home.run(script, shell)
    identity, _, left = done.stdout.partition("\n")
    assert identity == IDENTITY, done.stderr
    assert [line for line in left.splitlines() if line.startswith(("AWS_", "IRSA_"))] == []
    assert f"in the background as process {home.pid}" in done.stderr
    assert str(home.log) in done.stderr
    assert f"no longer runs in the background (process {home.pid})" in done.stderr
    assert not home.is_running()


def test_background_process_has_its_own_session(home: Home) -> None:
    assert home.run(f"{PROGRAM} --background --no-page").returncode == 0
    assert os.getsid(home.pid) == os.getpgid(home.pid) == home.pid
    assert [os.readlink(f"/proc/{home.pid}/fd/{number}") for number in (0, 1, 2)] == [
        "/dev/null",
        "/dev/null",
        str(home.log),
    ]


@contextmanager
def terminal(environment: dict[str, str]) -> Iterator[int]:
    """Yield a terminal in which an interactive bash runs. At the end, the terminal closes."""
    pid, screen = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
    try:
        yield screen
    finally:
        os.close(screen)
        os.waitpid(pid, 0)


def until(screen: int, text: str) -> str:
    """Read the terminal until the text appears, and return all that was read."""
    read = b""
    while text.encode() not in read:
        read += os.read(screen, 4096)
    return read.decode()


def test_process_survives_ctrl_c_and_the_end_of_the_terminal(home: Home) -> None:
    with terminal(home.environment) as screen:
        until(screen, PROMPT)
        os.write(screen, f"{evaluated('--background --no-page')}\n".encode())
        until(screen, PROMPT)
        os.write(screen, f'{sys.executable} -c "{WAITS}"\n'.encode())
        until(screen, "\nwaiting")
        os.write(screen, b"\x03")
        until(screen, PROMPT)
        os.write(screen, f'{sys.executable} -c "{BOTO3}"\n'.encode())
        assert IDENTITY in until(screen, PROMPT)
    assert home.is_running()


SNOOP = f"""
import encodings.idna, http.client, json, os, sys, urllib.error, urllib.request
{BECOME.format(uid=OTHER)}
pid, page, endpoint, *files = sys.argv[1:]
def outcome(call):
    try:
        return call()
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return type(error).__name__
files += [f"/proc/{{pid}}/environ", f"/proc/{{pid}}/fd/2"]
read = [outcome(lambda: open(path).read()[:1]) for path in files]
fetched = [outcome(lambda: urllib.request.urlopen(url).status) for url in (page, endpoint)]
print(json.dumps([read, fetched, open(f"/proc/{{pid}}/cmdline").read()]))
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Yield a directory with the mode of /tmp. The directories of pytest are not open to other users."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        os.chmod(path, 0o1777)
        yield Path(path)


@needs_root
def test_another_user_gets_neither_page_nor_secret(open_directory: Path, home: Home) -> None:
    """The other user knows all ports and paths, but no secret."""
    home.environment |= {"XDG_RUNTIME_DIR": "", "TMPDIR": str(open_directory)}
    lines = home.run(f"{PROGRAM} --background").stdout
    directory = open_directory / "irsa-sidecar-0"
    pid = (directory / "local.lock").read_text().split()[0]
    found = re.findall(r"http://127\.0\.0\.1:\d+/[^\s'\";]+", lines)
    page, endpoint = found[-1], next(url for url in found if url.endswith("/v1/credentials"))
    secrets = [page.rstrip("/").rpartition("/")[2], *re.findall(r"AUTHORIZATION_TOKEN=(\S+);", lines)]
    token = next(open_directory.glob("irsa-sidecar-*/token"))
    guesses = [page.replace(secrets[0], "0" * len(secrets[0])), endpoint]
    files = [str(each) for each in (directory / "local.lock", directory / "local.log", token)]
    assert all(Path(file).exists() for file in files)
    command = [sys.executable, "-c", SNOOP, pid, *guesses, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    read, fetched, command_line = json.loads(done.stdout)
    assert set(read) == {"PermissionError"}
    assert fetched == [404, 401]
    assert len(secrets) == 2
    assert [secret for secret in secrets if secret in command_line] == []


def test_second_start_gives_another_shell_the_same_credentials(home: Home) -> None:
    """The first shell keeps its credentials, also if it evaluates the lines again."""
    start = evaluated("--background --no-page")
    first = home.run(f"{start} && {start} && env | grep ^AWS_ | sort")
    pid, stored = home.pid, home.log.with_name("local.lines")
    assert stored.stat().st_mode & 0o777 == 0o600
    second = home.run(f'cd /; {start} && env | grep ^AWS_ | sort; {sys.executable} -c "{BOTO3}"')
    assert second.stdout == f"{first.stdout}{IDENTITY}\n", second.stderr
    assert home.pid == pid
    home.run(f"{PROGRAM} --background --no-page >/dev/full")
    assert home.is_running()
    home.run(f"{PROGRAM} --stop")
    assert not stored.exists()


def test_start_succeeds_if_its_lines_cannot_be_stored(home: Home) -> None:
    """Only the next start fails then."""
    home.log.parent.mkdir(mode=0o700)
    os.mkfifo(home.log.with_name("local.lines"))
    assert home.run(f"{PROGRAM} --background --no-page").returncode == 0
    done = home.run(f"{PROGRAM} --background --no-page")
    assert done.returncode == 2
    assert f"already runs in the background as process {home.pid}" in done.stderr


def test_second_start_with_other_settings_fails(home: Home) -> None:
    home.run(f"{PROGRAM} --background --no-page")
    log, pid = home.log.read_text(), home.pid
    done = home.run(f"{evaluated('--background')} || exit 7")
    assert done.returncode == 7
    assert f"already runs in the background as process {pid} with other settings" in done.stderr
    assert (home.pid, home.is_running()) == (pid, True)
    assert home.log.read_text().startswith(log)


def test_start_after_a_killed_process_succeeds(home: Home) -> None:
    home.run(f"{PROGRAM} --background --no-page")
    first = home.pid
    os.kill(first, signal.SIGKILL)
    done = home.run(f'{evaluated("--background --no-page")}; {sys.executable} -c "{BOTO3}"')
    assert done.stdout.strip() == IDENTITY, done.stderr
    assert home.pid != first


def test_stop_without_a_process_still_unsets(home: Home) -> None:
    done = home.run(f"export AWS_CONTAINER_CREDENTIALS_FULL_URI=old; {evaluated('--stop')} && env")
    assert "does not run in the background" in done.stderr
    assert "FULL_URI" not in done.stdout
    assert "AWS_PROFILE=own" in done.stdout


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("--authorization-token-file /dev/null/secret", "/dev/null/secret"),
        ("--config /nowhere", "--config is /nowhere"),
    ],
)
def test_failed_start_shows_the_reason_and_fails_the_eval(home: Home, flags: str, reason: str) -> None:
    """The first start fails in the background process, and the second one before."""
    done = home.run(f'lines=$({PROGRAM} --background {flags}); echo $?; eval "$lines" || exit 7')
    assert (done.stdout, done.returncode) == ("2\n", 7)
    assert reason in done.stderr
    assert "This shell has no AWS credentials now" in done.stderr


@pytest.mark.parametrize("flags", ["--background --stop", "--background -- true", "--stop -- true"])
def test_contradicting_flags_are_rejected(home: Home, flags: str) -> None:
    done = home.run(f"{PROGRAM} {flags}")
    assert done.returncode == 2
    assert re.search("--(background|stop) is set, but", done.stderr)
    assert "Traceback" not in done.stderr


def test_proxy_exceptions_of_the_person_are_kept(home: Home) -> None:
    script = f"export no_proxy=internal; {evaluated('--background --no-page')}; {evaluated('--stop')}; echo $NO_PROXY"
    assert home.run(script).stdout.strip() == "internal,127.0.0.1"


@pytest.mark.parametrize("stdout", [">/dev/full", ">&-"])
def test_unwritable_stdout_leaves_no_process(home: Home, stdout: str) -> None:
    done = home.run(f"{PROGRAM} --background --no-page {stdout}")
    assert done.returncode == 1
    assert "stdout cannot be written" in done.stderr
    assert home.pid
    assert not home.is_running()


FULL = """
import errno, os, sys
from sidecar.cli import main
def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
os.pwrite = full
sys.exit(main(sys.argv[1:]))
"""
"""A program whose lock is on a full disk."""


def test_full_disk_is_reported_with_the_directory(home: Home) -> None:
    (home.runtime / "full.py").write_text(FULL)
    done = home.run(f"cd {os.getcwd()}; {sys.executable} {home.runtime}/full.py local --background")
    assert done.returncode == 2
    assert f"{home.log.with_name('local.lock')} cannot be used for the background process (No space left" in done.stderr
    assert "stdout" not in done.stderr
    assert done.stdout.count("irsa-sidecar local failed") == 1
