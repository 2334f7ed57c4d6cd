"""Test the completion scripts in bash, zsh and fish: commands, flags, values, file names, and other programs."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar import cli
from sidecar.cli import COMMANDS
from sidecar.commands.completion import SCRIPTS
from sidecar.commands.setup import STEPS
from tests.docs.reference.commands import Command, commands, shown_actions
from tests.docs.reference.pages import ROOT
from tests.end_to_end.shells import REQUIRED, Shell, shell

GENERATED = ROOT / "sidecar" / "generated"

FILES = ["a.log", "b.log", "folder/inner.yaml", "roles here.yaml", "roles.yaml"]

CASES = [
    ("", [*COMMANDS, "help"]),
    ("cre", ["credentials"]),
    ("help ", COMMANDS),
    ("help setup ro", ["role", "rotate"]),
    ("nonsense ", []),
    ("setup ", STEPS),
    ("setup ro", ["role", "rotate"]),
    ("setup role cart --chain-t", ["--chain-tags", "--chain-to"]),
    ("local --log-level ", ["debug", "info", "warning", "error"]),
    ("local --log-level=", ["debug", "info", "warning", "error"]),
    ("local --log-level=de", ["debug"]),
    ("run --log-level ", ["debug", "info", "warning", "error"]),
    ("run --duration ", ["max"]),
    ("run --listen ", []),
    ("audit --output js", ["json"]),
    ("setup role ", []),
    ("completion ", SCRIPTS),
    ("run --config ", ["a.log", "b.log", "folder", "roles here.yaml", "roles.yaml"]),
    ("run --config=r", ["roles here.yaml", "roles.yaml"]),
    ("run --config roles\\ ", ["roles here.yaml"]),
    ("run --config folder/", ["folder/inner.yaml"]),
    ("run --listen 127.0.0.1:0 --config a", ["a.log"]),
    ("setup pod b", ["b.log"]),
    ("who --logs a.log b", ["b.log"]),
    ("who --logs a.log b.log --clo", ["--cloudtrail", "--cloudtrail-api"]),
    ("audit --from ", ["folder"]),
    ("audit --from=f", ["folder"]),
    ("exec -- unmistakable-p", ["unmistakable-program"]),
    ("exec unmistakable-p", ["unmistakable-program"]),
    ("exec --wait 5 -- cat ro", ["roles here.yaml", "roles.yaml"]),
    ("local --config roles.yaml -- cat a", ["a.log"]),
]
"""Lines without the name of the program, and the completions of their last word."""


@pytest.fixture(scope="module", params=SCRIPTS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Return a shell that has loaded its script, in a folder with FILES."""
    home = tmp_path_factory.mktemp("home")
    for name in FILES:
        (home / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "work" / name).touch()
    (home / "unmistakable-program").write_text("#!/bin/sh\n")
    (home / "unmistakable-program").chmod(0o755)
    script = shlex.quote(str(GENERATED / SCRIPTS[request.param]))
    load = f"source {script}" if request.param == "fish" else f'eval "$(cat {script})"'
    path = f"{home}:{os.environ['PATH']}"
    with shell(request.param, load, home / "work", path) as started:
        yield started


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_shell_completes_the_last_word(loaded: Shell, line: str, expected: list[str]) -> None:
    assert loaded.completions(f"irsa-sidecar {line}") == sorted(expected)


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: command.name.replace(" ", "-"))
def test_shell_completes_all_flags_of_a_command(loaded: Shell, command: Command) -> None:
    flags = [each for action in shown_actions(command) for each in action.option_strings]
    assert loaded.completions(f"irsa-sidecar {command.name} --") == sorted(["--help", *flags])


def test_command_prints_the_script_of_each_shell(capsys: pytest.CaptureFixture[str]) -> None:
    for name, file in SCRIPTS.items():
        assert cli.main(["completion", name]) == 0
        assert capsys.readouterr().out == (GENERATED / file).read_text(encoding="utf-8")


def test_bash_completion_completes_the_arguments_of_a_program(tmp_path: Path) -> None:
    """Use the package bash-completion, which knows the arguments of other programs."""
    package = Path("/usr/share/bash-completion/bash_completion")
    if not package.exists():
        assert "bash-completion" not in REQUIRED
        pytest.skip("bash-completion is not installed")
    (tmp_path / "work").mkdir()
    known = "complete -W 'first second' other-program"
    load = f"source {package}; source {shlex.quote(str(GENERATED / SCRIPTS['bash']))}; {known}"
    with shell("bash", load, tmp_path / "work", os.environ["PATH"]) as started:
        assert started.completions("irsa-sidecar exec --wait 5 -- other-program se") == ["second"]
