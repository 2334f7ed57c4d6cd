"""
Plan the changes of a step: the current resource, the planned resource, and the calls that make the changes. Pure.

Rule: a plan has calls if and only if the two resources differ. A step makes no other calls that change AWS.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from sidecar.setup.resources import Resource

_CONTEXT_LINES = 3
"""Number of unchanged lines that are shown before and after a change."""

_HEADINGS = 3
"""Number of lines in a diff before the first difference: two file names and a position."""


class Call(NamedTuple):
    """A request to AWS, with AWS's own names. `what` is a description for people, such as `attach …`."""

    operation: str
    parameters: Mapping[str, Any]
    what: str


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The changes to one resource.

    `current` is None for a resource that does not exist yet. `notes` are messages that the person gets even if nothing
    changes. `effects` describe the meaning of the changes, such as the service accounts that they remove.
    """

    planned: Resource
    current: Resource | None
    calls: tuple[Call, ...]
    notes: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.planned.title


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences of both documents as YAML, with some equal lines. Different lines begin with + or -."""
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
