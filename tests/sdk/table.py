"""
Generate the table in docs/sdks.md from a whole run: `python -m tests.sdk.table`, as `make test-sdks` does.

Each limit of a client is a footnote of the table. If a run was incomplete or a test failed, no table is written.
"""

import inspect
import json
import re
import sys
from collections.abc import Collection, Iterator

from tests.sdk.build import BUILDS
from tests.sdk.cases import CASES
from tests.sdk.catalogue import CLIENTS, ROOT, Client
from tests.sdk.limits import LIMITS, NUMBERS
from tests.sdk.plan import applies, everything

RUN = BUILDS / "run.json"
DOCUMENT = ROOT / "docs" / "sdks.md"

HELD, NOT_APPLICABLE = "✓", "·"
LEGEND = f"{HELD} means that the client passes.\n{NOT_APPLICABLE} means that the client makes no call to STS.\n"
LEGEND += "A number is a limit of the client."

_MARKED = re.compile(r"(<!-- sdks: .* -->\n).*(<!-- end of sdks -->\n)", re.DOTALL)

Shown = tuple[str, str, str]
"""A client, its version and a case that passed as expected."""


def as_it_should_be() -> set[Shown]:
    return {(client.name, client.version, case) for client, case in everything()}


def shown_by_the_run() -> set[Shown]:
    results = json.loads(RUN.read_text(encoding="utf-8"))
    return {(result["client"], result["version"], result["case"]) for result in results if result["passed"]}


def render() -> str:
    lines = ["| case | the client must |", "|---|---|"]
    lines += [f"| {name} | {_first_line(case)} |" for name, case in CASES.items()]
    lines += ["", f"| client | version | {' | '.join(CASES)} |", f"|---|---{'|:---:' * len(CASES)}|"]
    lines += [f"| {client.title} | {client.version} | {' | '.join(_cells(client))} |" for client in CLIENTS]
    lines += ["", LEGEND, "", "### Limits", ""]
    titles = {client.name: client.title for client in CLIENTS}
    for number, limit in enumerate(LIMITS, 1):
        lines.append(f"{number}. *{titles[limit.client]}, {limit.case}.* {limit.note} ([source]({limit.source}))")
    return "\n".join(lines) + "\n"


def written_into(document: str) -> str:
    """Return the text of the document with the current table."""
    return _MARKED.sub(lambda marks: f"{marks[1]}\n{render()}\n{marks[2]}", document)


def _cells(client: Client) -> Iterator[str]:
    for case in CASES:
        number = NUMBERS.get((client.name, case))
        yield NOT_APPLICABLE if not applies(client, case) else f"[{number}](#limits)" if number else HELD


def _first_line(case: object) -> str:
    return (inspect.getdoc(case) or "").splitlines()[0]


def _sentences(missing: Collection[Shown]) -> str:
    return "\n".join(f"{client} {version}: {case!r} has no result" for client, version, case in sorted(missing))


if __name__ == "__main__":
    if missing := as_it_should_be() - shown_by_the_run():
        sys.exit(_sentences(missing))
    DOCUMENT.write_text(written_into(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
