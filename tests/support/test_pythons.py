"""Test the search for other Pythons in pyenv and in PATH. Each interpreter reports its own version."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import pythons
from tests.support.pythons import asked, found, main

THIS = sys.version_info[:2]


def interpreter(path: Path, answer: str, status: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {answer}\nexit {status}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a machine whose only Pythons are those that the test creates."""
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "argv", ["pythons"])
    (tmp_path / "bin").mkdir()
    return tmp_path


def test_this_python_reports_its_own_version() -> None:
    python = asked(Path(sys.executable))
    assert python is not None
    assert python.version == THIS


def test_pythons_of_pyenv_and_of_the_path_are_found(machine: Path) -> None:
    interpreter(machine / "pyenv/versions/3.97.1/bin/python3", "3 97 final cpython")
    interpreter(machine / "bin/python3.98", "3 98 final cpython")
    assert [str(python) for python in found()] == ["3.97", "3.98"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("", 127),
        ("3 97 final cpython", 1),
        ("3 10 final cpython", 0),
        ("3 97 alpha cpython", 0),
        ("3 97 final pypy", 0),
    ],
)
def test_unsupported_or_broken_interpreter_is_ignored(machine: Path, answer: str, status: int) -> None:
    interpreter(machine / "bin/python3.97", answer, status)
    assert found() == []


def test_missing_required_python_is_reported(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pythons", "--require", "3.97"])
    assert main() == 1
    assert "3.97" in capsys.readouterr().err


def test_only_required_pythons_run(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interpreter(machine / "bin/python3.97", "3 97 final cpython")
    interpreter(machine / "bin/python3.98", "3 98 final cpython")
    monkeypatch.setattr(pythons, "passes", lambda python: python.version == (3, 97))
    monkeypatch.setattr(sys, "argv", ["pythons", "--require", "3.97"])
    assert main() == 0
    assert "Pythons that passed: 3.97\n" in capsys.readouterr().out


def test_python_of_this_process_counts_as_found(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pythons", "--require", ".".join(map(str, THIS))])
    assert main() == 0


def test_failing_tests_of_one_python_fail_the_run(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interpreter(machine / "bin/python3.97", "3 97 final cpython")
    interpreter(machine / "bin/python3.98", "3 98 final cpython")
    monkeypatch.setattr(pythons, "passes", lambda python: python.version == (3, 98))
    assert main() == 1
    output = capsys.readouterr()
    assert "failed on 3.97" in output.err
    assert "Pythons that passed: 3.98" in output.out


def test_chosen_tests_exist() -> None:
    assert [name for name in pythons.TESTS if not (pythons.ROOT / name).exists()] == []


def test_other_pythons_use_the_lock_file_of_development() -> None:
    """Check that all Pythons get the same packages, so that only the Python can cause a failure."""
    assert pythons.LOCK == pythons.ROOT / "requirements" / "dev.txt"


def test_makefile_and_ci_run_tests_on_other_pythons() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "test-pythons", "REQUIRED_PYTHONS=3.13"],
        cwd=pythons.ROOT, capture_output=True, text=True, check=True, env={**os.environ, "MAKEFLAGS": ""},
    ).stdout  # fmt: skip
    assert '-m tests.support.pythons --require "3.13"' in shown
    assert "REQUIRED_PYTHONS=3.13 make test-pythons" in (pythons.ROOT / ".ci" / "run").read_text()
