"""Test the time limit of each test, which pytest's faulthandler enforces."""

import subprocess
import sys
from pathlib import Path

import pytest

HANGS = """
import threading

def test_hangs():
    threading.Event().wait()
"""


def _run(directory: Path, limit_seconds: float) -> subprocess.CompletedProcess[str]:
    options = ["-o", f"faulthandler_timeout={limit_seconds}", "-o", "faulthandler_exit_on_timeout=true"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_every_test_has_a_limit(pytestconfig: pytest.Config) -> None:
    assert float(pytestconfig.getini("faulthandler_timeout")) == 120
    assert pytestconfig.getini("faulthandler_exit_on_timeout") is True


def test_hanging_test_ends_with_its_stack(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(HANGS)
    done = _run(tmp_path, 0.2)
    assert done.returncode == 1
    assert "Timeout (" in done.stderr
    assert 'test_hangs.py", line 5 in test_hangs' in done.stderr
