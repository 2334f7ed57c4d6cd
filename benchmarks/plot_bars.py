"""
Draw the tables of `run_cost.py` as bars: one picture for each question, with a title that states the result.

Rule: a title states measured values without a judgement, so it is correct for any result.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import plot_style as style
from benchmarks.tables import Samples, Table

OURS, PEER, BOTO3 = "run", "aws-vault", "boto3"
FIXED_ANSWERS = ("C limit", "nginx")
"""Servers that only show what the machine can do, because they return a fixed response and never call STS."""


class Picture(NamedTuple):
    """A picture: its table, its panels by column, its title, and the unit of the bars."""

    table: str
    panels: Mapping[str, str]
    title: str
    unit: str


PICTURES = {
    "rush": Picture(
        "rush",
        {"c=32 req/s": "32 clients", "c=256 req/s": "256 clients"},
        "irsa-sidecar answers {run[c=256 req/s]} requests per second, aws-vault {aws-vault[c=256 req/s]} (256 clients)",
        "Requests per second on new connections; more is better",
    ),
    "tail": Picture(
        "rush",
        {"c=32 p99 ms": "32 clients", "c=256 p99 ms": "256 clients"},
        "99 % of requests within {run[c=256 p99 ms]} ms with irsa-sidecar, {aws-vault[c=256 p99 ms]} ms with aws-vault",
        "Latency (p99) at full load, in ms; less is better",
    ),
    "pace": Picture(
        "pace",
        {"p50 us": "half of the requests", "p99 us": "99 % of the requests", "p99.9 us": "99.9 % of the requests"},
        "Median request: {run[p50 us]} µs with irsa-sidecar, {aws-vault[p50 us]} µs with aws-vault",
        "Latency at 200 requests per second, in µs; less is better",
    ),
    "memory": Picture(
        "memory",
        {
            "RSS": "resident (RSS)",
            "PSS": "proportional (PSS)",
            "RssAnon": "private",
            "RSS after many": "RSS at the end",
        },
        "irsa-sidecar needs {run[RSS]} MiB of memory, aws-vault {aws-vault[RSS]} MiB (RSS)",
        "Memory after 2,000 requests, and at the end after 1 million, in MiB; less is better",
    ),
    "start": Picture(
        "start",
        {
            "listening ms": "until it listens",
            "credentials ms": "until it has credentials",
            "CPU ms": "CPU time of the start",
        },
        "Credentials after {run[credentials ms]} ms (irsa-sidecar), {boto3[credentials ms]} ms (boto3), "
        "{aws-vault[credentials ms]} ms (aws-vault)",
        "Time after the process starts, in ms, with an STS that answers at once; less is better",
    ),
}
"""Pictures by file name."""


def titles(found: Mapping[str, Table]) -> dict[str, str]:
    """Return the title of each picture whose table was measured."""
    measured = {file: picture for file, picture in PICTURES.items() if picture.table in found}
    return {file: _title(picture, found[picture.table].samples) for file, picture in measured.items()}


def draw(found: Mapping[str, Table], directory: Path) -> None:
    """Draw the pictures of the measured tables."""
    for file, title in titles(found).items():
        picture = PICTURES[file]
        style.save(_bars(picture, found[picture.table].samples, title), directory / f"{file}.svg")


def _title(picture: Picture, samples: Samples) -> str:
    """Return the title with the medians, or the unit if a subject in the title was not measured."""
    values = {name: {column: number(value) for column, value in _medians(row).items()} for name, row in samples.items()}
    try:
        return picture.title.format(**values)
    except KeyError:
        return picture.unit


def _medians(row: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {column: statistics.median(values) for column, values in row.items() if values}


def number(value: float) -> str:
    """Return the number as text, with at most three significant digits below 1,000 and no fraction above."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def _bars(picture: Picture, samples: Samples, title: str) -> Any:
    rows = [name for name, row in samples.items() if any(row.get(column) for column in picture.panels)]
    height = 1.3 + 0.26 * len(rows)
    figure, axes = style.plotting().subplots(
        1, len(picture.panels), sharey=True, squeeze=False, figsize=(style.WIDTH_INCHES, height), layout="constrained"
    )
    for axis, (column, meaning) in zip(axes[0], picture.panels.items(), strict=True):
        _panel(axis, rows, samples, column)
        axis.set(title=meaning)
    axes[0][0].set_yticks(range(len(rows)), [style.NAMES.get(name, name) for name in rows])
    axes[0][0].get_yticklabels()[rows.index(OURS)].set_fontweight("bold")
    axes[0][0].invert_yaxis()
    style.headline(figure, title, f"{picture.unit}. Medians; lines: least to most")
    style.layout(figure)
    return figure


def _panel(axis: Any, rows: Sequence[str], samples: Samples, column: str) -> None:
    """Draw one bar for each subject, and write the value after the bar."""
    longest = max(max(samples[name].get(column) or [0.0]) for name in rows)
    for place, name in enumerate(rows):
        values = samples[name].get(column)
        if not values:
            axis.text(0, place, " n/a", va="center", fontsize=8)
            continue
        median, least, most = statistics.median(values), min(values), max(values)
        colour = style.OURS if name == OURS else style.LIMIT if name in FIXED_ANSWERS else style.PEER
        axis.barh(place, median, height=0.7, color=colour)
        if least != most:
            axis.plot([least, most], [place, place], color=style.INK, lw=0.8)
        axis.text(max(median, most) + longest * 0.03, place, number(median), va="center", fontsize=8)
    axis.set(xlim=(0, longest * 1.32))
    axis.xaxis.set_visible(False)
    axis.spines["bottom"].set_visible(False)
    axis.tick_params(axis="y", length=0)
