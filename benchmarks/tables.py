"""Format samples as a table for people: medians, minimum and maximum, and ratios to other subjects. Pure."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

Samples = dict[str, dict[str, list[float]]]
"""The type of the samples for one table: by subject, then by column, one number for each round."""


class Table(NamedTuple):
    """
    A table with one row for each subject, then one row for each ratio. `beside` maps a subject to its peers.

    A cell is the median, with `(least-most)` if the rounds differ.
    """

    title: str
    samples: Samples
    beside: Mapping[str, Sequence[str]]


def text(table: Table) -> str:
    """Return text for a terminal."""
    rows = _rows(table)
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(["", table.title, "", *(_line(row, widths) for row in rows)])


def markdown(table: Table) -> str:
    """Return Markdown for a page, without the title."""
    head, *rows = [f"| {' | '.join(row)} |" for row in _rows(table)]
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *rows])


def ratio(table: Table, ours: str, theirs: str, column: str) -> float | None:
    """Return the ratio of the medians, or None if one is missing or the second is 0."""
    pair = [table.samples.get(name, {}).get(column) for name in (ours, theirs)]
    medians = [statistics.median(values) for values in pair if values]
    return medians[0] / medians[1] if len(medians) == 2 and medians[1] else None


def _rows(table: Table) -> list[list[str]]:
    samples = table.samples
    columns = list(dict.fromkeys(column for row in samples.values() for column in row))
    rows = [["", *columns]]
    rows += [[name, *(_cell(row.get(column, [])) for column in columns)] for name, row in samples.items()]
    rows += _ratio_rows(samples, columns, table.beside)
    return rows


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join(["", first.strip().ljust(widths[0]), *others]).rstrip()


def _ratio_rows(samples: Samples, columns: Sequence[str], beside: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    for ours, others in beside.items():
        for theirs in others:
            pairs = ((samples[ours].get(column, []), samples[theirs].get(column, [])) for column in columns)
            yield [f"{ours} / {theirs}", *(_ratio(*pair) for pair in pairs)]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    if not ours or not theirs or statistics.median(theirs) == 0:
        return ""
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    median, least, most = (_number(value) for value in (statistics.median(values), min(values), max(values)))
    return median if least == most else f"{median} ({least}-{most})"


def _number(value: float) -> str:
    """Return the number with one or two decimals. Whole numbers, and numbers from 1,000 on, have none."""
    if value == int(value) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
