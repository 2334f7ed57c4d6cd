"""
Write one run of run_cost.py as a page with pictures: subjects, machine, command, and comparison with others.

Rule: the page contains only one run. The run is stored beside the pictures, so page and pictures can be written again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import plot_bars, tables
from benchmarks.plot_style import NAMES
from benchmarks.tables import Table

OURS, GO_PEERS = "run", ("aws-vault", "ec2-metadata-mock")

DATA = "benchmarks.json"
"""Name of the file with the last run. The file is beside the pictures."""

COLUMNS = {
    "listening ms": "listens after, ms",
    "credentials ms": "has credentials after, ms",
    "CPU ms": "CPU of the start, ms",
    "RssAnon": "private (RssAnon)",
    "RSS after many": "RSS after many requests",
    "requests": "requests sent for that",
    "peak refreshing": "peak RSS while refreshing",
    "refreshes": "number of refreshes",
    "CPU ms/min": "CPU, ms per minute",
    "switches/min": "context switches per minute",
    "c=32 req/s": "32 clients: requests/s",
    "c=32 p50 ms": "32: p50 ms",
    "c=32 p99 ms": "32: p99 ms",
    "c=32 errors": "32: errors",
    "c=256 req/s": "256 clients: requests/s",
    "c=256 p50 ms": "256: p50 ms",
    "c=256 p99 ms": "256: p99 ms",
    "c=256 errors": "256: errors",
    "p50 us": "p50 µs",
    "p99 us": "p99 µs",
    "p99.9 us": "p99.9 µs",
}
"""Headings of columns by their names in `run_cost.py`."""

GOALS = [
    ("rush", "c=32 req/s", "requests per second, 32 clients", 1.1, True),
    ("rush", "c=256 req/s", "requests per second, 256 clients", 1.1, True),
    ("rush", "c=256 p99 ms", "p99 latency, 256 clients", 0.7, False),
    ("pace", "p50 us", "p50 latency, 200 requests per second", 0.5, False),
]
"""The goals: table, column, words, and the required ratio to the best Go peer, as a minimum or a maximum."""

HEAD = """\
# Benchmarks

This page compares irsa-sidecar with other programs that serve AWS credentials: speed, memory and start time.
[capacity.md](capacity.md) shows what the figures mean for nodes and fleets.

`make bench` measures everything once and writes this page.
`make plots` only draws the pictures again, from the stored data.
Each round measures every program once, so other work on the machine affects all programs equally.
Compare figures only with other figures of the same table, and not with figures from another machine.
Each cell is the median of the rounds, with the minimum and the maximum in parentheses.

STS is a stub on loopback that responds at once.
The start times therefore do not include DNS, TCP or TLS to the real STS.
With TLS and one file of authorities, the daemon needs 1.4 MiB and 25 ms of CPU more than in these tables.
The image has one file per authority, and no docstrings of other packages.
With TLS in the image, the daemon therefore needs 1.8 MiB and 22 ms of CPU less than with one file of authorities.
[capacity.md](capacity.md#memory) shows the memory of a sidecar in a Pod.

## Method
"""


class Run(NamedTuple):
    """A run: machine and command, clients, subjects, missing subjects, and results."""

    command: str
    machine: str
    clients: str
    subjects: Mapping[str, str]
    left_out: Sequence[str]
    tables: Mapping[str, Table]


def write(directory: Path, run: Run) -> None:
    """Write `benchmarks.md` in the directory, and the data and the pictures in the subdirectory `plots`."""
    plots = directory / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    (plots / DATA).write_text(as_json(run), encoding="utf-8")
    (directory / "benchmarks.md").write_text(page(run), encoding="utf-8")
    plot_bars.draw(run.tables, plots)


def page(run: Run) -> str:
    """Return the page with its tables and links to its pictures."""
    return "\n".join(_lines(run, plot_bars.titles(run.tables)))


def as_json(run: Run) -> str:
    found = {name: table._asdict() for name, table in run.tables.items()}
    return json.dumps(run._asdict() | {"tables": found}, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Run:
    """
    Return a stored run.

    Raises ValueError or TypeError if the text is not a stored run.
    """
    stored = json.loads(text)
    return Run(**stored | {"tables": {name: Table(**table) for name, table in stored["tables"].items()}})


def _lines(run: Run, drawn: Mapping[str, str]) -> Iterator[str]:
    yield HEAD
    yield f"- Command: `{run.command}`"
    yield f"- Machine: {run.machine}"
    yield f"- New connections: {run.clients}"
    yield from (f"- {_shown(name)}: {what}" for name, what in run.subjects.items())
    yield from (f"- Left out: {what}" for what in run.left_out)
    yield "\n## Compared with the fastest Go program\n"
    yield "Each row compares irsa-sidecar with the Go program that has the best result in that row."
    yield "Go programs start faster and use less memory than irsa-sidecar, as the tables below show.\n"
    yield from _goals(run.tables)
    for name, table in run.tables.items():
        yield f"\n## {table.title}\n"
        yield tables.markdown(_with_known_names(table))
        yield from (f"\n![{drawn[file]}](plots/{file}.svg)" for file in drawn if plot_bars.PICTURES[file].table == name)
    yield ""


def _shown(name: str) -> str:
    return NAMES.get(name, name)


def _with_known_names(table: Table) -> Table:
    """Return the table with names that readers know, and columns in words."""
    samples = {
        _shown(name): {COLUMNS.get(column, column): values for column, values in row.items()}
        for name, row in table.samples.items()
    }
    beside = {_shown(ours): [_shown(name) for name in theirs] for ours, theirs in table.beside.items()}
    return Table(table.title, samples, beside)


def _goals(found: Mapping[str, Table]) -> Iterator[str]:
    yield "| measurement | ratio of irsa-sidecar | to this program | goal | result |\n|---|---|---|---|---|"
    for name, column, words, wanted, is_at_least in GOALS:
        ratios = {peer: tables.ratio(found[name], OURS, peer, column) if name in found else None for peer in GO_PEERS}
        there = {peer: ratio for peer, ratio in ratios.items() if ratio is not None}
        if not there:
            yield f"| {words} | not measured | | | |"
            continue
        # The best peer is the peer with the worst ratio for `run`.
        peer = (min if is_at_least else max)(there, key=there.__getitem__)
        is_met = there[peer] >= wanted if is_at_least else there[peer] <= wanted
        sign = "≥" if is_at_least else "≤"
        yield f"| {words} | {there[peer]:.2f} | {_shown(peer)} | {sign} {wanted} | {'met' if is_met else 'not met'} |"
