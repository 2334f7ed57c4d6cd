"""Check the manual pages: they match the parsers, have no mistakes of roff, and show every flag."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.docs.reference.commands import Command, commands, shown_actions
from tests.docs.reference.pages import FILES, MANUAL, ROOT
from tests.docs.shells import manual
from tests.end_to_end.shells import find

PAGES = manual.pages()


def run(*command: str) -> str:
    """Return the output of a command. It must not write anything else, such as a warning."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert done.stderr == ""
    return done.stdout


def test_manual_is_up_to_date() -> None:
    """If this fails, run `make reference`."""
    assert {path.name: path.read_text(encoding="utf-8") for path in MANUAL.iterdir()} == PAGES


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_no_mistake(name: str) -> None:
    """Ignore the missing date, because a page depends only on the parsers."""
    found = run(find("mandoc"), "-T", "lint", "-W", "warning", str(MANUAL / name))
    assert [line for line in found.splitlines() if "missing date" not in line] == []


@pytest.mark.parametrize("name", PAGES)
def test_man_shows_a_page_without_warnings(name: str) -> None:
    assert "SYNOPSIS" in run(find("man"), "--warnings=w", "--encoding=ascii", "--local-file", str(MANUAL / name))


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: command.name.replace(" ", "-"))
def test_page_shows_every_flag_and_the_examples(command: Command) -> None:
    name = f"irsa-sidecar-{command.name.replace(' ', '-')}.1"
    shown = re.sub(r".\x08", "", run(find("mandoc"), "-T", "utf8", "-O", "width=200", str(MANUAL / name)))
    flags = [flag for action in shown_actions(command) for flag in action.option_strings]
    assert [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", shown)] == []
    assert [line for line in manual.examples(command).splitlines() if line.strip() not in shown] == []


def test_wheel_has_the_manual_and_the_files_of_the_commands(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.rpartition("/")[2] for name in names if ".data/data/share/man/man1/" in name} == set(PAGES)
    assert {name for name in FILES if name.startswith("sidecar/")} <= names
