"""Format a report as text for people and as JSON for programs. Pure."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple

from sidecar.doctor.checks.calls import CONFIGURED, Calls
from sidecar.doctor.finding import NOT_CHECKED_BECAUSE, Check, Facts, Finding, Row, Status, run_checks, skipped
from sidecar.doctor.location import Side
from sidecar.printable import printable
from sidecar.redaction import without_secrets
from sidecar.wrapping import wrapped

SCHEMA_VERSION = 1
"""
Version of the JSON document. It increases when a name is removed or changes its meaning, not when a name is added.
"""


class Report(NamedTuple):
    """
    The findings in the order of the data flow, and the daily calls to STS by session duration.

    `token_lifetimes` are the seconds from issue to expiration of each token, by its file.
    """

    side: Side
    rows: tuple[Row, ...]
    calls: Mapping[str, Calls]
    token_lifetimes: Mapping[str, float] = MappingProxyType({})

    @property
    def first_failure(self) -> Row | None:
        return next((row for row in self.rows if row.finding.status is Status.FAILED), None)

    def count(self, status: Status) -> int:
        return sum(row.finding.status is status for row in self.rows)

    @property
    def status(self) -> Status:
        """The worst status of all findings."""
        found = {row.finding.status for row in self.rows}
        return next((status for status in (Status.FAILED, Status.WARNING) if status in found), Status.OK)


def rows(
    group: str,
    checks: Sequence[Check[Facts]],
    facts: Facts | None,
    unavailable: Finding | str = "",
    *,
    role: str | None = None,
    container: str | None = None,
) -> Iterator[Row]:
    """
    Yield the group's findings. Without facts, yield only `unavailable`: a finding, or the reason for a skipped one.

    Findings quote settings and other programs' errors, so this function removes passwords from URLs.
    """
    instead = skipped(unavailable) if isinstance(unavailable, str) else unavailable
    found = [("all", instead)] if facts is None else run_checks(checks, facts)
    for name, finding in found:
        observed, next_step = without_secrets(finding.observed), without_secrets(finding.next_step)
        yield Row(group, name, finding._replace(observed=observed, next_step=next_step), role, container)


# For programs


def as_json(report: Report) -> str:
    """Return one JSON document. docs/doctor.md describes its schema."""
    first = report.first_failure
    document = {
        "version": SCHEMA_VERSION,
        "side": report.side.value,
        "status": report.status.value,
        "first_failure": None if first is None else _row(first),
        "checks": [_row(row) for row in report.rows],
        "sts_calls_per_day": {name: counted._asdict() for name, counted in report.calls.items()},
        "token_lifetimes": dict(report.token_lifetimes),
    }
    return json.dumps(document, indent=2)


def _row(row: Row) -> dict[str, Any]:
    finding = row.finding
    return {
        "group": row.group,
        "check": row.check,
        "role": row.role,
        "container": row.container,
        "status": finding.status.value,
        "observed": finding.observed,
        "next_step": finding.next_step or None,
    }


# For people

_WORDS = {Status.OK: "ok", Status.WARNING: "warning", Status.FAILED: "FAILED", Status.SKIPPED: "-"}
_COLOURS = {Status.OK: "32", Status.WARNING: "33", Status.FAILED: "1;31", Status.SKIPPED: "2"}
_WORD_WIDTH = 9

_Paint = Callable[[str, Status], str]


def as_text(report: Report, *, width: int, colours: bool, is_verbose: bool = False) -> str:
    """
    Return the first failure with its next step, or a summary if no check failed. Then return the findings by group.

    Paths and ARNs are not wrapped at `width`. Skipped checks are counted, and listed if `is_verbose`.
    """
    report = report._replace(rows=tuple(_printable(row) for row in report.rows))
    paint = _painted if colours else _plain
    rows = [row for row in report.rows if is_verbose or row.finding.status is not Status.SKIPPED]
    check_width = max((len(_id(row)) for row in rows), default=0) + 2
    lines = [*_headline(report, width, paint, is_verbose=is_verbose), ""]
    for title, group in groupby(rows, key=_title):
        lines.append(title)
        for depends_on_failure, same in groupby(group, key=_depends_on_failure):
            if depends_on_failure:
                names = ", ".join(_id(row) for row in same)
                lines += _finding("", skipped(f"not checked: {names}"), check_width, width, paint)
            else:
                lines += [line for row in same for line in _finding(_id(row), row.finding, check_width, width, paint)]
    return "\n".join([*lines, *_calls(report.calls, width)])


def _id(row: Row) -> str:
    """Return the check's id, which is also its heading in docs/reference/doctor-checks.md."""
    return f"{row.group}.{row.check}"


