"""Test the command line: help, misspelt names, widths, colours and unwritable outputs."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import cli
from sidecar.commands.help_text import WORDS, fitted
from sidecar.commands.parsing import suggestion
from sidecar.commands.setup import STEPS
from tests.support.users import needs_linux

ALL = [*([name] for name in cli.COMMANDS), *(["setup", step] for step in STEPS)]
WITHOUT_EXTRAS = """
import sys
from importlib.abc import MetaPathFinder
class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"cryptography", "lightkube", "httpx2", "msgspec", "botocore", "rich"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from sidecar import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def run(*arguments: str, program: str | None = None, **environ: str) -> "subprocess.CompletedProcess[str]":
    start = ["-m", "sidecar"] if program is None else ["-c", program]
    kept = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(
        [sys.executable, *start, *arguments], capture_output=True, text=True, check=False, env=kept, timeout=60
    )


@pytest.mark.parametrize("arguments", [[], ["help"], ["--help"], ["-h"]], ids=str)
def test_bare_command_and_help_list_the_commands(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"  {name} " in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("arguments", ALL, ids=str)
def test_help_of_a_command_has_an_example_and_needs_no_extra(arguments: list[str]) -> None:
    done = run(*arguments, "--help", program=WITHOUT_EXTRAS)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"irsa-sidecar {' '.join(arguments)}" in done.stdout.partition("example")[2]
    assert run("help", *arguments).stdout.partition("\n\n")[2] == done.stdout.partition("\n\n")[2]


@pytest.mark.parametrize("arguments", [["setup"], ["setup", "help"], ["help", "setup"]], ids=str)
def test_setup_lists_its_steps(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert all(summary in done.stdout for summary in STEPS.values())


@pytest.mark.parametrize("width", [40, 57, 80, 100, 133, 200])
@pytest.mark.parametrize("arguments", [[], *ALL], ids=str)
def test_help_fits_the_width_of_the_terminal(
    arguments: list[str], width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Allow a longer line if it has a single word, such as an ARN, between six spaces and a backslash."""
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--help"])
    for line in capsys.readouterr().out.splitlines():
        longest = max(map(len, WORDS.findall(line)), default=0)
        assert len(line) <= max(width, longest + 10), line


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("arguments", ALL, ids=str)
def test_usage_keeps_a_flag_and_its_value_together(
    arguments: list[str], width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Check that no line break is between `[--flag` and `VALUE]`, because brackets must close on the same line."""
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--help"])
    usage = capsys.readouterr().out.partition("\n\n")[0]
    assert not re.search(r"\[--[a-z-]+\n", usage)


def test_example_in_a_narrow_terminal_stays_the_same_command() -> None:
    command = "irsa-sidecar credentials --format env \\\n      --role 'a b c d e f g h i j k l m n o p' --x \"y z\""
    text = f"examples:\n  {command}"
    shown = fitted(text, 40)
    assert max(map(len, shown.splitlines())) <= 60
    printed = [
        subprocess.run(["sh", "-c", f"printf '<%s>' {command}"], capture_output=True, check=True).stdout
        for command in (part.partition("\n")[2] for part in (text, shown))
    ]
    assert printed[0] == printed[1]


@pytest.mark.parametrize(
    ("arguments", "suggested"),
    [
        (["webhok"], "webhook"),
        (["docter"], "doctor"),
        (["Setup"], "setup"),
        (["cred"], "credentials"),
        (["--verison"], "--version"),
        (["help", "tokn"], "token"),
        (["setup", "rol"], "role"),
        (["setup", "oidc-provder"], "oidc-provider"),
        (["setup", "role", "cart", "--dryrun"], "--dry-run"),
        (["setup", "role", "cart", "--serviceaccount=a/b"], "--service-account"),
        (["setup", "role", "cart", "--output", "jsn"], "json"),
        (["run", "--lisen", "x"], "--listen"),
        (["probe", "--admin-lisen", "x"], "--admin-listen"),
        (["token", "--verfy"], "--verify"),
    ],
    ids=str,
)
def test_misspelt_name_gets_a_suggestion(arguments: list[str], suggested: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Did you mean {suggested}?" in done.stderr
    assert "error: " in done.stderr
    assert "?." not in done.stderr


def test_name_without_a_similar_name_gets_no_suggestion() -> None:
    assert suggestion("zzz", cli.COMMANDS) == ""
    assert run("zzz").stderr == (
        "usage: irsa-sidecar [-h] [--version] [COMMAND]\n"
        "irsa-sidecar: error: there is no command 'zzz'. Run `irsa-sidecar help` to list the commands.\n"
    )


@pytest.mark.parametrize(
    "arguments", [["probe", "--wait=--"], ["token", "--file=--"], ["setup", "role", "app", "--path=--"]]
)
def test_flag_with_two_hyphens_as_its_value_is_reported(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Python 3.11 and 3.12 would pass an empty list to the command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "expected one argument" in capsys.readouterr().err


EMPTY = [
    ["doctor", "--pod", ""],
    ["doctor", "--imds-address="],
    ["setup", "role", "x", "--service-account", "a/b", "--cluster", ""],
    ["setup", "oidc-provider", "--issuer="],
    ["setup", "service-account", "--name", "a", "--context", ""],
    ["audit", "--from", ""],
    ["who", "AKIAIOSFODNN7EXAMPLE", "--logs", "a.log", ""],
    ["token", "--file", ""],
]


@pytest.mark.parametrize("arguments", EMPTY, ids=" ".join)
def test_flag_with_an_empty_value_is_an_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An unset variable of the shell, as in `--pod "$POD"`, must not choose another Pod, cluster or file."""
    flag = [each for each in arguments if each.startswith("--")][-1].rstrip("=")
    assert cli.main(arguments) == 2
    assert f"error: {flag} is '', which is empty. Give a value, or remove it.\n" in capsys.readouterr().err


def test_cluster_flag_of_audit_may_be_empty(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The manifests in k8s/audit set it from a ConfigMap, where it is empty without EKS."""
    assert cli.main(["audit", "--cluster=", "--from", str(tmp_path)]) == 2
    assert f"--from is {tmp_path}: cluster.json cannot be read" in capsys.readouterr().err


def test_unknown_name_is_escaped_for_the_terminal() -> None:
    for arguments in (["\x1b[31mred"], ["token", "--\x1b[31mred"], ["setup", "\x1b[31mred"]):
        assert "\x1b" not in run(*arguments).stderr


# Outputs that cannot be written

PRINTING = [["--help"], [], ["help"], ["setup", "role", "--help"], ["--version"]]


@needs_linux
@pytest.mark.parametrize("arguments", PRINTING, ids=str)
def test_full_disk_is_reported_on_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "sidecar", *arguments]
        done = subprocess.run(command, stdout=full, stderr=-1, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "irsa-sidecar: error: stdout cannot be written (No space left on device). Redirect it to another place.\n"
    )


@pytest.mark.parametrize("arguments", PRINTING, ids=str)
def test_closed_pipe_causes_no_message(arguments: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as unread:
        command = [sys.executable, "-m", "sidecar", *arguments]
        done = subprocess.run(command, stdout=unread, stderr=-1, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [["token", "--file", "TOKEN"], ["doctor", "--no-imds"]], ids=str)
@pytest.mark.parametrize("redirection", [">&-", "1</dev/null"])
def test_closed_or_read_only_stdout_causes_a_message(arguments: list[str], redirection: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.eA")
    words = " ".join(str(token) if word == "TOKEN" else word for word in arguments)
    script = f"{sys.executable} -m sidecar {words} {redirection}"
    done = subprocess.run(["sh", "-c", script], stderr=-1, text=True, check=False)
    assert done.returncode == 1
    assert "error: stdout cannot be written (Bad file descriptor)" in done.stderr
    assert "Traceback" not in done.stderr


@needs_linux
def test_unwritable_stderr_does_not_change_the_exit_status() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "sidecar", "zzz"], stdout=-1, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


INTERRUPTED = """
import os, signal, sys
from sidecar import cli
real = cli._run_command
def interrupted(command, prog, arguments):
    original = command.main
    def main(args):
        os.kill(os.getpid(), signal.SIGINT)
        return original(args)
    command.main = main
    return real(command, prog, arguments)
cli._run_command = interrupted
if sys.argv[1] == "setup":
    import sidecar.commands.setup
    sidecar.commands.setup.run_command = interrupted
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["token", "--file", "x"],
        ["probe", "--wait", "9"],
        ["doctor", "--no-imds"],
        ["credentials"],
        ["local"],
        ["setup", "role", "cart", "--service-account", "a/b"],
        ["setup", "pod", "x.yaml", "--image", "i"],
        ["setup", "service-account", "--name", "a", "--role-arn", "b"],
    ],
    ids=str,
)
def test_ctrl_c_causes_no_traceback(arguments: list[str]) -> None:
    done = run(*arguments, program=INTERRUPTED)
    assert done.returncode in {1, -signal.SIGINT}
    assert done.stderr == ""


# Colours


@pytest.mark.parametrize(
    ("environ", "has_colours"),
    [
        ({"TERM": "xterm"}, True),
        ({}, True),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
    ],
    ids=str,
)
def test_colours_depend_on_the_terminal_and_no_color(environ: dict[str, str], has_colours: bool) -> None:  # noqa: FBT001
    """Check the console log, and the function that decides about colours in reports, on a pseudo-terminal."""
    for module, code in {
        "log": "from sidecar.log import make_logger; make_logger('console', 'info', fd=1)[0].info('a', b=1)",
        "terminal": "from sidecar.terminal import wants_colours; print('\\x1b' if wants_colours() else 'plain')",
    }.items():
        primary, secondary = os.openpty()
        kept = {"PATH": os.environ["PATH"], **environ}
        subprocess.run([sys.executable, "-c", code], stdout=secondary, env=kept, check=True)
        os.close(secondary)
        shown = os.read(primary, 65536)
        os.close(primary)
        assert (b"\x1b" in shown) is has_colours, module


# Instructions for the installation


def test_no_text_suggests_an_unpublished_package() -> None:
    root = Path(__file__).parents[3]
    files = [*(root / "sidecar").rglob("*.py"), *(root / "docs").glob("*.md"), *root.glob("*.md"), root / "Makefile"]
    files += [path for path in (root / "k8s").rglob("*") if path.is_file()]
    for path in files:
        text = " ".join(path.read_text().split())
        assert not re.search(r"(pip|pipx|uv|uvx)( tool)?( install| run)? [^ ]{0,3}irsa-sidecar", text), path


def test_make_tools_installs_the_locked_packages() -> None:
    """Check also that `make help` lists the target."""
    root = Path(__file__).parents[3]
    listed = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "make tools " in listed
    planned = subprocess.run(["make", "-n", "-B", "tools"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "--require-hashes -r requirements/build.txt -r requirements/tools.txt" in planned
    assert "irsa-sidecar help" in planned
