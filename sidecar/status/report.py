"""
Format the states of Pods for a terminal and as JSON. Pure.

Rule: healthy Pods come first and the summary last, because a person sees the end of a long output. Pods with the same
problem share one paragraph.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sidecar.errors import sentences
from sidecar.printable import printable, printable_json
from sidecar.serving.status import FAILING, READY, SCHEMA_VERSION, STARTING, UNAVAILABLE, RoleStatus, as_document
from sidecar.serving.status_table import (
    ROLE_COLUMNS,
    UNKNOWN,
    Column,
    problem_of,
    role_cells,
    skew_note,
    table_lines,
)
from sidecar.status.targets import PodState
from sidecar.wrapping import wrapped

NO_STATE = "unknown"
"""The state of a Pod whose daemon did not respond."""

ORDER = (READY, FAILING, STARTING, NO_STATE, UNAVAILABLE)
"""The states, from the best to the worst."""

MAX_NAMES = 5
"""Maximum number of Pods that a paragraph names."""

RECENT_SECONDS = 3600.0
"""Time after a restart of the daemon in which the report mentions the restart."""

_COLOURS = {FAILING: "33", STARTING: "33", NO_STATE: "35", UNAVAILABLE: "1;31"}


class View(NamedTuple):
    """
    The form of a report: its width in columns, and its height in lines, or None for any height.

    `pod` is the name of the Pod if a person named one. `place` names the namespace and the cluster in the summary.
    `has_namespaces` is true if the Pods can be in several namespaces.
    """

    width: int
    place: str = ""
    pod: str = ""
    height: int | None = None
    has_namespaces: bool = False
    colours: bool = False


class _Line(NamedTuple):
    state: str
    cells: tuple[str, ...]


def state_of(state: PodState) -> str:
    """Return the worst state of the Pod's roles."""
    roles = () if state.status is None else state.status.roles
    return max((role.state for role in roles), key=ORDER.index, default=NO_STATE)


def fails(states: Sequence[PodState]) -> bool:
    """Return whether a Pod has no valid credentials or did not respond. Pods that end do not count."""
    return not states or any(not state.is_available for state in states if not state.target.is_terminating)


def as_text(states: Sequence[PodState], view: View) -> str:
    """Return the table, the problems and the summary. In a limited height, rows of healthy Pods are omitted first."""
    if not states:
        return printable(f"No Pod with a running sidecar in {view.place}.")
    notes = list(_notes(states, view))
    if view.height is not None:
        notes = [note[: view.width] for note in _last(notes, max(2, view.height // 2))]
    end = ["", *notes, *([""] if notes else []), *_summary_lines(states, view)]
    room = None if view.height is None else max(2, view.height - len(end) - 1)
    lines = [*_table(states, view, room), *end]
    return "\n".join(lines if view.height is None else lines[-view.height :])


def _table(states: Sequence[PodState], view: View, room: int | None) -> Iterator[str]:
    """Yield the header and at most `room` lines below it."""
    found = sorted(_lines(states, view), key=lambda line: ORDER.index(line.state))
    shown = found if room is None or len(found) <= room else found[len(found) - room + 1 :]
    columns, omitted = (Column("POD", 16), *ROLE_COLUMNS), 1 if view.pod else 0
    header, *rows = table_lines(columns[omitted:], [line.cells[omitted:] for line in shown], view.width)
    yield header
    if len(shown) < len(found):
        yield f"({len(found) - len(shown)} rows are not shown)"
    for row, line in zip(rows, shown, strict=True):
        yield _painted(row, line.state, colours=view.colours)


def _last(lines: list[str], count: int) -> list[str]:
    """Return the last lines, with the number of the others if there are more than `count`."""
    if len(lines) <= count:
        return lines
    return [f"({len(lines) - count + 1} lines are not shown)", *lines[len(lines) - count + 1 :]]


def _lines(states: Sequence[PodState], view: View) -> Iterator[_Line]:
    for state in states:
        name = _name(state, view)
        if state.status is None:
            yield _Line(NO_STATE, (name, UNKNOWN, NO_STATE, *[UNKNOWN] * (len(ROLE_COLUMNS) - 2)))
        else:
            yield from (_Line(role.state, (name, *role_cells(role))) for role in state.status.roles)


def _name(state: PodState, view: View) -> str:
    return f"{state.target.namespace}/{state.target.pod}" if view.has_namespaces else state.target.pod


def _painted(text: str, state: str, *, colours: bool) -> str:
    code = _COLOURS.get(state)
    return f"\x1b[{code}m{text}\x1b[0m" if colours and code else text


def _notes(states: Sequence[PodState], view: View) -> Iterator[str]:
    """Yield the lines of one paragraph for each problem, with the Pods that have it. The worst problems come last."""
    pods: dict[tuple[int, str], list[str]] = {}
    for state in states:
        for rank, text in _problems(state):
            pods.setdefault((rank, text), []).append(_name(state, view))
    for (_, text), names in sorted(pods.items(), key=lambda item: (item[0][0], len(item[1]))):
        shown = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
        yield from wrapped(printable(f"{shown}: {text}"), view.width)


def _problems(state: PodState) -> Iterator[tuple[int, str]]:
    """Yield each problem of the Pod, with the index of its state in ORDER."""
    target = state.target
    if target.is_terminating and state.status is not None:
        yield 0, "the Pod is terminating."
    if state.status is None:
        yield ORDER.index(NO_STATE), sentences(state.problem, state.next_step)
        return
    if target.restarts and state.status.uptime_seconds < RECENT_SECONDS:
        yield 0, sentences(f"the sidecar restarted in the last hour. {target.last_exit}".strip())
    several = len(state.status.roles) > 1
    for role in state.status.roles:
        for text in filter(None, (problem_of(role), skew_note(role))):
            yield ORDER.index(role.state), f"{_role(role)}{text}" if several else text


def _role(role: RoleStatus) -> str:
    return f"role {role.name}: "


def _summary_lines(states: Sequence[PodState], view: View) -> list[str]:
    """Return the number of Pods by state, and the cluster, because a person may have the wrong one."""
    found = [state_of(state) for state in states]
    pods = f"Pod {view.pod}" if view.pod else "1 Pod" if len(states) == 1 else f"{len(states)} Pods"
    counts = found if view.pod else [f"{found.count(name)} {name}" for name in ORDER if name in found]
    place, by_state = f"{pods} in {view.place}:", f"{', '.join(counts)}."
    is_short = len(place) + 1 + len(by_state) <= view.width
    return [printable(f"{place} {by_state}")] if is_short else [*wrapped(printable(place), view.width), f"  {by_state}"]


def as_json(states: Sequence[PodState], context: str | None, *, indent: int | None = 2) -> str:
    """Return one document of ASCII with all Pods. Without an indent it is one line."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "context": context,
        "is_available": not fails(states),
        "pods": [_pod(state) for state in states],
    }
    return printable_json(json.dumps(document, indent=indent))


def _pod(state: PodState) -> dict[str, Any]:
    target = state.target
    return {
        "namespace": target.namespace,
        "pod": target.pod,
        "container": target.container,
        "restarts": target.restarts,
        "is_terminating": target.is_terminating,
        "state": state_of(state),
        "problem": printable(state.problem) or None,
        "next_step": printable(state.next_step) or None,
        "status": None if state.status is None else as_document(state.status),
    }
