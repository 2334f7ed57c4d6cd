import json
from pathlib import Path

import pytest

from website.versions import main, with_version


def test_newest_version_comes_first_and_is_latest(tmp_path: Path) -> None:
    for version in ("0.9", "0.10", "0.9.1"):
        main([str(tmp_path / "versions.json"), version])
    assert json.loads((tmp_path / "versions.json").read_text()) == [
        {"version": "0.10", "title": "0.10", "aliases": ["latest"]},
        {"version": "0.9.1", "title": "0.9.1", "aliases": []},
        {"version": "0.9", "title": "0.9", "aliases": []},
    ]


def test_version_that_exists_is_listed_once() -> None:
    once = with_version([], "1.0")
    assert with_version(once, "1.0") == once


def test_version_without_numbers_is_rejected() -> None:
    with pytest.raises(ValueError, match="dev"):
        with_version([], "dev")
