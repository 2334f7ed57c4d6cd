"""
Check that the program accepts every command of docs/getting-started.md.

tests/cluster/test_from_nothing.py runs them.
"""

import argparse
import shlex
from importlib import import_module

import pytest

from sidecar import cli
from sidecar.commands.setup import STEPS
from tests.support.getting_started import commands, sections

COMMANDS = [line for section in sections() for line in commands(section) if line.startswith("irsa-sidecar ")]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    """Return the parsed arguments of each command. The commands are replaced, so none does anything."""
    found: list[argparse.Namespace] = []

    def note(args: argparse.Namespace) -> int:
        found.append(args)
        return 0

    names = [name for name in cli.COMMANDS if name != "setup"]
    for name in names:
        monkeypatch.setattr(import_module(f"sidecar.commands.{name}"), "main", note)
    for step in STEPS:
        monkeypatch.setattr(import_module(f"sidecar.setup.steps.{step.replace('-', '_')}"), "main", note)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_accepted_by_the_parsers(command: str, parsed: list[argparse.Namespace]) -> None:
    assert cli.main(_arguments(command)) == 0
    assert len(parsed) == 1


def test_every_step_of_setup_is_in_the_document() -> None:
    for step in STEPS:
        assert any(command.startswith(f"irsa-sidecar setup {step} ") for command in COMMANDS)


def _arguments(command: str) -> list[str]:
    """Return the program's arguments, without the shell's own syntax."""
    words = shlex.shlex(command, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    given = list(words)
    end = next((at for at, word in enumerate(given) if word in {">", "|"}), len(given))
    return given[1:end]
