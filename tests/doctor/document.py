"""The tables of docs/doctor.md, of the checks and the tests that hold them: `python -m tests.doctor.document`."""

import re
from collections.abc import Iterator
from pathlib import Path

from sidecar.doctor.examination import GROUPS
from tests.doctor.test_broken_set_ups import BROKEN

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "doctor.md"

_MARKED = re.compile(r"(<!-- (checks|broken): .* -->\n).*?(<!-- end of \2 -->\n)", re.DOTALL)


def checks() -> Iterator[str]:
    yield from ("| group | check | asks |", "|---|---|---|")
    for group, members in GROUPS.items():
        for check in members:
            yield f"| `{group}` | `{check.name}` | {check.asks}? |"


def broken() -> Iterator[str]:
    yield from ("| what was broken | found by | what comes first |", "|---|---|---|")
    for row in BROKEN:
        says = row.says.strip().replace("|", "\\|")
        yield f"| {row.what} | `{row.check}` | … {says} … |"


TABLES = {"checks": checks, "broken": broken}


def written_into(document: str) -> str:
    """The document with the tables of now in it."""
    return _MARKED.sub(lambda marks: f"{marks[1]}\n" + "\n".join(TABLES[marks[2]]()) + f"\n\n{marks[3]}", document)


if __name__ == "__main__":
    DOCUMENT.write_text(written_into(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
