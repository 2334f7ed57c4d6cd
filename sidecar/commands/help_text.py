"""
Fit help texts to the width of a terminal. Pure.

Rule: a shell command that is too long continues on the next line with a backslash, so that a person can still paste the
command. A single word that is too long, such as an ARN, is not split.
"""

import re
import textwrap
from collections.abc import Iterator

_LISTED = re.compile(r"(\s*\S+(?: \S+)*?\s{2,})(\S.*)")
"""Pattern for a line of a list: a name, at least two spaces, and a description."""

_COMMENTED = re.compile(r"(\s+)(\S.*?)\s+# (.*)")
"""Pattern for a shell command and the comment after it."""

WORDS = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
"""Pattern for one word of a shell command, with its quotes."""

_CONTINUED = re.compile(r"\s*\\\n\s*")


def fitted(text: str, width: int) -> str:
    """Return the text with lines of at most `width` characters, unless one word is longer."""
    if all(len(line) <= width for line in text.splitlines()):
        return text
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join("\n".join(_block(block, width)) for block in blocks)


def _block(block: str, width: int) -> Iterator[str]:
    lines = _CONTINUED.sub(" ", block).split("\n")
    if not any(line.startswith((" ", "-")) for line in lines):
        lines = [" ".join(lines)]
    for line in lines:
        if len(line) <= width:
            yield line
        elif commented := _COMMENTED.fullmatch(line):
            indent, command, comment = commented.groups()
            yield from textwrap.wrap(comment, width, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
            yield from _command(f"{indent}{command}", width)
        elif listed := _LISTED.fullmatch(line):
            yield from _hanging(listed[1], listed[2], width)
        elif line.startswith(" "):
            yield from _command(line, width)
        else:
            yield from textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)


def _hanging(name: str, summary: str, width: int) -> Iterator[str]:
    """Yield the lines of one list entry. The description is beside the name, or below it if the line is too narrow."""
    indent = len(name) if width - len(name) >= width // 2 else 4
    first = name if indent == len(name) else " " * indent
    if first != name:
        yield name.rstrip()
    yield from textwrap.wrap(
        summary,
        width,
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _command(line: str, width: int) -> Iterator[str]:
    indent = line[: len(line) - len(line.lstrip())]
    current = ""
    for word in WORDS.findall(line):
        longer = f"{current} {word}" if current else f"{indent}{word}"
        if current and len(longer) > width - len(r" \ ".rstrip()):
            yield f"{current} \\"
            current = f"{indent}    {word}"
        else:
            current = longer
    yield current
