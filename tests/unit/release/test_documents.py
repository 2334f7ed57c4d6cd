"""Test checksums, notes, and the metadata that a release repeats in several files."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from release.chart import provenance_text
from release.checksums import NAME, checksums, differences, listed, write_checksums
from release.notes import notes
from release.programs import fixed_environment
from release.source import URL
from release.wheel_sbom import PATH, current_text
from sidecar import __version__

REPOSITORY = Path(__file__).parents[3]

CHANGELOG = """# Changelog

## 1.1.0 (2027-01-02)

### Fixed

- One.

## 1.1

An older scheme.

## 1.0.0

First.
"""


@pytest.mark.parametrize(
    ("version", "expected"), [("1.1.0", "### Fixed\n\n- One.\n"), ("1.1", "An older scheme.\n"), ("1.0.0", "First.\n")]
)
def test_notes_are_from_the_section_of_the_version(version: str, expected: str) -> None:
    assert notes(CHANGELOG, version) == expected


def test_version_without_notes_is_an_error() -> None:
    with pytest.raises(SystemExit, match=r"no section 1\.0\."):
        notes(CHANGELOG, "1.0")


def test_changelog_has_notes_of_this_version() -> None:
    assert notes((REPOSITORY / "CHANGELOG.md").read_text(), __version__)


def test_checksums_find_every_difference(tmp_path: Path) -> None:
    for name in ("kept", "changed", "removed"):
        (tmp_path / name).write_text(name)
    expected = listed(write_checksums(tmp_path).read_text())
    assert list(differences(expected, checksums(tmp_path))) == []
    (tmp_path / "changed").write_text("x")
    (tmp_path / "removed").unlink()
    (tmp_path / "added").touch()
    found = list(differences(expected, checksums(tmp_path)))
    assert [sentence.split()[0] for sentence in found] == ["added", "changed", "removed"]


def test_checksums_have_the_format_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    write_checksums(tmp_path)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (tmp_path / NAME).read_text() == f"{empty}  a\n"


def test_sbom_of_the_wheel_is_current() -> None:
    assert PATH.read_text() == current_text(), "run `python -m release.wheel_sbom`"


def test_sbom_of_the_wheel_lists_only_the_package() -> None:
    bill = json.loads(current_text())
    assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/irsa-sidecar@{__version__}"
    assert bill["components"] == []


def test_links_of_the_package_lead_to_the_repository() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Source"] == URL
    assert all(url.startswith(URL) for url in project["urls"].values())


def test_files_linked_from_security_insights_exist() -> None:
    text = (REPOSITORY / "SECURITY-INSIGHTS.yml").read_text()
    paths = re.findall(rf"{re.escape(URL)}/blob/main/(\S+)", text)
    assert len(paths) > 5
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    assert set(yaml.safe_load(text)) == {"header", "project", "repository"}


def test_builds_have_a_fixed_locale_time_zone_and_hash_seed() -> None:
    caller = {"PATH": "/bin", "TZ": "Asia/Tokyo", "LC_ALL": "de_DE", "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"}
    fixed = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "5"}
    assert fixed_environment(caller, 5) == {"PATH": "/bin", "BUILDAH_FORMAT": "docker", **fixed}


def test_provenance_of_the_chart_names_its_digest() -> None:
    """Use Helm's format: the metadata, a line of three dots, and the digests."""
    text = provenance_text("version: 1.0.0\nname: a\n", "a-1.0.0.tgz", b"")
    metadata, digests = text.split("\n...\n")
    assert metadata == "name: a\nversion: 1.0.0\n"
    assert digests.startswith("files:\n  a-1.0.0.tgz: sha256:e3b0c442")
