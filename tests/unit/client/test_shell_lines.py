"""Test that a shell has no usable credentials after a command failed in `eval "$(…)"`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.client.environment import WINS_OVER_US, Offer, client_variables
from sidecar.client.shell_lines import echo_line, export_lines, failure_lines, restoring_lines, unset_lines
from tests.support.processes import GUARD_SECONDS

SHELLS = [path for name in ("sh", "bash", "dash", "zsh", "ksh", "mksh", "fish") if (path := shutil.which(name))]
"""The shells on this machine. A POSIX system always has sh."""

PROGRAM = f"{sys.executable} -m sidecar"
AWS = str(Path(sys.executable).parent / "aws")
BOTO3 = "import boto3; keys = boto3.Session().get_credentials(); print(keys and keys.get_frozen_credentials())"
OWN = "AKIAOWNCREDENTIALS00"

FAILING = {
    "unknown flag": "local --nonsense",
    "wrong value": "local --log-level loud",
    "invalid address": "local --listen 127.0.0.1:not-a-port",
    "key set without an issuer": "local --jwks-file keys.json",
    "background": "local --background --config /nowhere",
    "stop and background": "local --stop --background",
    "credentials": "credentials --format env --no-daemon",
    "credentials with =": "credentials --format=env --role nobody",
}


def home(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return an environment with a person's own credentials in a file and a profile."""
    directory = tmp_path / ".aws"
    directory.mkdir()
    keys = f"aws_access_key_id = {OWN}\naws_secret_access_key = secret\n"
    (directory / "credentials").write_text(f"[default]\n{keys}[prod]\n{keys}")
    (directory / "config").write_text("[profile prod]\nregion = eu-west-1\n")
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "HOME": str(tmp_path), "AWS_REGION": "eu-west-1", **more}


