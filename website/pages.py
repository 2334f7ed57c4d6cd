"""
Change Markdown pages of the repository into pages of the site.

Rule: this module is pure. On GitHub the pages in `docs/` link to other files of the repository by relative paths. The
site holds only `docs/`, so these links become links to the repository.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

INDEX = "README.md"
"""
The page that lists all other pages by section.

It is the home page of the site, and defines the order of the navigation.
"""

_MAX_DESCRIPTION = 200
"""Longest description of a page in characters. Search engines and link previews cut longer descriptions."""

_FENCED = re.compile(r"^( *)```.*?^\1```[^\n]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\(|^ {0,3}\[[^\]\n]+\]: +|(?:href|src|srcset)=\")([^)\s\"]+)", re.MULTILINE)
_SECTION = re.compile(r"^## +(.+?) *$", re.MULTILINE)
_FILE_LINK = re.compile(r"\[([\w-]+\.md)\]\(([^)\s#:]+\.md)(#[^)\s]*|)\)")
_PAGE_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#:]+\.md)\)")
_MARKUP = re.compile(r"\[([^\]]*)\]\([^)]*\)|[`*]")


class Repository(NamedTuple):
    """The address and the branch or tag of the repository."""

    url: str
    ref: str

    def link(self, path: str, anchor: str) -> str:
        """Return the address of a file or folder. A folder's path ends in a slash."""
        kind = "tree" if path.endswith("/") else "blob"
        return f"{self.url}/{kind}/{self.ref}/{path.rstrip('/')}{anchor}"

    def picture(self, path: str) -> str:
        """Return the address of a file's content, because the address of its page is not a picture."""
        return f"{self.url}/raw/{self.ref}/{path}"


class Entry(NamedTuple):
    """One page of the navigation."""

    title: str
    path: str


def rewritten(text: str, page: str, repository: Repository, is_folder: Callable[[str], bool]) -> str:
    """
    Return the text of a page in which links that leave `docs/` lead to the repository.

    `page` is the path of the page below `docs/`. `is_folder` receives a path below the root of the repository.
    """

    def replaced(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        if not target or "://" in target or target.startswith("mailto:") or path.startswith("docs/"):
            return match[0]
        if match[1].startswith("src"):
            return match[1] + repository.picture(path)
        return match[1] + repository.link(path + "/" * is_folder(path), f"#{anchor}" if anchor else "")

    return _outside_code(text, lambda part: _LINK.sub(replaced, part))


def titled(text: str, page: str, titles: Mapping[str, str]) -> str:
    """
    Return the page's text, in which links show the title of the target page instead of its file name.

    File names are useful on GitHub, and titles on the site. `titles` maps paths below `docs/` to titles.
    """

    def replaced(match: re.Match[str]) -> str:
        name, path, anchor = match.groups()
        title = titles.get(posixpath.normpath(posixpath.join(posixpath.dirname(page), path)))
        return f"[{title}]({path}{anchor})" if title and name == posixpath.basename(path) else match[0]

    return _outside_code(text, lambda part: _FILE_LINK.sub(replaced, part))


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts: list[str] = []
    start = 0
    for block in _FENCED.finditer(text):
        parts += [change(text[start : block.start()]), block[0]]
        start = block.end()
    return "".join([*parts, change(text[start:])])


def description(text: str) -> str:
    """Return the first sentences of the first paragraph, without markup. Without a paragraph, the text is empty."""
    for paragraph in re.split(r"\n\s*\n", _FENCED.sub("", text)):
        if paragraph.lstrip().startswith(("#", "<", "|", "!", "-", ">")):
            continue
        plain = " ".join(_MARKUP.sub(r"\1", paragraph).split())
        return _cut(plain) if plain else ""
    return ""


def _cut(sentences: str) -> str:
    if len(sentences) <= _MAX_DESCRIPTION:
        return sentences
    whole, point, _ = sentences[:_MAX_DESCRIPTION].rpartition(". ")
    return whole + point.strip() if point else sentences[:_MAX_DESCRIPTION].rpartition(" ")[0] + " …"


def sections(index: str) -> Iterator[tuple[str, list[Entry]]]:
    """Yield the sections of the index with their pages, in order."""
    _, *parts = _SECTION.split(index)
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        entries = [Entry(_MARKUP.sub(r"\1", title), path) for title, path in _PAGE_LINK.findall(_FENCED.sub("", body))]
        if entries:
            yield heading, [entry for entry in dict.fromkeys(entries) if not entry.path.startswith("../")]
