"""
Draw the simulated fleets: calls per second to STS, and Pods without credentials.

The plotted series are stored beside the pictures (`fleet.json`), so that a new style needs no new simulation. Rule: a
point covers several windows and shows their maximum, so no peak is hidden. For calls, it also has the mean and the
minimum.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks import plot_style as style

HOUR_SECONDS = 3600
MINUTE_SECONDS = 60

MAX_POINTS = 280
"""Maximum number of points in a picture. More points are not visible."""

START_MINUTES = 10
"""Number of minutes in the first panels of a restart. All Pods have credentials before these minutes are over."""


class Counts(Protocol):
    """The counts of a simulation per window, as this module reads them."""

    @property
    def requested(self) -> Sequence[int]:
        """The number of calls to STS in each window."""

    @property
    def granted(self) -> Sequence[int]:
        """The number of calls in each window that STS served."""

    def pods_without(self) -> Sequence[int]:
        """Return the number of Pods without credentials in each window."""


def series(counts: Counts, window_seconds: int, quota: float | None, pods: int) -> dict[str, Any]:
    """Return the series of one scenario for its picture, reduced to few points."""
    requested, granted, without = counts.requested, counts.granted, counts.pods_without()
    per_point = -(-len(requested) // MAX_POINTS)
    start = range(min(START_MINUTES * MINUTE_SECONDS // window_seconds, len(requested)))
    waiting = [number for number, count in enumerate(without) if count]
    return {
        "pods": pods,
        "quota": quota,
        "mean": round(sum(requested) / len(requested) / window_seconds, 1),
        "most_calls": max(requested) / window_seconds,
        "most_without": max(without),
        "minutes_with_pods_without": len(waiting) * window_seconds / MINUTE_SECONDS,
        "all_have_credentials_minutes": (waiting[-1] + 1) * window_seconds / MINUTE_SECONDS if waiting else 0,
        "point_seconds": per_point * window_seconds,
        "calls": _points(requested, per_point, window_seconds),
        "served": [point[1] for point in _points(granted, per_point, window_seconds)],
        "without": [max(without[at : at + per_point]) for at in range(0, len(without), per_point)],
        "start": {
            "point_seconds": window_seconds,
            "calls": [requested[at] / window_seconds for at in start],
            "served": [granted[at] / window_seconds for at in start],
            "without": [without[at] for at in start],
        },
    }


def _points(counts: Sequence[int], per_point: int, window_seconds: int) -> list[tuple[float, float, float]]:
    """Return minimum, mean and maximum per second of each point."""
    chunks = [counts[at : at + per_point] for at in range(0, len(counts), per_point)]
    return [
        tuple(round(value / window_seconds, 1) for value in (min(chunk), sum(chunk) / len(chunk), max(chunk)))  # type: ignore[misc]
        for chunk in chunks
    ]


def write(scenarios: dict[str, dict[str, Any]], directory: Path) -> None:
    """Store the series, and draw them."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "fleet.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(
        json.dumps(stored | scenarios, separators=(",", ":")).replace('},"', '},\n"') + "\n", encoding="utf-8"
    )
    draw(directory)


def draw(directory: Path) -> None:
    """Draw a picture of each stored scenario."""
    for name, shown in json.loads((directory / "fleet.json").read_text(encoding="utf-8")).items():
        figure = _restart(shown) if name == "restart" else _fleet(shown)
        style.save(figure, directory / f"fleet-{name}.svg")


def _fleet(shown: dict[str, Any]) -> Any:
    """Return a figure of the calls over the whole time, and of the Pods without credentials if there are any."""
    has_gap = shown["most_without"] > 0
    figure, axes = style.plotting().subplots(
        1 + has_gap,
        1,
        sharex=True,
        squeeze=False,
        figsize=(style.WIDTH_INCHES, 4.4 if has_gap else 3.2),
        layout="constrained",
        height_ratios=[3, 2] if has_gap else [1],
    )
    hours = [number * shown["point_seconds"] / HOUR_SECONDS for number in range(len(shown["calls"]))]
    _calls(axes[0][0], hours, shown)
    if has_gap:
        _without(axes[1][0], hours, shown["without"])
    for axis, is_labelled in zip(axes[:, 0], (True, False), strict=False):
        _shade(axis, shown["outages"], is_labelled=is_labelled)
    axes[-1][0].set(xlabel="hours", xlim=(0, hours[-1]))
    _headline(figure, shown)
    return figure


def _draw_quota(axis: Any, right: float, quota: float) -> None:
    """Draw the quota of STS as a line. Its label ends at the position `right` of the time axis."""
    axis.axhline(quota, color=style.INK, lw=0.8, ls="--")
    label = f"STS serves {quota:.0f} per second"
    axis.annotate(label, (right, quota), (0, 3), textcoords="offset points", ha="right", fontsize=8)


