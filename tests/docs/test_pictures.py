"""Check that pictures and plots are small, match their stored sources, and appear on a page."""

import hashlib
import re
from pathlib import Path

import pytest

from benchmarks import report

DOCS = Path(__file__).parents[2] / "docs"
PICTURES, PLOTS = DOCS / "pictures", DOCS / "plots"
IMAGES = sorted([*PICTURES.glob("*.svg"), *PLOTS.glob("*.svg")])
MAX_BYTES = 60_000


def _name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("image", IMAGES, ids=_name)
def test_image_is_small_and_has_selectable_text(image: Path) -> None:
    text = image.read_text(encoding="utf-8")
    assert len(text.encode()) < MAX_BYTES
    assert "<text" in text


@pytest.mark.parametrize("image", IMAGES, ids=_name)
def test_image_is_on_a_page(image: Path) -> None:
    pages = [*DOCS.glob("*.md"), DOCS.parent / "README.md"]
    assert any(f"{image.parent.name}/{image.name}" in page.read_text(encoding="utf-8") for page in pages)


def test_picture_is_drawn_from_its_source() -> None:
    """Compare the checksums that `make pictures` writes with the sources and the pictures."""
    lines = (PICTURES / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    files = [*PICTURES.glob("*.d2"), *PICTURES.glob("*.svg")]
    assert sums == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}, "run `make pictures`"


def test_every_picture_has_both_themes() -> None:
    sources = {path.stem for path in PICTURES.glob("*.d2")} - {"style"}
    assert {path.stem for path in PICTURES.glob("*.svg")} == {
        f"{n}-{theme}" for n in sources for theme in ("dark", "light")
    }


def test_benchmark_page_equals_the_stored_run() -> None:
    stored = report.from_json((PLOTS / report.DATA).read_text(encoding="utf-8"))
    assert (DOCS / "benchmarks.md").read_text(encoding="utf-8") == report.page(stored), "run `make plots`"


def test_alternative_text_of_a_plot_is_its_title() -> None:
    """Compare each plot's alternative text in a page with the title that the plot itself shows."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    found = {name: text for text, name in re.findall(r"!\[(.+)\]\(plots/(\S+)\)", pages)}
    assert found.keys() == {path.name for path in PLOTS.glob("*.svg")}
    for name, text in found.items():
        assert f">{text}<" in (PLOTS / name).read_text(encoding="utf-8"), name
