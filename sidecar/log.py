"""
Write structured logs to stderr without ever waiting for their reader. Each event is logged where it happens.

Rules. A line is written only if the stream accepts the whole line at once. Otherwise the line is dropped and counted,
whether the reader is slow, has exited or is missing. Events are in the past tense, one per change of state, and hold no
secret.
"""

import os
import select
import sys
from collections.abc import Callable
from typing import Any

import structlog

from sidecar.redaction import without_secrets

MAX_LINE_BYTES = 4096
"""Longest line: PIPE_BUF on Linux. A pipe that polls as writable accepts a write of this size at once (pipe(7))."""

VALUE_LENGTHS = (1000, 250, 60, 15)
"""Maximum lengths of the values in a long line. The lengths are tried in this order until the line fits."""

_STDERR, _CLOSED = 2, -1

Logger = structlog.typing.FilteringBoundLogger
EventDict = structlog.typing.EventDict
Renderer = Callable[[Any, str, EventDict], str]

_TIMES = {
    "json": structlog.processors.TimeStamper(fmt="iso", key="time"),
    "console": structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="time"),
}


class LineWriter:
    """The writer behind structlog. `dropped` counts the lines that the stream did not accept."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.dropped = 0

    def msg(self, line: str) -> None:
        data = _encoded(line)[: MAX_LINE_BYTES - 1] + b"\n"
        try:
            if self._is_writable():
                os.write(self._fd, data)
                return
        except (OSError, ValueError):  # no reader, or a full disk; for a closed descriptor, select raises ValueError
            pass
        self.dropped += 1

    debug = info = warning = error = critical = msg

    def _is_writable(self) -> bool:
        return bool(select.select([], [self._fd], [], 0)[1])


def make_logger(log_format: str, level: str, *, fd: int = _STDERR, **bound: Any) -> tuple[Logger, LineWriter]:
    """Return a logger that writes `json` or `console` lines to `fd`, and its writer, which counts dropped lines."""
    writer = LineWriter(_CLOSED if fd == _STDERR and sys.stderr is None else fd)
    logger: Logger = structlog.wrap_logger(
        writer,
        processors=[
            structlog.processors.add_log_level,
            _TIMES[log_format],
            _exception_as_text,
            _without_passwords,
            _fitting(_renderer(log_format, fd)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
        cache_logger_on_first_use=True,
        **bound,
    )
    return logger, writer


def default_format() -> str:
    """Return `console` if stderr is a terminal, else `json`."""
    return "console" if sys.stderr is not None and sys.stderr.isatty() else "json"


def _renderer(log_format: str, fd: int) -> Any:
    if log_format == "json":
        return structlog.processors.JSONRenderer(default=str)
    from structlog.dev import ConsoleRenderer  # noqa: PLC0415  a Pod does not need it (lean_imports.py)

    from sidecar.terminal import wants_colours  # noqa: PLC0415  a Pod does not need it

    is_colour = os.isatty(fd) and wants_colours()
    return _escaping(ConsoleRenderer(colors=is_colour, timestamp_key="time", pad_event_to=28))


def _escaping(render: Renderer) -> Renderer:
    """Escape the values of each event for a terminal before `render` adds its colours."""
    from sidecar.printable import printable  # noqa: PLC0415  a Pod does not need it

    def escaped(value: Any) -> Any:
        text = value if isinstance(value, str) else repr(value)
        shown = printable(text)
        return value if shown == text else _Shown(f"'{shown}'")

    return lambda logger, method, event: render(logger, method, {name: escaped(value) for name, value in event.items()})


class _Shown(str):
    """Text that is already escaped. ConsoleRenderer writes the `repr` of a text with spaces, so `repr` returns it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _fitting(render: Renderer) -> Renderer:
    """Shorten the values of a line that is too long. If the line itself were cut, it would not be valid JSON."""

    def render_one_line(logger: Any, method: str, event: EventDict) -> str:
        line = render(logger, method, dict(event))
        for length in VALUE_LENGTHS:
            if len(_encoded(line)) < MAX_LINE_BYTES:
                break
            line = render(logger, method, {name: _shortened(value, length) for name, value in event.items()})
        return line

    return render_one_line


def _shortened(value: Any, length: int) -> Any:
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= length else f"{text[:length]}…"


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")


def _without_passwords(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Remove the passwords of URLs from the values of the event."""
    return {name: without_secrets(value) if isinstance(value, str) else value for name, value in event.items()}


def _exception_as_text(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replace an unexpected exception by its type and code lines, because its text and locals may hold a secret."""
    exc = event.pop("exc", None)
    while isinstance(exc, BaseExceptionGroup):  # trio's nurseries raise groups
        exc = exc.exceptions[0]
    if isinstance(exc, BaseException):
        trace, where = exc.__traceback__, []
        while trace is not None:
            where.append(f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}")
            trace = trace.tb_next
        event["exception"] = type(exc).__name__
        event["stack"] = " > ".join(where[-8:])
    return event
