"""
Read the code blocks of the documentation, and the notes above them.

Rule: a note is an HTML comment on a separate line, directly above its block: `<!-- KEY: VALUE -->`. Readers of the
rendered page do not see it. NOTES has the keys.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

NOTES = {
    "not run": "why no test runs this shell block",
    "run by": "the test outside of tests/docs that runs this shell block without changes",
    "typed in": "the shell that the block above opens, where the reader types this block",
    "exits with": "the exit status of a block that shows a failure",
    "file": "the file that holds this block when the shell blocks below run",
    "yaml": "the kind of a YAML block that is not a whole object (tests/docs/yaml_kinds.py)",
    "not checked": "why no test checks this YAML block",
}
"""The keys of notes, each with the meaning of its value."""

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*)")
_HEADING = re.compile(r"#{2,6} +(.+?) *")
_NOTE = re.compile(r" *<!-- (?P<key>[a-z ]+): (?P<value>.+) -->")


class Block(NamedTuple):
    """A fenced code block of a page."""

    page: str
    line: int
    section: str
    language: str
    text: str
    notes: dict[str, str]

    def __str__(self) -> str:
        """Return the block's page and line, in the form of a compiler message."""
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return the pages for users: README.md and docs/, without the generated reference and the decisions."""
    paths = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
    return [str(path.relative_to(ROOT)) for path in paths]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, section: str | None = None, language: str | None = None) -> list[Block]:
    """Return the code blocks of a page, or only the blocks under one heading or in one language."""
    return [
        block
        for block in parse(page, read(page))
        if section in {None, block.section} and language in {None, block.language}
    ]


def commands(page: str, section: str) -> list[str]:
    """Return the shell commands under a heading, each on one line."""
    return [line for block in blocks(page, section, "sh") for line in lines_of(block)]


def lines_of(block: Block) -> list[str]:
    """Return the commands of a shell block, with continued lines joined."""
    text = block.text.replace("\\\n", " ")
    return [re.sub(" +", " ", line) for line in text.splitlines() if line.strip()]


def parse(page: str, text: str) -> Iterator[Block]:
    """Yield the code blocks of a page's text."""
    lines = iter(enumerate(text.splitlines(), 1))
    section, notes = "", dict[str, str]()
    for number, line in lines:
        if fence := _FENCE.match(line):
            inside = _until_closed(lines, fence["indent"])
            yield Block(page, number, section, fence["language"], inside, notes)
            notes = {}
        elif note := _NOTE.fullmatch(line):
            notes[note["key"]] = note["value"]
        elif heading := _HEADING.fullmatch(line):
            section, notes = heading[1], {}
        else:
            notes = {}


def _until_closed(lines: Iterator[tuple[int, str]], indent: str) -> str:
    """Return the lines up to the closing fence, without the indent of the block."""
    found = []
    for _, line in lines:
        if line.rstrip() == f"{indent}```":
            break
        found.append(line.removeprefix(indent) + "\n")
    return "".join(found)
