import json
from pathlib import Path

import pytest

from website.publish import publish
from website.versions import with_version


@pytest.fixture
def site(tmp_path: Path) -> Path:
    built = tmp_path / "site"
    built.mkdir()
    return built


def test_newest_version_comes_first_and_is_latest(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    for version in ("0.9", "0.10", "0.9.1"):
        (site / "index.html").write_text(version)
        publish(site, folder, version)
    assert json.loads((folder / "versions.json").read_text()) == [
        {"version": "0.10", "title": "0.10", "aliases": ["latest"]},
        {"version": "0.9.1", "title": "0.9.1", "aliases": []},
        {"version": "0.9", "title": "0.9", "aliases": []},
    ]
    pages = {path.parent.name: path.read_text() for path in folder.glob("*/index.html")}
    assert pages == {"0.10": "0.10", "0.9.1": "0.9.1", "0.9": "0.9", "latest": "0.10"}
    assert 'url=latest/"' in (folder / "index.html").read_text()


def test_published_version_is_replaced_completely(site: Path, tmp_path: Path) -> None:
    (site / "old.html").write_text("old")
    folder = tmp_path / "published"
    folder.mkdir()
    publish(site, folder, "1.0")
    (site / "old.html").rename(site / "new.html")
    publish(site, folder, "1.0")
    assert sorted(path.name for path in (folder / "1.0").iterdir()) == ["new.html"]


def test_version_that_is_published_again_is_listed_once() -> None:
    once = with_version([], "1.0")
    assert with_version(once, "1.0") == once


def test_version_without_numbers_is_rejected() -> None:
    with pytest.raises(ValueError, match="dev"):
        with_version([], "dev")
