"""
Verify the files of a release, as a user does before installing them.

Trust begins with a public key, or with the identity of the workflow, and nothing in the folder can change that.

Rule: every byte of every file is covered by a signature, and each rejection names its reason.
"""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release import artefacts, checksums, contents
from release.archive import Entry, entries
from release.images import ARCHITECTURES, LABEL
from release.oci import PlatformImage
from release.oci_layout import InvalidLayoutError, ReadImage, config, layers, read_layout
from release.provenance import SLSA
from release.sboms import FORMATS, parse
from release.sign import image_subjects
from release.signing import SigningError, Verifier


class RejectedError(Exception):
    """An error for a release that a user must not install."""


@dataclass(frozen=True)
class Release:
    """A folder with a release, the trusted verifier, and the trusted key of the chart."""

    folder: Path
    version: str
    verifier: Verifier
    helm: Path
    chart_key: Path
    architectures: tuple[str, ...] = ARCHITECTURES

    def path(self, name: str) -> Path:
        return self.folder / name


def verify(release: Release) -> str:
    """
    Verify everything, and return the commit that the release was built from.

    Raises RejectedError if a file is not as it was signed.
    """
    try:
        for step in (_list, _artefacts, _images, _sboms, _chart):
            step(release)
    except (SigningError, InvalidLayoutError, contents.UnknownComponentError) as error:
        raise RejectedError(str(error)) from error
    return _commit(release)


def version_of(folder: Path) -> str:
    """
    Return the version in the name of the only wheel.

    Raises RejectedError unless there is exactly one wheel.
    """
    wheels = [path.name.split("-")[1] for path in folder.glob("irsa_sidecar-*.whl")]
    if len(wheels) != 1:
        raise RejectedError(f"{folder} has {len(wheels)} wheels of irsa-sidecar instead of one")
    return wheels[0]


def _list(release: Release) -> None:
    """Verify the list of checksums and its signature, and compare it with the folder."""
    path = release.path(checksums.NAME)
    if not path.exists():
        raise RejectedError(f"{checksums.NAME} is missing")
    release.verifier.verify(path)
    found = checksums.checksums(release.folder)
    _reject(checksums.differences(checksums.listed(path.read_text()), found))
    expected = artefacts.files(release.version, release.architectures)
    _reject(_unexpected(expected, {path.name for path in release.folder.iterdir()}))


def _unexpected(expected: set[str], found: set[str]) -> Iterator[str]:
    yield from (f"{name} is missing" for name in sorted(expected - found))
    yield from (f"{name} is not a part of a release" for name in sorted(found - expected))


def _artefacts(release: Release) -> None:
    """Verify that each artefact has a signed statement on how it was built, and that all are from one commit."""
    if len(commits := {_built_from(release, name) for name in artefacts.artefacts(release.version)}) != 1:
        raise RejectedError(f"the artefacts are built from different commits: {', '.join(sorted(commits))}")


def _built_from(release: Release, name: str) -> str:
    digest = checksums.sha256(release.path(name))
    statement = release.verifier.verify_statement(release.path(artefacts.provenance(name)), digest, SLSA)
    definition = statement["predicate"]["buildDefinition"]
    if definition["externalParameters"]["version"] != release.version:
        raise RejectedError(f"{name} was built as another version than {release.version}")
    return str(definition["resolvedDependencies"][0]["digest"]["gitCommit"])


def _commit(release: Release) -> str:
    return _built_from(release, artefacts.chart(release.version))


def _images(release: Release) -> None:
    """Verify each image: the digests in its statement, its tag and platforms, and the commit in its labels."""
    for tag in artefacts.tags(release.version):
        name = artefacts.image(tag)
        image = read_layout(release.path(name).read_bytes())
        for subject in image_subjects(image):
            release.verifier.verify_statement(release.path(artefacts.provenance(name)), subject.sha256, SLSA)
        _reject(_wrong_platforms(image, tag, release.architectures))
        _reject(_wrong_labels(image, tag, _commit(release)))


def _wrong_platforms(image: ReadImage, tag: str, architectures: tuple[str, ...]) -> Iterator[str]:
    if image.tag != tag:
        yield f"the image {tag} has the tag {image.tag}"
    if tuple(platform.platform["architecture"] for platform in image.platforms) != architectures:
        yield f"the image {tag} is not for {' and '.join(architectures)}"


def _wrong_labels(image: ReadImage, tag: str, commit: str) -> Iterator[str]:
    for platform in image.platforms:
        found = config(platform)["config"]["Labels"][f"{LABEL}revision"]
        if found != commit:
            yield f"the image {tag} was built from {found}, and its statement names {commit}"


def _sboms(release: Release) -> None:
    """Verify that the images contain the wheel and exactly the packages in the signed lists."""
    for tag in artefacts.tags(release.version):
        for platform in read_layout(release.path(artefacts.image(tag)).read_bytes()).platforms:
            files = [file for layer in layers(platform) for file in entries(layer)]
            _reject(_wrong_wheel(release, tag, files))
            there = contents.installed(files)
            for end in FORMATS:
                name = artefacts.sbom(tag, platform.platform["architecture"], end)
                document = _attested(release, name, platform, FORMATS[end].predicate_type)
                _reject(f"{name}: {problem}" for problem in contents.differences(there, contents.listed(document)))


def _wrong_wheel(release: Release, tag: str, files: list[Entry]) -> Iterator[str]:
    """Compare the wheel in the image with the wheel of the release, because both are built from the same files."""
    wheel, _ = artefacts.packages(release.version)
    if contents.wheel_digest(files) != checksums.sha256(release.path(wheel)):
        yield f"the image {tag} does not contain {wheel}"


def _attested(release: Release, name: str, image: PlatformImage, predicate_type: str) -> Mapping[str, Any]:
    """Return the list of packages, which equals the signed list for this image."""
    digest = image.manifest.digest.removeprefix("sha256:")
    statement = release.verifier.verify_statement(release.path(artefacts.attestation(name)), digest, predicate_type)
    document = parse(release.path(name).read_bytes())
    if statement["predicate"] != document:
        raise RejectedError(f"{name} differs from the signed list of packages")
    return document


def _chart(release: Release) -> None:
    chart = release.path(artefacts.chart(release.version))
    command = [str(release.helm), "verify", str(chart), "--keyring", str(release.chart_key)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RejectedError(f"helm verify rejects {chart.name}: {done.stderr.strip()}")


def _reject(problems: Iterator[str]) -> None:
    if found := list(problems):
        raise RejectedError("; ".join(found))
