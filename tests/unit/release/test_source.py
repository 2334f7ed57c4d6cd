"""Test which files, modes and versions of a repository are in a release."""

import subprocess
from pathlib import Path

import pytest

from release.source import Source, changed_files, export, read_source, version_in


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "sidecar").mkdir(parents=True)
    (folder / "sidecar" / "__init__.py").write_text('"""A package."""\n\n__version__ = "1.2.3"\n')
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o700)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    return folder


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o7777 for path in folder.rglob("*")}


def test_release_has_only_the_files_of_the_commit(repository: Path, tmp_path: Path) -> None:
    source = read_source(repository)
    (repository / "script").write_text("changed")
    (repository / "untracked").write_text("new")
    export(source, tmp_path / "files")
    assert (tmp_path / "files" / "script").read_text() == "#!/bin/sh\n"
    assert not (tmp_path / "files" / "untracked").exists()
    assert changed_files(repository) == ["script"]


def test_exported_modes_do_not_depend_on_the_configuration(repository: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "-C", str(repository), "config", "tar.umask", "0077"], check=True)
    export(read_source(repository), tmp_path / "files")
    assert modes(tmp_path / "files") == {"sidecar": 0o755, "__init__.py": 0o644, "script": 0o755}


def test_source_has_version_and_time_of_the_commit(repository: Path) -> None:
    shown = subprocess.run(
        ["git", "-C", str(repository), "log", "-1", "--format=%H %ct"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert read_source(repository) == Source(repository, shown[0], int(shown[1]), "1.2.3")


def test_module_without_a_version_is_an_error() -> None:
    with pytest.raises(SystemExit, match="__version__"):
        version_in('"""Nothing."""\n')
