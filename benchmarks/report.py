"""
Write one run of run_cost.py as a page with pictures: subjects, machine, command, and comparison with others.

Rule: the page contains only one run. The run is stored beside the pictures, so page and pictures can be written again.
"""

import json
import statistics
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


class Goal(NamedTuple):
    """
    A goal: table, column, words, and the required value, as a minimum or a maximum.

    The value is the ratio to the best of the peers, or our own figure if there are no peers.
    """

    table: str
    column: str
    words: str
    wanted: float
    is_at_least: bool = False
    peers: tuple[str, ...] = GO_PEERS


GOALS = [
    Goal("rush", "c=32 req/s", "requests per second, 32 clients", 1.35, is_at_least=True),
    Goal("rush", "c=32 req/s", "requests per second, 32 clients", 0.82, is_at_least=True, peers=("C limit",)),
    Goal("rush", "c=256 req/s", "requests per second, 256 clients", 1.4, is_at_least=True),
    Goal("rush", "c=256 req/s", "requests per second, 256 clients", 0.88, is_at_least=True, peers=("C limit",)),
    Goal("rush", "c=256 p99 ms", "p99 latency, 256 clients", 0.55),
    Goal("pace", "p50 us", "p50 latency, 200 requests per second", 0.45),
    Goal("pace", "p99 us", "p99 latency, 200 requests per second", 0.7),
    Goal("start", "listening ms", "listens after, ms", 20, peers=()),
    Goal("start", "credentials ms", "has credentials after", 0.65, peers=("boto3",)),
    Goal("idle", "CPU ms/min", "CPU when idle, ms per minute", 1.5, peers=()),
]
"""The goals of the page, in its order."""

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
    """A run: machine and command, clients, subjects, missing subjects, results, and earlier results."""

    command: str
    machine: str
    clients: str
    subjects: Mapping[str, str]
    left_out: Sequence[str]
    tables: Mapping[str, Table]
    before: Mapping[str, float] = {}
    """The values of the goals on the last page (goal_values)."""


def write(directory: Path, run: Run) -> None:
    """Write `benchmarks.md` in the directory, and the data and the pictures in the subdirectory `plots`."""
    plots = directory / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    (plots / DATA).write_text(as_json(run), encoding="utf-8")
    (directory / "benchmarks.md").write_text(page(run), encoding="utf-8")
    plot_bars.draw(run.tables, plots)


def last_values(directory: Path) -> dict[str, float]:
    """Return the values of the goals in the stored run, or nothing if there is none."""
    stored = directory / "plots" / DATA
    return goal_values(from_json(stored.read_text(encoding="utf-8")).tables) if stored.exists() else {}


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
    yield "\n## Goals, and changes since the last page\n"
    yield "A row that names a program shows the ratio to this program. Other rows show the figure of irsa-sidecar."
    yield "Of the Go programs, a row names the one with the best result in that row."
    yield "Go programs start faster and use less memory than irsa-sidecar, as the tables below show.\n"
    yield from _goals(run)
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


def _goals(run: Run) -> Iterator[str]:
    yield "| measurement | irsa-sidecar | compared with | goal | result | last page |\n|---|---|---|---|---|---|"
    for goal in GOALS:
        best = _best(goal, run.tables)
        if best is None:
            yield f"| {goal.words} | not measured | | | | |"
            continue
        value, peer = best
        result = "met" if (value >= goal.wanted if goal.is_at_least else value <= goal.wanted) else "not met"
        sign, before = "≥" if goal.is_at_least else "≤", run.before.get(_key(goal))
        last = "" if before is None else f"{before:.2f}"
        yield f"| {goal.words} | {value:.2f} | {_shown(peer)} | {sign} {goal.wanted:g} | {result} | {last} |"


def _key(goal: Goal) -> str:
    return " / ".join([goal.words, *goal.peers])


def _best(goal: Goal, found: Mapping[str, Table]) -> tuple[float, str] | None:
    """Return the value of the goal and the peer, or None if it was not measured. The best peer has the worst ratio."""
    table = found.get(goal.table)
    if table is None:
        return None
    if not goal.peers:
        values = table.samples.get(OURS, {}).get(goal.column)
        return (statistics.median(values), "") if values else None
    ratios = [(ratio, peer) for peer in goal.peers if (ratio := tables.ratio(table, OURS, peer, goal.column))]
    return (min if goal.is_at_least else max)(ratios, default=None)


def goal_values(found: Mapping[str, Table]) -> dict[str, float]:
    """Return the value of each measured goal, which the next page shows as `last page`."""
    return {_key(goal): best[0] for goal in GOALS if (best := _best(goal, found))}
