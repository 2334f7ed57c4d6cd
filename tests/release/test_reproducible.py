"""Test that a build in another folder, on another day and with another umask creates the same files."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from release import artefacts
from release.check import Release, verify
from release.checksums import sha256
from release.oci_layout import config, read_layout
from release.plugin import MANIFEST, archive_names
from tests.support.prerequisites import require

REPOSITORY = Path(__file__).parents[2]

DAYS = ("2027-02-28 23:59:58", "2031-06-01 00:00:01")


@pytest.fixture
def elsewhere(tmp_path: Path, release: Release) -> Path:
    """Return another checkout of the release's commit."""
    folder = tmp_path / "a folder with another name"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", verify(release)], check=True)
    return folder


def build(checkout: Path, day: str, output: Path, *parts: str) -> None:
    """Build the parts on this day, in another time zone, and with a umask that denies other users all access."""
    require({"faketime": "faketime"}, "A build on another day")
    command = ["faketime", day, sys.executable, "-m", "release", "parts", f"--output={output}", "--fresh", *parts]
    subprocess.run(command, cwd=checkout, env=os.environ | {"TZ": "Asia/Tokyo"}, umask=0o077, check=True)


@pytest.mark.parametrize("day", DAYS)
def test_packages_and_chart_are_the_same_on_any_day(
    elsewhere: Path, release: Release, tmp_path: Path, day: str
) -> None:
    build(elsewhere, day, tmp_path / "again", "packages", "chart", "notes")
    names = [*artefacts.packages(release.version), artefacts.chart(release.version), artefacts.NOTES]
    assert {name: sha256(tmp_path / "again" / name) for name in names} == {
        name: sha256(release.path(name)) for name in names
    }


def test_plugin_is_the_same_from_another_folder(elsewhere: Path, release: Release, tmp_path: Path) -> None:
    """Build on the same day, because the registry's certificates are not valid on other days."""
    output = f"--output={tmp_path / 'again'}"
    command = [sys.executable, "-m", "release", "parts", output, "--fresh", "packages", "plugin"]
    subprocess.run(command, cwd=elsewhere, env=os.environ | {"TZ": "Asia/Tokyo"}, umask=0o077, check=True)
    names = [*archive_names(release.version), MANIFEST]
    assert {name: sha256(tmp_path / "again" / name) for name in names} == {
        name: sha256(release.path(name)) for name in names
    }


def test_wheel_from_the_source_distribution_is_the_same(release: Release, tmp_path: Path) -> None:
    """Pip builds this wheel when a user installs the source distribution."""
    wheel, sdist = artefacts.packages(release.version)
    with tarfile.open(release.path(sdist)) as archive:
        archive.extractall(tmp_path, filter="data")
        time = archive.getmembers()[0].mtime
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "again")]
    environment = os.environ | {"SOURCE_DATE_EPOCH": f"{time:.0f}"}
    folder = tmp_path / sdist.removesuffix(".tar.gz")
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    assert sha256(tmp_path / "again" / wheel) == sha256(release.path(wheel))


def test_images_are_the_same_on_another_day(elsewhere: Path, release: Release, tmp_path: Path) -> None:
    """Build the images and the lists of packages again, for one architecture."""
    architecture = release.architectures[0]
    build(elsewhere, DAYS[1], tmp_path / "again", "images", "sboms", f"--architectures={architecture}")
    for tag in artefacts.tags(release.version):
        again = read_layout((tmp_path / "again" / artefacts.image(tag)).read_bytes()).platforms[0]
        there = read_layout(release.path(artefacts.image(tag)).read_bytes()).platforms[0]
        assert config(again)["rootfs"] == config(there)["rootfs"]
        assert again == there
        for end in ("spdx.json", "cdx.json"):
            name = artefacts.sbom(tag, architecture, end)
            assert sha256(tmp_path / "again" / name) == sha256(release.path(name))


def test_image_has_the_health_check_of_the_dockerfile(release: Release) -> None:
    """Podman does not show the health check of images in this format, so tests/image cannot test it."""
    run = read_layout(release.path(artefacts.image(release.version)).read_bytes())
    for platform in run.platforms:
        assert config(platform)["config"]["Healthcheck"]["Test"] == ["CMD", "irsa-sidecar", "probe"]
