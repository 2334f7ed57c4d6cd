"""
Find avoided words in comments, docstrings, messages, test names and documentation.

    python -m tests.support.language [PATH…]

Without a PATH, the check reads all text files of git, except the paths in `language_pending.txt`. These are not clean
yet. A clean path in that list is an error, so that the list shrinks. `--tidy` removes the clean paths.

Each finding is one line: FILE:LINE: words → replacement. The exit status is 1 if there are findings. A line that quotes
other authors is exempt if it contains `language: quoted`.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.avoided_words import Match, avoided_in, docstring_start, raises_within_line

ROOT = Path(__file__).parents[2]

PENDING = Path(__file__).with_name("language_pending.txt")

EXEMPT = "language: quoted"
"""The text that marks a line with words of other authors."""

MAX_TEST_NAME = 60
"""The maximum length of a test's name, in characters."""

_TEXT_SUFFIXES = {".md", ".yaml", ".yml", ".toml", ".sh", ".tpl", ".c", ".go", ".java", ".mjs", ".js", ".rs"}
_TEXT_NAMES = {"Makefile", "Dockerfile", "Containerfile", "CODEOWNERS", "run"}
_NOT_READ = ("tests/fuzz/corpus/", "requirements/", "tests/support/avoided_words.py", "tests/support/test_language.py")
_FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"``[^`]+``|`[^`\n]+`")


class Unit(NamedTuple):
    """One text and the lines of the file that it covers."""

    text: str
    line: int
    last_line: int
    kind: str


class Finding(NamedTuple):
    """An avoided form in a file."""

    path: str
    line: int
    words: str
    use: str

    def __str__(self) -> str:
        """Return the finding in the form of a compiler message."""
        return f"{self.path}:{self.line}: {self.words!r} → {self.use}"


def _comments(source: str) -> Iterator[Unit]:
    """Yield each block of comments. Successive lines with only a comment are one text."""
    lines: list[str] = []
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        number = token.start[0]
        if lines and number == first + len(lines) and not token.line[: token.start[1]].strip():
            lines.append(token.string)
            continue
        if lines:
            yield Unit("\n".join(lines), first, first + len(lines) - 1, "comment")
        lines, first = [token.string], number
    if lines:
        yield Unit("\n".join(lines), first, first + len(lines) - 1, "comment")


def _strings(tree: ast.AST) -> Iterator[Unit]:
    """Yield docstrings, the strings under constants, and every other string that has a space."""
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            kind = "docstring" if id(node) in statements else "string"
            yield Unit(node.value, node.lineno, node.end_lineno or node.lineno, kind)


def _test_names(tree: ast.AST) -> Iterator[Unit]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            yield Unit(node.name, node.lineno, node.lineno, "test")


def python_units(source: str) -> Iterator[Unit]:
    """Yield the texts of a Python file."""
    tree = ast.parse(source)
    yield from _comments(source)
    yield from _strings(tree)
    yield from _test_names(tree)


def _blank(match: re.Match[str]) -> str:
    """Return a placeholder with the line breaks of the match, so that later line numbers do not change."""
    return "`…`" + "\n" * match[0].count("\n")


def _paragraphs(source: str) -> Iterator[Unit]:
    """Yield each paragraph of a text file. An empty line ends a paragraph."""
    lines = source.split("\n")
    first = 1
    for number, line in enumerate([*lines, ""], 1):
        if line.strip():
            continue
        if number > first:
            yield Unit("\n".join(lines[first - 1 : number - 1]), first, number - 1, "text")
        first = number + 1


def units(path: str, source: str) -> Iterator[Unit]:
    """Yield the texts of a file. The file's name decides how the file is read."""
    if path.endswith(".py"):
        return python_units(source)
    return _paragraphs(_FENCED.sub(_blank, source) if path.endswith(".md") else source)


def _plain(unit: Unit) -> str:
    """Return the text without code spans, except in strings, and with spaces between the words of a test's name."""
    if unit.kind == "test":
        return unit.text.replace("_", " ")
    return unit.text if unit.kind == "string" else _CODE.sub("`…`", unit.text)