def _calls(axis: Any, hours: Sequence[float], shown: dict[str, Any]) -> None:
    """Draw the served calls as an area, and the range of all calls above it."""
    least, mean, most = zip(*shown["calls"], strict=True)
    if shown["quota"] is None and not shown["outages"]:
        axis.fill_between(hours, least, most, color=style.SERVED, lw=0, label="least to most in ten seconds")
        axis.plot(hours, mean, color=style.ALL_CALLS, lw=1, label="mean")
    else:
        axis.fill_between(hours, shown["served"], color=style.SERVED, lw=0, label="served by STS")
        axis.plot(hours, most, color=style.ALL_CALLS, lw=1, label="all calls, busiest ten seconds")
    if shown["quota"]:
        _draw_quota(axis, hours[-1], shown["quota"])
    axis.set(ylim=(0, 1.18 * max(*most, shown["quota"] or 0)), title="Calls to STS per second")
    axis.grid(axis="y", color=style.GRID)
    axis.set_axisbelow(True)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=8, borderaxespad=0.2)


def _without(axis: Any, times: Sequence[float], without: Sequence[int]) -> None:
    """Draw the Pods without credentials, and write the largest number beside its point."""
    most = max(without)
    at = times[without.index(most)]
    axis.fill_between(times, without, color=style.WITHOUT, lw=0, alpha=0.85)
    axis.annotate(f"{most:,}", (at, most), (4, 2), textcoords="offset points", color=style.WITHOUT, fontweight="bold")
    axis.set(ylim=(0, 1.25 * most), title="Pods without credentials")
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.grid(axis="y", color=style.GRID)
    axis.set_axisbelow(True)


def _shade(axis: Any, outages: Sequence[tuple[float, float, str]], *, is_labelled: bool) -> None:
    """Shade the time in which STS does not respond."""
    for begins_at, ends_at, what in outages:
        axis.axvspan(begins_at / HOUR_SECONDS, ends_at / HOUR_SECONDS, color=style.OUTAGE, alpha=0.5, lw=0, zorder=0)
        if is_labelled:
            _label_outage(axis, (begins_at + ends_at) / 2 / HOUR_SECONDS, what)


def _label_outage(axis: Any, at: float, what: str) -> None:
    place = axis.get_xaxis_transform()
    axis.text(at, 0.97, what, transform=place, ha="center", va="top", fontsize=8, color="#991b1b")


def _restart(shown: dict[str, Any]) -> Any:
    """Return a figure with the first minutes in two panels, and all hours in a third."""
    figure, (calls, without, later) = style.plotting().subplots(
        3, 1, figsize=(style.WIDTH_INCHES, 6.2), layout="constrained", height_ratios=[3, 2, 2]
    )
    start = shown["start"]
    minutes = [number * start["point_seconds"] / MINUTE_SECONDS for number in range(len(start["calls"]))]
    calls.fill_between(minutes, start["served"], color=style.SERVED, step="post", lw=0, label="served by STS")
    calls.step(minutes, start["calls"], color=style.ALL_CALLS, lw=1, where="post", label="all calls")
    _draw_quota(calls, minutes[-1], shown["quota"])
    calls.set(title="Calls to STS per second, first ten minutes", ylim=(0, None), xlim=(0, minutes[-1]))
    calls.legend(loc="upper right", frameon=False, fontsize=8)
    _without(without, minutes, start["without"])
    without.set(title="Pods without credentials, first ten minutes", xlabel="minutes", xlim=(0, minutes[-1]))
    hours = [number * shown["point_seconds"] / HOUR_SECONDS for number in range(len(shown["calls"]))]
    most = [point[2] for point in shown["calls"]]
    later.plot(hours, most, color=style.ALL_CALLS, lw=1)
    later.axhline(shown["quota"], color=style.INK, lw=0.8, ls="--")
    later.set(
        title="Calls to STS per second, six hours (the first wave exceeds this scale): the refreshes spread out",
        xlabel="hours",
        xlim=(0, hours[-1]),
        ylim=(0, 1.3 * shown["quota"]),
    )
    for axis in (calls, later):
        axis.grid(axis="y", color=style.GRID)
        axis.set_axisbelow(True)
        axis.yaxis.set_major_formatter("{x:,.0f}")
    _headline(figure, shown)
    return figure


def _headline(figure: Any, shown: dict[str, Any]) -> None:
    what = f"{shown['pods']:,} Pods, {shown['sessions']}, simulated with the daemon's own schedule"
    style.headline(figure, title(shown), what)
    style.layout(figure)


def title(shown: dict[str, Any]) -> str:
    """Return the event and its effect on the Pods, in words."""
    pods, most = f"{shown['pods']:,}", shown["most_without"]
    if shown["event"] == "Normal operation":
        calls = f"{shown['mean']:.0f}" if shown["mean"] >= 10 else f"{shown['mean']:.1f}"
        return f"{pods} Pods send {calls} calls per second to STS, and all always have credentials"
    if shown["start"]["without"][0]:
        return f"{shown['event']}: all have credentials after {shown['all_have_credentials_minutes']:.0f} minutes"
    effect = f"at most {most:,}" if most else "0"
    return f"{shown['event']}: {effect} of {pods} Pods without credentials"
