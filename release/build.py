"""
Build the parts of a release into one folder.

Rule: everything is built from an export of the commit, and the folder is empty before.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from release.chart import package_chart
from release.checksums import write_checksums
from release.go_programs import HELM_4, built
from release.notes import notes
from release.packages import build_packages
from release.source import Source, changed_files, export, read_source

NOTES = "RELEASE_NOTES.md"


@dataclass(frozen=True)
class Build:
    """The commit, its files, and the folder for the parts."""

    source: Source
    files: Path
    output: Path


def _packages(build: Build) -> None:
    build_packages(build.files, build.output, build.source.epoch)


def _chart(build: Build) -> None:
    package_chart(built(HELM_4), build.files, build.output, build.source.epoch)


def _notes(build: Build) -> None:
    text = notes((build.files / "CHANGELOG.md").read_text(), build.source.version)
    (build.output / NOTES).write_text(text)


PARTS: Mapping[str, Callable[[Build], None]] = {"packages": _packages, "chart": _chart, "notes": _notes}
"""The parts in the order in which they are built."""


def build_release(repository: Path, output: Path, parts: list[str]) -> None:
    """Build the parts from the commit that is checked out in the repository."""
    source = read_source(repository)
    for name in changed_files(repository):
        sys.stderr.write(f"release: warning: {name} differs from the commit, and the release has the commit's.\n")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch, "files")
        export(source, files)
        build = Build(source, files, output.resolve())
        for part in parts:
            sys.stderr.write(f"release: {part}\n")
            PARTS[part](build)
    write_checksums(output)
