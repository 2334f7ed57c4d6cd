"""Test the choice of tests for a changed file."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import changed
from tests.support.changed import DOCUMENTATION, LAYERS, changed_files, main, suites_of, targets


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tests/unit/sts/test_wire.py", "tests/unit/sts"),
        ("tests/support/fakes/clock.py", "tests/support"),
        ("tests/conftest.py", "tests/support"),
    ],
)
def test_change_of_tests_selects_their_folder(path: str, expected: str) -> None:
    assert list(suites_of(path)) == [expected]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("sidecar/sts/wire.py", "tests/unit/sts"), ("sidecar/doctor/checks/token.py", "tests/unit/doctor")],
)
def test_change_of_a_package_selects_its_tests(path: str, expected: str) -> None:
    assert list(suites_of(path)) == [LAYERS, expected]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a repository with one flat test and one test of a package, on the branch `main`."""
    for name in (LAYERS, "tests/unit/test_store.py", "tests/unit/sts/test_wire.py", *DOCUMENTATION):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@a"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "tests: add"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(changed, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["sidecar/store.py", "tests/unit/test_store.py"])
def test_flat_module_selects_all_flat_tests(tree: Path, path: str) -> None:
    assert targets([path]) == [LAYERS, "tests/unit/test_store.py"]


@pytest.mark.parametrize("path", ["docs/a.md", "docs/decisions/a.md", "README.md", "changelog.d/1.fixed.md"])
def test_documentation_selects_its_tests(tree: Path, path: str) -> None:
    assert targets([path]) == sorted(DOCUMENTATION)


@pytest.mark.parametrize("path", ["Makefile", "tests/unit/unknown/a.py", "k8s/pod/a.yaml", "tests/sdk/cases.py"])
def test_change_without_unit_tests_selects_no_test(tree: Path, path: str) -> None:
    assert targets([path]) == []


def test_every_kind_of_change_counts(tree: Path) -> None:
    for name in ("committed", "staged", "unstaged", "untracked"):
        (tree / name).touch()
    (tree / LAYERS).write_text("changed")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@a"]
    for command in (
        ["checkout", "-q", "-b", "topic"],
        ["add", "committed", "unstaged"],
        ["commit", "-q", "-m", "a: b"],
    ):
        subprocess.run([*git, *command], cwd=tree, check=True)
    (tree / "unstaged").write_text("changed")
    subprocess.run([*git, "add", "staged"], cwd=tree, check=True)
    assert sorted(changed_files("main")) == sorted(["committed", "staged", "unstaged", "untracked", LAYERS])


def test_list_prints_the_tests_without_running_them(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["changed", "--list"])
    (tree / "README.md").touch()
    assert main() == 0
    assert capsys.readouterr().out.split() == sorted(DOCUMENTATION)


def test_no_test_runs_without_a_change(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["changed"])
    assert main() == 0
    assert capsys.readouterr().out == "Nothing with unit tests changed since main.\n"


def test_unknown_base_is_reported_with_a_fix(tree: Path) -> None:
    with pytest.raises(SystemExit, match=r"--base is trunk: .*SINCE=origin/main"):
        changed_files("trunk")
