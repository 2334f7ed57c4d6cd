"""
What a step would change: the resource now, the resource then, and the calls that lead from one to the other. Pure.

Rule: a plan without calls is a plan without a difference. A plan names everything it does, and is all that is applied.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from sidecar.setup.resources import Resource

_CONTEXT_LINES = 3
_HEADINGS = 3
"""Two names of files, and where the first difference is."""


class Call(NamedTuple):
    """One request to AWS in AWS's own names. `what` says it to a person, as `attach policy …`."""

    operation: str
    parameters: Mapping[str, Any]
    what: str


@dataclass(frozen=True, slots=True)
class Plan:
    """
    `now` is None for a resource that does not exist yet. `notes` are for the person, whatever is done.

    `effects` say in words what the difference means, such as which service accounts it takes away.
    """

    wanted: Resource
    now: Resource | None
    calls: tuple[Call, ...]
    notes: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.wanted.title


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Iterator[str]:
    """The lines of both documents as YAML, the differing ones marked with + or -; none where they are equal."""
    old = [] if before is None else _lines(before)
    lines = [*difflib.unified_diff(old, _lines(after), n=_CONTEXT_LINES, lineterm="")]
    for line in lines[_HEADINGS:]:
        yield "  ⋮" if line.startswith("@@") else f"{line[0]} {line[1:]}"


_COLOURS = {"+": "\x1b[32m", "-": "\x1b[31m"}
_PLAIN = "\x1b[0m"


def coloured(line: str) -> str:
    colour = _COLOURS.get(line[:1])
    return f"{colour}{line}{_PLAIN}" if colour else line


def _lines(document: Mapping[str, Any]) -> list[str]:
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=10_000).splitlines()
