"""
Apply one style to every plot, and write each plot as a small SVG.

Rule: a title states the result, an axis has a unit, and a bar shows its value. Text is not converted to paths, so that
files are small.
"""

import importlib
from pathlib import Path
from typing import Any

OURS = "#c2410c"
PEER = "#64748b"
LIMIT = "#cbd5e1"
SERVED = "#7dd3fc"
ALL_CALLS = "#0369a1"
WITHOUT = "#b91c1c"
OUTAGE = "#fecaca"
GOOD = "#15803d"
GRID = "#e2e8f0"
INK = "#0f172a"

WIDTH_INCHES = 8.0
"""Width of every plot, as wide as the text on GitHub."""

NAMES = {
    "run": "irsa-sidecar",
    "aws-vault": "aws-vault (Go)",
    "ec2-metadata-mock": "ec2-metadata-mock (Go)",
    "C limit": "fixed answer in C",
    "nginx": "fixed answer by nginx",
    "boto3": "boto3, no sidecar",
    "Go SDK": "AWS SDK for Go, no sidecar",
}
"""Names that people know, by the names of the subjects in the benchmarks."""

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "irsa-sidecar",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#94a3b8",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "path.simplify": True,
    "path.simplify_threshold": 0.2,
}


def plotting() -> Any:
    """Return matplotlib's pyplot with our style. Only `make` targets that draw need matplotlib."""
    plt: Any = importlib.import_module("matplotlib.pyplot")
    plt.switch_backend("svg")
    plt.rcParams |= _STYLE
    return plt


def headline(figure: Any, title: str, subtitle: str) -> None:
    """Write the result in bold, and the measured quantity below the result."""
    height = figure.get_figheight()
    figure.text(0.015, 1 - 0.08 / height, title, fontsize=11, fontweight="bold", va="top")
    figure.text(0.015, 1 - 0.33 / height, subtitle, fontsize=8.5, color="#475569", va="top")


def layout(figure: Any) -> None:
    """Leave space for the headline above the axes."""
    top = 1 - 0.55 / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, 0, 1, top))


def save(figure: Any, path: Path) -> None:
    """Write the figure without a date, so that the same data produces the same file."""
    figure.savefig(path, metadata={"Date": None})
    plotting().close(figure)