def _printable(row: Row) -> Row:
    """Return the row with all text from outside escaped for a terminal. Wrapping replaces line feeds and tabs later."""
    role, container = (name and printable(name) for name in (row.role, row.container))
    observed, next_step = (printable(text, keep="\n\t") for text in (row.finding.observed, row.finding.next_step))
    return row._replace(role=role, container=container, finding=Finding(row.finding.status, observed, next_step))


def _title(row: Row) -> str:
    of_role = f" of role {row.role}" if row.role else ""
    return f"{row.group}{of_role}{f' of container {row.container}' if row.container else ''}"


def _depends_on_failure(row: Row) -> bool:
    return row.finding.observed.startswith(NOT_CHECKED_BECAUSE)


def _headline(report: Report, width: int, paint: _Paint, *, is_verbose: bool) -> Iterator[str]:
    first = report.first_failure
    if first is None:
        warnings = report.count(Status.WARNING)
        parts = ["No failure found", *([_counted(warnings, "warning")] if warnings else [])]
        yield paint(f"{'; '.join([*parts, *_not_made(report, is_verbose=is_verbose)])}.", report.status)
        return
    owner = f" ({_title(first)})" if first.role or first.container else ""
    for line in wrapped(_sentence(f"Failed{owner}: {first.finding.observed}"), width):
        yield paint(line, Status.FAILED)
    yield from wrapped(_sentence(f"Next: {first.finding.next_step}"), width)
    yield from wrapped(f"See: {_id(first)} in docs/reference/doctor-checks.md", width)
    others = report.count(Status.FAILED) - 1
    if others:
        yield f"({_counted(others, 'more problem')} below, possibly caused by this one)"
    yield from (f"{sentence}." for sentence in _not_made(report, is_verbose=is_verbose))


def _not_made(report: Report, *, is_verbose: bool) -> Iterator[str]:
    count = report.count(Status.SKIPPED)
    if count:
        yield f"{_counted(count, 'check')} could not be made{'' if is_verbose else ' (--verbose lists them)'}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _sentence(text: str) -> str:
    return text if text.endswith(("?", ".")) else f"{text}."


def _finding(check: str, finding: Finding, check_width: int, width: int, paint: _Paint) -> Iterator[str]:
    status, observed, next_step = finding
    word = paint(_WORDS[status], status) + " " * (_WORD_WIDTH - len(_WORDS[status]))
    indent = " " * (2 + _WORD_WIDTH + check_width)
    first, *more = wrapped(observed, width, first=indent, later=indent)
    yield f"  {word}{check.ljust(check_width)}{first[len(indent) :]}"
    yield from more
    if next_step:
        yield from wrapped(f"next: {next_step}", width, first=indent, later=indent + "      ")


def _calls(calls: Mapping[str, Calls], width: int) -> Iterator[str]:
    if not calls:
        return
    alternatives = [f"{counted} with {name}" for name, counted in calls.items() if name != CONFIGURED]
    yield ""
    yield from wrapped(
        f"Calls to STS per Pod and day: {calls[CONFIGURED]} as configured. By IRSA_SIDECAR_DURATION: "
        f"{', '.join(alternatives)}.",
        width,
    )


def _plain(text: str, _status: Status) -> str:
    return text


def _painted(text: str, status: Status) -> str:
    return f"\x1b[{_COLOURS[status]}m{text}\x1b[0m"
