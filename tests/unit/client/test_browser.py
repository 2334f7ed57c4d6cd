"""Test that the user's browser gets the address, but neither our streams nor our blocked signals."""

import os
import sys
from pathlib import Path

import pytest

from sidecar.client.browser import open_browser

PROGRAM = """\
#!{python}
import os, signal, sys
blocked = sorted(int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
with open({path!r}, "w") as file:
    print(sys.argv[1], blocked, os.path.realpath("/dev/fd/1"), file=file)
"""


def test_browser_gets_only_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, written = tmp_path / "browser", tmp_path / "written"
    browser.write_text(PROGRAM.format(python=sys.executable, path=str(written)))
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", str(browser))
    pid = open_browser("http://127.0.0.1:1/open/x", [])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert written.read_text().split(" [] ") == ["http://127.0.0.1:1/open/x", f"{os.devnull}\n"]


def test_missing_browser_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "/nonexistent/browser")
    pid = open_browser("http://127.0.0.1:1/", [])
    os.waitpid(pid, 0)
