"""Test that tables fit the terminal and that cells are short and safe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.serving.status import LastCall
from sidecar.serving.status_table import (
    ROLE_COLUMNS,
    Column,
    duration_text,
    problem_of,
    role_cells,
    skew_note,
    table_lines,
)
from tests.unit.serving.test_status import BROKEN, DENIED, HEALTHY


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h0m"), (43_199, "11h59m"), (180_000, "2d2h")],
)
def test_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_cells_of_a_healthy_role() -> None:
    assert role_cells(HEALTHY) == (
        "cart", "ready", "52m", "22m", "ok 8m ago", "uid 1000 1m ago (+1)", "12",
    )  # fmt: skip


def test_cells_of_a_role_without_credentials() -> None:
    role = BROKEN._replace(next_refresh_in_seconds=0.0)
    assert role_cells(role) == (
        "reporting", "unavailable", "-", "now", "AccessDenied 5s ago", "-", "0",
    )  # fmt: skip


def test_expired_credentials_show_when_they_expired() -> None:
    expired = BROKEN._replace(expires_in_seconds=-300.0, last_call=None, error=None)
    assert role_cells(expired)[2:5] == ("5m ago", "30s", "-")
    assert "expired" in str(problem_of(expired))


def test_role_path_and_odd_arns_are_shortened() -> None:
    with_path = HEALTHY._replace(role_arn="arn:aws:iam::111122223333:role/team/shop/cart")
    assert role_cells(with_path)[0] == "cart"
    assert role_cells(HEALTHY._replace(role_arn="odd"))[0] == "odd"
    assert role_cells(HEALTHY._replace(name="reports"))[0] == "reports: cart"


def test_problem_is_the_message_of_the_error() -> None:
    assert problem_of(BROKEN) == DENIED.message
    assert problem_of(HEALTHY) is None


@pytest.mark.parametrize(
    ("skew", "words"), [(None, None), (30.0, None), (-60.0, None), (7200.0, "2h0m behind"), (-90.0, "1m ahead of")]
)
def test_large_skew_has_a_note(skew: float | None, words: str | None) -> None:
    note = skew_note(HEALTHY._replace(clock_skew_seconds=skew))
    assert (note is None) == (words is None)
    assert words is None or words in str(note)


ROWS = [role_cells(HEALTHY), role_cells(BROKEN)]


def test_wide_terminal_shows_whole_cells() -> None:
    header, healthy, broken = table_lines(ROLE_COLUMNS, ROWS, 200)
    assert header.split() == ["ROLE", "STATE", "EXPIRES", "REFRESH", "LAST", "CALL", "LAST", "CLIENT", "SERVED"]
    assert broken.startswith("reporting")
    assert healthy.index("ready") == broken.index("unavailable") == header.index("STATE")


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (84, "ROLE STATE EXPIRES REFRESH LAST CALL LAST CLIENT SERVED"),
        (80, "ROLE STATE EXPIRES REFRESH LAST CALL LAST CLIENT"),
        (64, "ROLE STATE EXPIRES REFRESH LAST CALL"),
        (55, "ROLE STATE EXPIRES LAST CALL"),
        (35, "ROLE STATE EXPIRES"),
        (10, "STATE EXPIRES"),
    ],
)
def test_narrow_terminal_omits_the_least_important_columns(width: int, titles: str) -> None:
    lines = list(table_lines(ROLE_COLUMNS, ROWS, width))
    assert lines[0].split() == titles.split()
    assert max(map(len, lines)) <= max(width, 20)


def test_long_names_are_cut_in_the_middle() -> None:
    columns = (Column("POD", 12), Column("STATE", 5))
    _, line = table_lines(columns, [("checkout-7d4b9c6f5-x2x9z", "ready")], 20)
    assert line == "checko…-x2x9z  ready"


CELLS = st.tuples(*[st.text(max_size=90)] * len(ROLE_COLUMNS))


@given(st.lists(CELLS, max_size=4), st.integers(min_value=20, max_value=160))
def test_any_text_fits_and_is_safe(rows: list[tuple[str, ...]], width: int) -> None:
    lines = list(table_lines(ROLE_COLUMNS, rows, width))
    assert len(lines) == len(rows) + 1
    assert all(len(line) <= width and line.replace("…", "").isascii() and line.isprintable() for line in lines)


def test_code_of_sts_is_shortened_in_the_table() -> None:
    role = HEALTHY._replace(last_call=LastCall("x" * 500, 400, 1.0, 1.0))
    assert max(map(len, table_lines(ROLE_COLUMNS, [role_cells(role)], 500))) < 200
