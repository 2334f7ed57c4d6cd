"""
Write one run of run_cost.py as a page with pictures: subjects, machine, command, and comparison with others.

The page is written whole, from that run only. docs/capacity.md explains what the figures mean for a fleet.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import tables
from benchmarks.tables import Table

OURS, GO_PEERS = "run", ("aws-vault", "ec2-metadata-mock")

PICTURES = {
    "rush": ("New connections", ["c=32 req/s", "c=256 req/s"], "requests a second, more is better"),
    "tail": ("New connections, the slowest of a hundred", ["c=32 p99 ms", "c=256 p99 ms"], "ms, less is better"),
    "pace": ("200 requests a second", ["p50 us", "p99 us", "p99.9 us"], "µs, less is better"),
    "memory": ("Memory", ["RSS", "PSS", "RssAnon", "RSS after many"], "MiB, less is better"),
    "start": ("From exec", ["listening ms", "credentials ms", "CPU ms"], "ms, less is better"),
}
"""Pictures by file name: the title, the columns, and the meaning of the bars. `tail` is from the table `rush`."""

GOALS = [
    ("rush", "c=32 req/s", "new connections, 32 clients", 1.1, True),
    ("rush", "c=256 req/s", "new connections, 256 clients", 1.1, True),
    ("rush", "c=256 p99 ms", "p99 of 256 clients at once", 0.7, False),
    ("pace", "p50 us", "p50 at 200 requests a second", 0.5, False),
]
"""Goals: table, column, words, and the required ratio to the best Go peer, at least or at most."""

HEAD = """\
# What it costs

Written by `make bench`, from one run. All subjects are measured in turn, round by round, so that what else the machine
did met them alike: compare inside a table, and not across machines. STS is a stub on loopback that answers at once, so
starts hold neither DNS, TCP nor TLS to the real one: over TLS, with the authorities to trust, `run` takes 1.4 MiB and
25 ms of CPU more; in the image, where those lie one a file and foreign packages have no docstrings, 1.8 MiB and 22 ms
less. Cells are medians, with the least and the most of the rounds. What it means for nodes and fleets is in
[capacity.md](capacity.md).
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
    """Write `benchmarks.md` in the directory, and its pictures in `plots` below."""
    plots = directory / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    drawn = _draw(run.tables, plots)
    page = "\n".join(_page(run, drawn))
    (directory / "benchmarks.md").write_text(page, encoding="utf-8")


def _page(run: Run, drawn: Mapping[str, str]) -> Iterator[str]:
    yield HEAD
    yield f"- Command: `{run.command}`"
    yield f"- Machine: {run.machine}"
    yield f"- New connections: {run.clients}"
    yield from (f"- {name}: {what}" for name, what in run.subjects.items())
    yield from (f"- Left out: {what}" for what in run.left_out)
    yield "\n## Beside the best Go peer\n"
    yield from _goals(run.tables)
    for name, table in run.tables.items():
        yield f"\n## {table.title}\n"
        yield tables.markdown(table)
        yield from (f"\n![{PICTURES[file][0]}](plots/{file}.svg)" for file in drawn if drawn[file] == name)
    yield ""


def _goals(found: Mapping[str, Table]) -> Iterator[str]:
    yield "| | ratio | to | wanted | |\n|---|---|---|---|---|"
    for name, column, words, wanted, is_at_least in GOALS:
        ratios = {peer: tables.ratio(found[name], OURS, peer, column) if name in found else None for peer in GO_PEERS}
        there = {peer: ratio for peer, ratio in ratios.items() if ratio is not None}
        if not there:
            yield f"| {words} | not measured | | | |"
            continue
        # The best peer is the one with the worst ratio for us.
        peer = (min if is_at_least else max)(there, key=there.__getitem__)
        is_met = there[peer] >= wanted if is_at_least else there[peer] <= wanted
        sign = "≥" if is_at_least else "≤"
        yield f"| {words} | {there[peer]:.2f} | {peer} | {sign} {wanted} | {'met' if is_met else 'not met'} |"


def _draw(found: Mapping[str, Table], directory: Path) -> dict[str, str]:
    """Draw bars of medians with their spread. Returns the drawn pictures, and the table of each."""
    from matplotlib import pyplot as plt  # noqa: PLC0415  only for pictures

    plt.rcParams |= {"svg.hashsalt": "run_cost", "font.size": 9}
    drawn = {file: "rush" if file == "tail" else file for file in PICTURES}
    drawn = {file: name for file, name in drawn.items() if name in found}
    for file, name in drawn.items():
        title, columns, unit = PICTURES[file]
        samples = found[name].samples
        figure, axes = plt.subplots(1, len(columns), figsize=(3 * len(columns), 2.6), layout="constrained")
        for axis, column in zip(axes, columns, strict=True):
            rows = {subject: row[column] for subject, row in samples.items() if row.get(column)}
            medians = [statistics.median(values) for values in rows.values()]
            below = [median - min(values) for median, values in zip(medians, rows.values(), strict=True)]
            above = [max(values) - median for median, values in zip(medians, rows.values(), strict=True)]
            colours = ["tab:orange" if subject.startswith(OURS) else "tab:gray" for subject in rows]
            axis.barh(list(rows), medians, xerr=[below, above], color=colours, error_kw={"lw": 0.8})
            axis.invert_yaxis()
            axis.set(title=column)
        figure.suptitle(f"{title} ({unit})", fontsize=10)
        figure.savefig(directory / f"{file}.svg", metadata={"Date": None})
        plt.close(figure)
    return drawn
