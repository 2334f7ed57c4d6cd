"""Draw how memory and CPU of one daemon grow with its roles and its open connections, from `growth.json`."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import plot_style as style
from benchmarks.tables import Samples

DATA = "growth.json"

ROLES, CONNECTIONS = "roles", "open connections"


class Slope(NamedTuple):
    """A straight line through measured points: the value per role or connection, the value at zero, and R²."""

    each: float
    none: float
    fit: float

    @classmethod
    def of(cls, points: Mapping[int, float]) -> "Slope":
        numbers, values = list(points), list(points.values())
        line = statistics.linear_regression(numbers, values)
        fit = statistics.correlation(numbers, values) ** 2 if len(set(values)) > 1 else 1.0
        return cls(line.slope, line.intercept, fit)


class Panel(NamedTuple):
    """
    One diagram of a column of a stored table.

    Values are divided by `divisor`, so that they have the unit of `axis`, the label of the y-axis. `each` is the format
    of the title, which shows the slope.
    """

    table: str
    column: str
    divisor: float
    axis: str
    each: str


PANELS = (
    Panel(ROLES, "RssAnon KiB", 1024, "private memory, MiB", "{:.0f} KiB for each role"),
    Panel(ROLES, "idle CPU ms/min", 1, "idle CPU, ms per minute", "{:.1f} ms per minute for each role"),
    Panel(CONNECTIONS, "RssAnon KiB", 1024, "private memory, MiB", "{:.1f} KiB for each connection"),
)


def slope(samples: Samples, column: str) -> Slope:
    return Slope.of({int(count): statistics.median(row[column]) for count, row in samples.items()})


def write(roles: Samples, connections: Samples, directory: Path) -> None:
    """Store the measured points, and draw them."""
    directory.mkdir(parents=True, exist_ok=True)
    stored = json.dumps({ROLES: roles, CONNECTIONS: connections}, indent=1)
    (directory / DATA).write_text(stored + "\n", encoding="utf-8")
    draw(directory)


def draw(directory: Path) -> None:
    """Draw one picture with three diagrams."""
    stored = json.loads((directory / DATA).read_text(encoding="utf-8"))
    figure, axes = style.plotting().subplots(1, len(PANELS), figsize=(style.WIDTH_INCHES, 3.2), layout="constrained")
    for axis, panel in zip(axes, PANELS, strict=True):
        _draw(axis, panel, stored[panel.table])
    one = slope(stored[ROLES], "RssAnon KiB").each
    style.headline(
        figure,
        f"Each further role costs {one:.0f} KiB: memory and CPU grow in straight lines",
        "One daemon; points are measured, the line is fitted, and the vertical axes begin at zero",
    )
    style.layout(figure)
    style.save(figure, directory / "growth.svg")


def _draw(axis: Any, panel: Panel, samples: Samples) -> None:
    line, numbers = slope(samples, panel.column), [int(count) for count in samples]
    values = [statistics.median(row[panel.column]) / panel.divisor for row in samples.values()]
    axis.plot(
        [0, *numbers], [(line.none + line.each * n) / panel.divisor for n in [0, *numbers]], color=style.PEER, lw=1
    )
    axis.plot(numbers, values, "o", color=style.OURS, ms=5)
    for place, (number, value) in enumerate(zip(numbers, values, strict=True)):
        offset = (0, 6) if place % 2 == 0 else (6, -12)
        axis.annotate(f"{value:.1f}", (number, value), offset, textcoords="offset points", ha="center", fontsize=8)
    axis.set(title=panel.each.format(line.each), xlabel=panel.table, ylabel=panel.axis)
    axis.set(xlim=(-0.07 * max(numbers), 1.1 * max(numbers)), ylim=(0, 1.25 * max(values)))
    axis.grid(axis="y", color=style.GRID)
    axis.set_axisbelow(True)