def evaluated(shell: str, command: str, then: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    script = f'eval "$({PROGRAM} {command} 2>/dev/null)"{then}'
    if shell.endswith("fish"):
        script = f"eval ({PROGRAM} {command} 2>/dev/null){then}"
    return subprocess.run(
        [shell, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=GUARD_SECONDS
    )


@pytest.mark.parametrize(
    ("shell", "command"),
    [
        *((shell, "local --config /nowhere") for shell in SHELLS),
        *(("/bin/sh", command) for command in FAILING.values()),
    ],
)
def test_shell_prints_the_failure_of_the_command(shell: str, command: str, tmp_path: Path) -> None:
    done = evaluated(shell, command, "", home(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        f"irsa-sidecar {command.partition(' ')[0]} failed. Its error messages show the reason. This shell has no AWS "
        "credentials now, so that no command uses your own credentials by mistake. To use your own credentials, start "
        "a new shell.\n"
    )


@pytest.mark.parametrize(
    ("shell", "own"),
    [
        *((shell, {}) for shell in SHELLS),
        ("/bin/sh", {"AWS_PROFILE": "prod"}),
        ("/bin/sh", {"AWS_ACCESS_KEY_ID": OWN, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}),
        ("/bin/sh", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/dev/null", "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/own"}),
    ],
)
def test_shell_has_no_usable_credentials_after_a_failure(shell: str, own: dict[str, str], tmp_path: Path) -> None:
    done = evaluated(shell, "local --config /nowhere", f"; {sys.executable} -c '{BOTO3}'", home(tmp_path, **own))
    assert OWN not in done.stdout
    assert "irsa-sidecar-local-failed" in done.stdout + done.stderr


def test_aws_cli_names_the_failed_command(tmp_path: Path) -> None:
    done = evaluated("/bin/sh", "local --config /nowhere", f"; {AWS} configure list", home(tmp_path))
    assert "irsa-sidecar-local-failed" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command", ["local --config /nowhere -- true", "credentials --no-daemon", "token", "local --help"]
)
def test_other_outputs_have_no_lines_for_a_shell(command: str, tmp_path: Path) -> None:
    """Check outputs that no shell evaluates, and the output of a command that succeeds."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", *command.split()],
        env=home(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=GUARD_SECONDS,
    )
    assert "export AWS_PROFILE" not in done.stdout


STRANGE = """it's "$HOME" `x` \\ a;b"""
NAMES = ["AWS_REGION", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "NO_PROXY"]
LINES = export_lines({"AWS_REGION": STRANGE, "NO_PROXY": "a"}) + echo_line("it's set")


def in_shell(shell: str, lines: str, directory: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Evaluate the lines as the output of a command, and then print the environment, even after an error."""
    (directory / "lines").write_text(lines)
    substitution = "(cat lines)" if shell.endswith("fish") else '"$(cat lines)"'
    kept = {"PATH": os.environ["PATH"], "HOME": str(directory), **more}
    script = f"eval {substitution}; env"
    return subprocess.run(
        [shell, "-c", script], cwd=directory, env=kept, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_export_lines_set_and_remove_variables(shell: str, tmp_path: Path) -> None:
    done = in_shell(shell, LINES, tmp_path, AWS_PROFILE="own", AWS_ACCESS_KEY_ID=OWN)
    assert f"AWS_REGION={STRANGE}" in done.stdout.splitlines()
    assert "AWS_PROFILE" not in done.stdout
    assert OWN not in done.stdout
    assert done.stderr == "it's set\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_unset_lines_remove_variables_except_proxies(shell: str, tmp_path: Path) -> None:
    done = in_shell(shell, LINES + unset_lines(NAMES) + echo_line("unset"), tmp_path)
    assert "AWS_REGION" not in done.stdout
    assert "NO_PROXY=a" in done.stdout.splitlines()
    assert done.stderr == "it's set\nunset\n"


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell.endswith("fish")])
def test_universal_variables_of_fish_are_hidden_and_kept(shell: str, tmp_path: Path) -> None:
    """Fish stores universal variables in a file of the person. Only the shell that evaluates the lines may change."""
    own = ["AWS_PROFILE=work", "AWS_REGION=eu-west-1", "AWS_ROLE_ARN=role"]
    in_shell(shell, "".join(f"set -Ux {each.replace('=', ' ')};\n" for each in own), tmp_path)
    during = in_shell(shell, LINES, tmp_path, AWS_PROFILE="inherited")
    assert {"AWS_PROFILE=", "AWS_ROLE_ARN=", f"AWS_REGION={STRANGE}"} <= set(during.stdout.splitlines())
    assert [name for name in WINS_OVER_US if f"run: set -eU {name}\n" in during.stderr] == [
        "AWS_PROFILE",
        "AWS_ROLE_ARN",
    ]
    stop = restoring_lines(NAMES, {"AWS_PROFILE": "", "AWS_ROLE_ARN": ""})
    for lines in (LINES + stop, "true;\n"):
        after = in_shell(shell, lines, tmp_path)
        assert [each for each in own if each in after.stdout.splitlines()] == own


@pytest.mark.parametrize("shell", SHELLS)
def test_restoring_lines_remove_only_markers_of_failures(shell: str, tmp_path: Path) -> None:
    failed = {"AWS_PROFILE": "irsa-sidecar-local-failed", "AWS_ROLE_ARN": "irsa-sidecar-credentials-failed"}
    own = {"AWS_ACCESS_KEY_ID": OWN, "AWS_DEFAULT_PROFILE": "not-irsa-sidecar-local-failed"}
    environment = {**failed, **own, "AWS_CONFIG_FILE": "/dev/null"}
    done = in_shell(shell, restoring_lines(["AWS_CONFIG_FILE"], environment), tmp_path, **environment)
    left = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("AWS_"))
    assert left == own


@pytest.mark.parametrize("shell", SHELLS)
def test_restoring_lines_undo_every_variable_of_a_failure(shell: str, tmp_path: Path) -> None:
    failure = in_shell(shell, failure_lines("irsa-sidecar local"), tmp_path).stdout
    environment = dict(line.split("=", 1) for line in failure.splitlines() if line.startswith("AWS_"))
    lines = restoring_lines(client_variables(Offer("", "", "", "any region")), environment)
    assert environment
    assert "AWS_" not in in_shell(shell, lines, tmp_path, **environment).stdout


def test_restoring_lines_keep_empty_variables_outside_fish(tmp_path: Path) -> None:
    """Only in fish, an empty variable hides a universal one."""
    done = in_shell("/bin/sh", restoring_lines(NAMES, {"AWS_PROFILE": ""}), tmp_path, AWS_PROFILE="")
    assert "AWS_PROFILE=" in done.stdout.splitlines()


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if not shell.endswith("fish")])
def test_lines_succeed_in_a_strict_shell(shell: str, tmp_path: Path) -> None:
    """In a script with `set -eu`, an unset variable or a failed command ends the script."""
    done = in_shell(shell, "set -eu;\n" + LINES + unset_lines(NAMES) + 'echo "flags $-";\n', tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("flags ")


def test_read_only_variable_is_reported(tmp_path: Path) -> None:
    done = in_shell("/bin/sh", "readonly AWS_PROFILE=own;\n" + LINES, tmp_path)
    assert "AWS_PROFILE" in done.stderr


@pytest.mark.parametrize("lines", [failure_lines("irsa-sidecar local"), LINES, unset_lines(NAMES)])
def test_every_line_for_a_shell_ends_with_a_semicolon(lines: str) -> None:
    """Check the semicolons, because the shell fish joins the lines of a command substitution with spaces."""
    assert all(line.endswith(";") for line in lines.splitlines())
