"""
Build the site: copy `docs/` with links that lead to the repository, add fonts, and run Zensical.

    python -m website.build [--ref REF] [--url URL]

Rule: nothing is downloaded. The fonts of the social cards come from a package, because Zensical gets them from Google
otherwise. A broken link or anchor inside the site ends the build with exit status 1.
"""

import argparse
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from website.pages import INDEX, Repository, description, rewritten, sections, titled

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILD = ROOT / "build" / "website"
DECISIONS = "decisions/README.md"
FONT_STYLES = ("Regular", "Medium", "Bold", "Light", "Italic")


def main(arguments: list[str] | None = None) -> None:
    """Build the site into build/website/site."""
    parser = argparse.ArgumentParser(prog="website.build", description="Build the documentation site offline.")
    parser.add_argument("--ref", default="main", help="branch or tag for links to the repository (main)")
    parser.add_argument("--url", help="address at which the site will be served")
    options = parser.parse_args(arguments)
    config = yaml.safe_load((ROOT / "website" / "mkdocs.yml").read_text(encoding="utf-8"))
    shutil.rmtree(BUILD, ignore_errors=True)
    _copy_pages(Repository(config["repo_url"], options.ref))
    _copy_fonts()
    if options.url:
        config["site_url"] = options.url
    config["nav"] = navigation((DOCS / INDEX).read_text(encoding="utf-8"))
    config["plugins"].append({"llmstxt": _llms_text(config["nav"])})
    (BUILD / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "mkdocs.yml"]
    sys.exit(subprocess.run(command, cwd=BUILD, check=False).returncode)


def navigation(index: str) -> list[dict[str, Any]]:
    """Return the navigation: the home page, and the sections of the index. The decisions are below their own index."""
    return [
        {"Home": INDEX},
        *({heading: [_entry(*entry) for entry in entries]} for heading, entries in sections(index)),
    ]


def _entry(title: str, path: str) -> dict[str, Any]:
    if path != DECISIONS:
        return {title: path}
    single = sorted(f"decisions/{page.name}" for page in (DOCS / "decisions").glob("0*.md"))
    return {title: [path, *single]}


def _llms_text(nav: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the settings of llms.txt, with the sections and the order of the navigation."""
    listed = {
        heading: [{path: description((DOCS / path).read_text(encoding="utf-8"))} for path in _paths(entries)]
        for section in nav
        for heading, entries in section.items()
        if isinstance(entries, list)
    }
    home = description((DOCS / INDEX).read_text(encoding="utf-8"))
    return {"full_output": "llms-full.txt", "markdown_description": home, "sections": listed}


def _paths(entry: Any) -> list[str]:
    """Return the paths in a part of the navigation, at any depth."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [path for part in parts for path in _paths(part)]


def _copy_pages(repository: Repository) -> None:
    target = BUILD / "docs"
    shutil.copytree(DOCS, target)
    index = (DOCS / INDEX).read_text(encoding="utf-8")
    titles = {entry.path: entry.title for _, entries in sections(index) for entry in entries}
    for page in sorted(target.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        summary = yaml.safe_dump({"description": description(text)}, allow_unicode=True, width=10_000)
        name = page.relative_to(target).as_posix()
        body = titled(rewritten(text, name, repository, lambda path: (ROOT / path).is_dir()), name, titles)
        page.write_text(f"---\n{summary}---\n\n{body}", encoding="utf-8")
    shutil.copytree(ROOT / "website" / "assets", target / "assets", dirs_exist_ok=True)
    shutil.copytree(ROOT / "website" / "overrides", BUILD / "overrides")


def _copy_fonts() -> None:
    """Put the fonts where the plugin `social` keeps those that it downloaded."""
    source = files("font_roboto") / "files"
    cache = BUILD / ".cache" / "plugin" / "social" / "fonts" / "Roboto"
    cache.mkdir(parents=True)
    for style in FONT_STYLES:
        (cache / f"{style}.ttf").write_bytes((source / f"Roboto-{style}.ttf").read_bytes())


if __name__ == "__main__":
    main()
