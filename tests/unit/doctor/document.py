"""Write the checks and their tests into docs/doctor.md: `python -m tests.unit.doctor.document`."""

import re
from collections.abc import Iterator
from pathlib import Path

import sidecar
from sidecar.doctor.run import GROUPS
from tests.unit.doctor.broken_set_ups import BROKEN

DOCUMENT = Path(sidecar.__file__).parent.parent / "docs" / "doctor.md"

_MARKED = re.compile(r"(<!-- (checks): .* -->\n).*?(<!-- end of \2 -->\n)", re.DOTALL)


def checks() -> Iterator[str]:
    """Yield a heading for each check, its question, and the broken set-ups that the check finds in the tests."""
    for group, members in GROUPS.items():
        for check in members:
            yield from (f"### {group}.{check.name}", "", f"{check.question[0].upper()}{check.question[1:]}?", "")
            yield from _broken(f"{group}.{check.name}")


def _broken(check: str) -> Iterator[str]:
    rows = [row for row in BROKEN if row.check == check]
    if rows:
        yield from ("| error | in the first finding |", "|---|---|")
        for row in rows:
            words = row.words.strip().replace("|", "\\|")
            yield f"| {row.what} | … {words} … |"
        yield ""


TABLES = {"checks": checks}


def written_into(document: str) -> str:
    """Return the document with up-to-date tables."""
    return _MARKED.sub(lambda marks: f"{marks[1]}\n" + "\n".join(TABLES[marks[2]]()) + f"\n{marks[3]}", document)


if __name__ == "__main__":
    DOCUMENT.write_text(written_into(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
