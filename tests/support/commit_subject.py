"""
Check the form of a commit message: `python -m tests.support.commit_subject FILE`, which the commit-msg hook runs.

Rule: `area: imperative subject`, at most 65 characters without a full stop, then a blank line and the reason.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_CHARACTERS = 65
"""The maximum length of a subject in characters. `git log --oneline` then fits into 80 columns."""

_FORM = re.compile(r"[A-Za-z0-9_./ -]+(?:, [A-Za-z0-9_./ -]+)*: [^\s.].*")
_WRITTEN_BY_GIT = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")


def problems(message: str) -> Iterator[str]:
    """Yield the problems of a message. Comment lines are ignored, because git removes them later."""
    lines = [line for line in message.splitlines() if not line.startswith("#")]
    subject = lines[0] if lines else ""
    if subject.startswith(_WRITTEN_BY_GIT):
        return
    if not _FORM.fullmatch(subject):
        yield "the subject has no area: write `area: imperative subject`"
    if len(subject) > MAX_CHARACTERS:
        yield f"the subject has {len(subject)} characters: use at most {MAX_CHARACTERS}"
    if subject.endswith("."):
        yield "the subject ends with a full stop: remove it"
    if len(lines) > 1 and lines[1].strip():
        yield "the second line is not blank: separate the subject from the reason"


def main(path: str) -> int:
    """Print the problems of the message in a file, and return the exit status."""
    found = list(problems(Path(path).read_text(encoding="utf-8")))
    for problem in found:
        print(f"commit message: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
