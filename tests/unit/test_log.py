"""Test log lines. A slow, closed or full stderr must not delay the process or cause an error."""

import json
import os
import pty
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sidecar.log import MAX_LINE_BYTES, LineWriter, default_format, make_logger

LEVELS = ("debug", "info", "warning", "error")


class Pipe(NamedTuple):
    """A pipe that the test reads without waiting."""

    reader: int
    writer: int

    def text(self) -> str:
        try:
            return os.read(self.reader, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield Pipe(reader, writer)
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue  # some tests close one end of the pipe


# The content of a line


def test_event_is_one_line_of_json(pipe: Pipe) -> None:
    log, writer = make_logger("json", "info", fd=pipe.writer)
    log.info("credentials_refreshed", role_name="default", remaining_seconds=3600)
    log.warning("exchange_failed", code="Timeout")
    first, second = pipe.events()
    assert first["time"].endswith("Z")
    assert {name: first[name] for name in first if name != "time"} == {
        "event": "credentials_refreshed",
        "level": "info",
        "role_name": "default",
        "remaining_seconds": 3600,
    }
    assert (second["event"], second["level"]) == ("exchange_failed", "warning")
    assert writer.dropped == 0


def test_bound_values_are_in_every_line(pipe: Pipe) -> None:
    log, _ = make_logger("json", "info", fd=pipe.writer, command="local")
    log.info("started")
    assert pipe.events()[0]["command"] == "local"


@pytest.mark.parametrize("level", LEVELS)
def test_events_below_the_level_are_not_written(pipe: Pipe, level: str) -> None:
    log, _ = make_logger("json", level, fd=pipe.writer)
    for each in (*LEVELS, "critical"):
        getattr(log, each)("happened")
    assert [event["level"] for event in pipe.events()] == [*LEVELS[LEVELS.index(level) :], "critical"]


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[31mred", "naïve ☃ 🐍", "\ud800", 'quote " and \\', "\0"])
def test_value_cannot_add_a_line(pipe: Pipe, text: str) -> None:
    log, _ = make_logger("json", "info", fd=pipe.writer)
    log.info("happened", text=text)
    assert [event["text"] for event in pipe.events()] == [text]


def test_console_lines_have_no_colour_without_a_terminal(pipe: Pipe) -> None:
    log, _ = make_logger("console", "info", fd=pipe.writer)
    log.info("credentials_refreshed", role="default")
    line = pipe.text()
    assert "credentials_refreshed" in line
    assert "role=default" in line
    assert "\x1b" not in line


@pytest.mark.parametrize(("no_color", "is_coloured"), [(None, True), ("1", False)])
def test_console_lines_are_coloured_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, no_color: str | None, is_coloured: object
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    ours, terminal = pty.openpty()
    try:
        log, _ = make_logger("console", "info", fd=terminal)
        log.info("started")
        assert (b"\x1b[" in os.read(ours, 4096)) is is_coloured
    finally:
        os.close(ours)
        os.close(terminal)


def test_default_format_depends_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, terminal = pty.openpty()
    with open(ours, "rb", buffering=0), open(terminal, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        assert default_format() == "console"
    with open(os.devnull, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        assert default_format() == "json"
    monkeypatch.setattr("sys.stderr", None)
    assert default_format() == "json"


def _fail_with(secret: str) -> None:
    raise ValueError(f"no good: {secret}")


def test_exception_is_logged_by_type_and_place_only(pipe: Pipe) -> None:
    log, _ = make_logger("json", "info", fd=pipe.writer)
    with pytest.raises(ValueError, match="hush-hush") as caught:
        _fail_with("hush-hush")
    log.error("refresher_failed", exc=caught.value)
    line = pipe.text()
    assert "hush-hush" not in line
    event = json.loads(line)
    assert event["exception"] == "ValueError"
    assert event["stack"].count("tests.unit.test_log:") == 2
    assert "exc" not in event


async def test_exception_of_a_nursery_is_logged_without_its_group(pipe: Pipe) -> None:
    log, _ = make_logger("json", "info", fd=pipe.writer)
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery():
            _fail_with("hush-hush")
    log.error("refresher_failed", exc=caught.value)
    (event,) = pipe.events()
    assert event["exception"] == "ValueError"
    assert event["stack"].endswith(f"tests.unit.test_log:{_fail_with.__code__.co_firstlineno + 1}")


# Long lines


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("char", ["x", "\n", "é", "🐍", '"', "\ud800"])
def test_long_value_is_shortened_until_the_line_fits(pipe: Pipe, log_format: str, char: str) -> None:
    log, writer = make_logger(log_format, "info", fd=pipe.writer)
    log.info("exchange_failed", code="AccessDenied", message=char * 100_000, after="still there")
    line = pipe.text()
    assert line.endswith("\n")
    assert len(line.encode()) <= MAX_LINE_BYTES
    assert "AccessDenied" in line
    assert "still there" in line
    assert "…" in line or "\\u2026" in line
    assert writer.dropped == 0


def test_line_of_the_maximum_length_is_unchanged(pipe: Pipe) -> None:
    log, _ = make_logger("json", "info", fd=pipe.writer)
    log.info("happened", text="")
    frame = len(pipe.text())
    log.info("happened", text="x" * (MAX_LINE_BYTES - frame))
    line = pipe.text()
    assert len(line) == MAX_LINE_BYTES
    assert json.loads(line)["text"] == "x" * (MAX_LINE_BYTES - frame)


_VALUE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_LONG = st.builds(lambda text, times: text * times, st.text(), st.integers(0, 5000)) | st.lists(_VALUE, max_size=2000)
_EVENT = st.dictionaries(st.text("abcdfghij_", min_size=1, max_size=12), _VALUE | _LONG, max_size=12)


@given(_EVENT)
def test_any_event_is_one_json_object_within_pipe_buf(values: dict[str, Any]) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as end, open(writer, "wb", buffering=0):
        log, _ = make_logger("json", "info", fd=writer)
        log.info("happened", **values)
        data = end.read(1 << 20)
    assert data is not None
    assert len(data) <= MAX_LINE_BYTES
    assert data.count(b"\n") == 1
    assert json.loads(data).keys() == values.keys() | {"event", "level", "time"}


def test_too_long_line_is_cut_and_keeps_its_newline(pipe: Pipe) -> None:
    log, _ = make_logger("json", "info", fd=pipe.writer)
    log.info("happened", **{f"value_{number}": number for number in range(1000)})
    line = pipe.text()
    assert len(line) == MAX_LINE_BYTES
    assert line.count("\n") == 1
    assert line.endswith("\n")


# A stderr that accepts no lines


def test_full_pipe_drops_lines_without_waiting(pipe: Pipe) -> None:
    log, writer = make_logger("json", "info", fd=pipe.writer)
    for number in range(3000):
        log.info("happened", number=number, text="x" * 100)
    assert writer.dropped > 0
    written = pipe.events()
    assert len(written) + writer.dropped == 3000
    assert [event["number"] for event in written] == list(range(len(written)))  # whole lines, in order
    log.info("read_again")
    assert [event["event"] for event in pipe.events()] == ["read_again"]


def test_pipe_without_a_reader_drops_lines_without_an_error(pipe: Pipe) -> None:
    log, writer = make_logger("json", "info", fd=pipe.writer)
    os.close(pipe.reader)
    log.info("happened")
    log.info("happened")
    assert writer.dropped == 2


def test_closed_descriptor_drops_lines_without_an_error(pipe: Pipe) -> None:
    log, writer = make_logger("json", "info", fd=pipe.writer)
    os.close(pipe.writer)
    log.info("happened")
    assert writer.dropped == 1


def test_full_disk_drops_lines_without_an_error() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb", buffering=0) as full:
        log, writer = make_logger("json", "info", fd=full.fileno())
        log.info("happened")
    assert writer.dropped == 1


def test_process_without_stderr_drops_lines_without_an_error() -> None:
    writer = LineWriter(-1)
    writer.msg("happened")
    assert writer.dropped == 1
