"""Check that the maps for contributors show every package, and the import rules of test_layers.py."""

from pathlib import Path

from tests.unit.test_layers import LINES

ROOT = Path(__file__).parents[2]


def _folders(parent: str) -> set[str]:
    return {path.parent.name for path in (ROOT / parent).glob("*/*.py")}


def test_map_has_every_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert {name for name in _folders("sidecar") if f"| `sidecar/{name}/`" not in text} == set()


def test_architecture_page_has_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert {name for name in _folders("sidecar") if f"| `{name}/`" not in text} == set()


def test_architecture_page_shows_the_import_rules() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert "\n".join(" ".join(line) for line in LINES) in text


def test_map_of_the_tests_has_every_folder() -> None:
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    assert {name for name in _folders("tests") if f"`{name}/" not in text} == set()
