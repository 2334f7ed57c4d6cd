"""
Build the parts of a release into one folder.

Rule: everything is built from an export of the commit, into an empty folder.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from release import artefacts
from release.chart import package_chart
from release.go_programs import HELM_4, SYFT, built
from release.images import TARGETS, Engine, build_image
from release.notes import notes
from release.oci_layout import read_layout
from release.packages import build_packages
from release.plugin import build_plugin
from release.sboms import Scan, scan
from release.source import Source, changed_files, export, read_source


@dataclass(frozen=True)
class Build:
    """The commit, the folder with its files, the folder for the parts, and the engine that builds the images."""

    source: Source
    files: Path
    output: Path
    engine: Engine


def _packages(build: Build) -> None:
    build_packages(build.files, build.output, build.source.epoch)


def _plugin(build: Build) -> None:
    build_plugin(build.files, build.output, build.source.version, build.source.epoch)


def _chart(build: Build) -> None:
    package_chart(built(HELM_4), build.files, build.output, build.source.epoch)


def _notes(build: Build) -> None:
    text = notes((build.files / "CHANGELOG.md").read_text(), build.source.version)
    (build.output / artefacts.NOTES).write_text(text)


def _images(build: Build) -> None:
    for target in TARGETS:
        tag, archive = build_image(build.engine, build.source, build.files, target)
        (build.output / artefacts.image(tag)).write_bytes(archive)


def _sboms(build: Build) -> None:
    for tag in artefacts.tags(build.source.version):
        for image in read_layout((build.output / artefacts.image(tag)).read_bytes()).platforms:
            documents = scan(built(SYFT), Scan(image, "irsa-sidecar", tag, build.source.epoch))
            for end, document in documents.items():
                name = artefacts.sbom(tag, image.platform["architecture"], end)
                (build.output / name).write_bytes(document)


Part = Callable[[Build], None]

PARTS: Mapping[str, Part] = {
    "packages": _packages,
    "plugin": _plugin,
    "chart": _chart,
    "notes": _notes,
    "images": _images,
    "sboms": _sboms,
}
"""The parts in the order in which they are built."""


def build_parts(repository: Path, output: Path, engine: Engine, parts: Iterable[str] = PARTS) -> Source:
    """Build the parts from the commit that is checked out in the repository, without signatures. Return the source."""
    source = read_source(repository)
    for name in changed_files(repository):
        sys.stderr.write(f"release: warning: {name} differs from the commit. The release has the file of the commit.\n")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch, "files")
        export(source, files)
        for part in parts:
            sys.stderr.write(f"release: {part}\n")
            PARTS[part](Build(source, files, output.resolve(), engine))
    return source
