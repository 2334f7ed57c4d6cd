"""Check the links between pages and the paths in pages: each target, with its heading, exists in this repository."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_CODE = re.compile(r"^( *)```.*?^\1```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_NAMED_FILE = re.compile(r"(?:sidecar|tests|benchmarks|docs|k8s|requirements)/[\w./-]*")
_HTML_ANCHOR = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")


def pages() -> list[Path]:
    """Return every Markdown file that is tracked by git or could be added."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / path for path in listed if (ROOT / path).exists()]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def slug(heading: str) -> str:
    """Return the anchor that GitHub creates for a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page. Headings with the same name are numbered."""
    text = page.read_text(encoding="utf-8")
    seen: Counter[str] = Counter()
    found = set(_HTML_ANCHOR.findall(text))
    for heading in _HEADING.findall(_CODE.sub(lambda match: match[0] if "\n" not in match[0] else "", text)):
        name = slug(heading)
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def broken_links(page: Path) -> Iterator[str]:
    """Yield each link of a page whose file or heading does not exist."""
    for target in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            yield target


def missing_files(page: Path) -> Iterator[str]:
    """Yield each path that is in a code span of the page but not in this repository."""
    for span in _SPAN.findall(page.read_text(encoding="utf-8")):
        for word in span.split():
            if _NAMED_FILE.fullmatch(word) and not (ROOT / word).exists():
                yield word


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", [page for page in pages() if page.name != "CHANGELOG.md"], ids=_name)
def test_files_named_in_pages_exist(page: Path) -> None:
    assert list(missing_files(page)) == []


@pytest.mark.parametrize(
    ("heading", "expected"),
    [("On an empty EKS cluster", "on-an-empty-eks-cluster"), ("`run`, and [why](a.md)", "run-and-why"), ("A_b", "a_b")],
)
def test_slug_equals_the_anchor_on_github(heading: str, expected: str) -> None:
    assert slug(heading) == expected


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# One\n\n# One\n\n```\n# Code\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](there.md) [b](there.md#one-1) [c](#here) [d](https://example.com/x) `[e](none.md)`\n"
        "[f](none.md) [g](there.md#code) [h](there.md#one-2) [i](#there)\n"
    )
    assert list(broken_links(page)) == ["none.md", "there.md#code", "there.md#one-2", "#there"]


def test_missing_files_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`docs/none.md`, `docs/sdks.md`, `python tests/none.py`, `tests/<package>`, docs/none.md\n")
    assert list(missing_files(page)) == ["docs/none.md", "tests/none.py"]