def flatten(text: str) -> tuple[str, list[int]]:
    """Return the text with single spaces and without comment marks, and the offset at which each line begins."""
    words: list[str] = []
    starts: list[int] = []
    length = 0
    for line in text.split("\n"):
        starts.append(length)
        found = [word for word in line.split() if word.strip("#/*")]
        words += found
        length += sum(len(word) + 1 for word in found)
    return " ".join(words), starts


def _matches(unit: Unit, text: str) -> list[Match]:
    found = avoided_in(text)
    start = docstring_start(text) if unit.kind == "docstring" else None
    if start:
        found.insert(0, start)
    raises = raises_within_line(unit.text) if unit.kind == "docstring" else None
    if raises:
        found.append(Match(text.find(raises.words), raises.words, raises.use))
    if unit.kind == "test" and len(unit.text) > MAX_TEST_NAME:
        found.append(Match(0, unit.text, f"a name of at most {MAX_TEST_NAME} characters"))
    return found


def _line_of(unit: Unit, match: Match, starts: list[int], lines: list[str]) -> int:
    """Return the line of a match. In a string, search for the words, because the source has other line breaks."""
    if unit.kind != "string":
        return min(unit.line + bisect_right(starts, match.offset) - 1, unit.last_line)
    covered = range(unit.line, unit.last_line + 1)
    whole = [number for number in covered if match.words in lines[number - 1]]
    part = [number for number in covered if match.words.split()[0] in lines[number - 1]]
    return (whole or part or [unit.line])[0]


def findings(path: str, source: str) -> Iterator[Finding]:
    """Yield the forms to avoid in a file, except in exempt lines."""
    lines = source.split("\n")
    for unit in units(path, source):
        text, starts = flatten(_plain(unit))
        for match in _matches(unit, text):
            line = _line_of(unit, match, starts, lines)
            if EXEMPT not in lines[line - 1]:
                yield Finding(path, line, match.words, match.use)


def is_text(path: str) -> bool:
    """Return whether the check reads this file."""
    name = Path(path)
    known = name.suffix in {".py", *_TEXT_SUFFIXES} or name.name in _TEXT_NAMES
    return known and not path.startswith(_NOT_READ)


def tracked(paths: Iterable[str] = ()) -> list[str]:
    """Return the files that the check reads and git tracks or would add, relative to the root of the work tree."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", *paths]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for path in listed if is_text(path) and (ROOT / path).is_file()]


def check(paths: Iterable[str]) -> list[Finding]:
    """Return the findings of these files, sorted."""
    found = [each for path in paths for each in findings(path, (ROOT / path).read_text(encoding="utf-8"))]
    return sorted(set(found))


def pending() -> list[str]:
    """Return the paths that are not clean yet: files, and folders with a slash at the end."""
    lines = PENDING.read_text(encoding="utf-8").splitlines() if PENDING.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def split_pending(found: list[Finding], entries: list[str]) -> tuple[list[Finding], list[str]]:
    """Return the findings outside of the pending paths, and the pending paths without findings."""
    paths = {finding.path for finding in found}
    clean = [entry for entry in entries if not any(_is_below(path, entry) for path in paths)]
    return [finding for finding in found if not any(_is_below(finding.path, entry) for entry in entries)], clean


def _is_below(path: str, entry: str) -> bool:
    return path == entry or (entry.endswith("/") and path.startswith(entry))


def tidy(clean: list[str]) -> None:
    """Remove the clean paths from the list of pending paths."""
    lines = PENDING.read_text(encoding="utf-8").splitlines(keepends=True)
    PENDING.write_text("".join(line for line in lines if line.rstrip("\n") not in clean), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Print the findings and their number, and return the exit status."""
    if arguments == ["--tidy"]:
        tidy(split_pending(check(tracked()), pending())[1])
        arguments = []
    paths = tracked([str(Path(argument).resolve()) for argument in arguments])
    found, clean = split_pending(check(paths), [] if arguments else pending())
    for line in (*found, *(f"{PENDING.name}: {entry} is clean: remove it from the list" for entry in clean)):
        print(line)
    print(f"{len(found)} findings in {len({finding.path for finding in found})} of {len(paths)} files", file=sys.stderr)
    return 1 if found or clean else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
