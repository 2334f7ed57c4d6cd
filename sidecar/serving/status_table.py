"""
Format the state of roles as a table that fits a terminal. Pure.

Rule: every cell is ASCII, so that its width is its length. Other characters in it become escapes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sidecar.printable import ELLIPSIS, printable
from sidecar.role import DEFAULT_ROLE
from sidecar.serving.status import SUCCESS, LastCall, RoleStatus

UNKNOWN = "-"
"""The cell of a value that is unknown."""

GAP = "  "
"""The space between two columns."""

CELL_LENGTH = 64
"""Longest cell, in characters. The names of Pods and roles can be longer."""

LARGE_SKEW_SECONDS = 60.0
"""Clock skew above which the notes contain it, as for the warning in the log (refresh/refresher.py)."""


class Column(NamedTuple):
    """
    One column.

    A column that is too wide becomes narrower, down to `min_width`. If the table is still too wide, the column with the
    lowest `rank` is omitted. A column without a rank always stays.
    """

    title: str
    min_width: int
    rank: int | None = None


ROLE_COLUMNS = (
    Column("ROLE", 10, 5),
    Column("STATE", 11),
    Column("EXPIRES", 7),
    Column("REFRESH", 7, 3),
    Column("LAST CALL", 20, 4),
    Column("LAST CLIENT", 11, 2),
    Column("SERVED", 6, 1),
)
"""The columns of `role_cells`."""


def role_cells(role: RoleStatus) -> tuple[str, ...]:
    """Return the cells of ROLE_COLUMNS for this role."""
    return (
        _role_name(role),
        role.state,
        _until(role.expires_in_seconds),
        _refresh(role.next_refresh_in_seconds),
        _last_call(role.last_call),
        _last_client(role),
        str(role.served),
    )


def _role_name(role: RoleStatus) -> str:
    """Return the name of the IAM role, after the name in the roles file if that differs."""
    iam_role = role.role_arn.rpartition("/")[2]
    return iam_role if role.name in {DEFAULT_ROLE, iam_role} else f"{role.name}: {iam_role}"


def _until(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    return duration_text(seconds) if seconds > 0 else ago_text(-seconds)


def _refresh(seconds: float) -> str:
    return duration_text(seconds) if seconds > 0 else "now"


def _last_call(call: LastCall | None) -> str:
    if call is None:
        return UNKNOWN
    return f"{'ok' if call.code == SUCCESS else call.code} {ago_text(call.seconds_ago)}"


def _last_client(role: RoleStatus) -> str:
    if not role.clients:
        return UNKNOWN
    newest, *others = role.clients
    uid = "unknown" if newest.uid is None else f"uid {newest.uid}"
    return f"{uid} {ago_text(newest.seconds_ago)}{f' (+{len(others)})' if others else ''}"


def duration_text(seconds: float) -> str:
    """Return a duration with its two largest units, such as `45s`, `52m`, `11h59m` or `2d3h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if minutes < 60:
        return f"{minutes}m"
    return f"{hours}h{minutes % 60}m" if hours < 24 else f"{days}d{hours % 24}h"


def ago_text(seconds: float) -> str:
    return f"{duration_text(max(0.0, seconds))} ago"


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield the header and the rows as lines of at most `width` characters, unless the terminal is too narrow."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    natural = [max([len(column.title), *(len(row[at]) for row in cells)]) for at, column in enumerate(columns)]
    shown = list(range(len(columns)))
    while True:
        widths = _fitted([natural[at] for at in shown], [columns[at].min_width for at in shown], width)
        ranked = [at for at in shown if columns[at].rank is not None]
        if widths is not None or not ranked:
            break
        shown.remove(min(ranked, key=lambda at: columns[at].rank or 0))
    final = widths or [min(natural[at], columns[at].min_width) for at in shown]
    for row in [[column.title for column in columns], *cells]:
        line = GAP.join(_cut(row[at], size).ljust(size) for at, size in zip(shown, final, strict=True))
        yield line.rstrip()


def _fitted(natural: list[int], least: list[int], width: int) -> list[int] | None:
    """Return widths that fit, with the widest columns made narrower, or None if they cannot fit."""
    widths = list(natural)
    room = width - len(GAP) * (len(widths) - 1)
    while sum(widths) > room:
        wider = [at for at in range(len(widths)) if widths[at] > least[at]]
        if not wider:
            return None
        widths[max(wider, key=lambda at: widths[at])] -= 1
    return widths


def _cell(text: str) -> str:
    return _cut(printable(text).encode("ascii", "backslashreplace").decode("ascii"), CELL_LENGTH)


def _cut(text: str, width: int) -> str:
    """Return the text, or its beginning and its end around an ellipsis, because the ends of names differ."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return text[: width - 1 - end] + ELLIPSIS + text[len(text) - end :]


def problem_of(role: RoleStatus) -> str | None:
    """Return why the role has no new credentials, or None."""
    if role.error is not None:
        return role.error.message
    return None if role.is_available else "the first exchange with STS has not ended yet" if _is_new(role) else _EXPIRED


def _is_new(role: RoleStatus) -> bool:
    return role.expires_in_seconds is None


_EXPIRED = "the credentials have expired, and the next attempt is due"


def skew_note(role: RoleStatus) -> str | None:
    """Return a note about the clock of the daemon's machine, or None if the clock is right or unknown."""
    skew = role.clock_skew_seconds
    if skew is None or abs(skew) <= LARGE_SKEW_SECONDS:
        return None
    direction = "behind" if skew > 0 else "ahead of"
    return f"the clock of the node is {duration_text(abs(skew))} {direction} that of STS. Correct the clock."
