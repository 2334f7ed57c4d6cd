"""
Write the header and the events to the terminal of stderr.

Rule: a terminal that is stopped or closed never blocks the daemon. Events then wait in the bounded queue of the
subscription. An event is written before `publish` returns, so the line about a call to STS appears above the output of
the program that made the call.
"""

import os
import select
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

import trio

from sidecar.local.feed import LocalEvent, Subscription
from sidecar.local.terminal.lines import Style, event_lines, header_lines
from sidecar.terminal import wants_colours

DEFAULT_WIDTH = 80
"""The width of a stream that is not a terminal, in columns."""

CHUNK_BYTES = 512
"""Maximum number of bytes in one write. A pipe that polls as writable accepts 4,096 bytes (pipe(7))."""

PATIENCE_SECONDS = 1.0
"""The longest wait for a stopped terminal before the command starts, and after it has ended."""

LEVELS = ("debug", "info", "warning", "error")
"""The levels of events, from the least to the most important."""


class Display:
    """
    The display of the events of `level` and above on the descriptor `fd`.

    A descriptor that is shared with other processes must be in blocking mode. `config_name` is the name of the
    configuration file, if any.
    """

    def __init__(self, fd: int, events: Subscription, level: str, *, config_name: str | None = None) -> None:
        self._fd = fd
        self._events = events
        self._config_name = config_name
        self._hidden = frozenset(LEVELS[: LEVELS.index(level)])
        self._rest = b""
        self._is_closed = False

    async def accompany(self, urls: Mapping[str, str], body: Callable[[], Awaitable[int]]) -> int:
        """Show the header and the events while `body` runs, and return the result of `body`."""
        self._rest = _encoded(header_lines(urls, self._style()))
        await self._write_all()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            self._events.listener = self._write
            status = await body()
            nursery.cancel_scope.cancel()
        await self._write_all()
        return status

    async def _write_all(self) -> None:
        """Write the events that already wait. Give up after PATIENCE_SECONDS."""
        with trio.move_on_after(PATIENCE_SECONDS):
            while not self._write():
                await trio.lowlevel.wait_writable(self._fd)

    async def _follow(self) -> None:
        """Write the events that `publish` could not write, as soon as the terminal accepts them."""
        while True:
            if self._write():
                await self._events.wait()
            else:
                await trio.lowlevel.wait_writable(self._fd)

    def _write(self) -> bool:
        """Write as much as the terminal accepts without blocking, and return whether nothing is left."""
        try:
            self._rest = self._without_accepted(self._rest)
            while not self._rest and (event := next(self._events.drain(), None)):
                self._rest = self._without_accepted(self._encoded_event(event))
        except OSError:  # the terminal is closed, or the disk is full
            self._is_closed, self._rest = True, b""
        return not self._rest

    def _without_accepted(self, data: bytes) -> bytes:
        """
        Write as much as the terminal accepts without blocking, and return the rest of the data.

        After a failed write, all data is dropped.

        Raises OSError if this write fails.
        """
        if self._is_closed:
            return b""
        with suppress(BlockingIOError):
            while data and select.select([], [self._fd], [], 0)[1]:
                data = data[os.write(self._fd, data[:CHUNK_BYTES]) :]
        return data

    def _encoded_event(self, event: LocalEvent) -> bytes:
        return b"" if event.fields.get("level") in self._hidden else _encoded(event_lines(event, self._style()))

    def _style(self) -> Style:
        """Return the current abilities of the terminal. The terminal's width can change at any time."""
        is_terminal = os.isatty(self._fd)
        return Style(
            width=_width(self._fd),
            is_colour=is_terminal and wants_colours(),
            is_unicode=shows_unicode(),
            config_name=self._config_name,
        )


@contextmanager
def open_terminal(fd: int) -> Iterator[int]:
    """
    Open the terminal of `fd` again, in non-blocking mode, and yield it. Yield `fd` itself if that is not possible.

    The command shares `fd`, so the mode of `fd` must not change. A full terminal blocks a write even if it polls as
    writable.
    """
    try:
        own = os.open(os.ttyname(fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # not a terminal, or the terminal of another user
        yield fd
        return
    try:
        yield own
    finally:
        os.close(own)


def shows_unicode() -> bool:
    """Return whether stderr shows characters such as ✓. The font of the Linux console lacks them."""
    if sys.stderr is None or os.environ.get("TERM") == "linux":
        return False
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((os.environ[name] for name in names if os.environ.get(name)), "")
    # In the C locale, Python writes UTF-8 although the terminal may use another encoding (PEP 540).
    return sys.stderr.encoding.lower().replace("-", "") == "utf8" and locale not in {"C", "POSIX"}


def _width(fd: int) -> int:
    try:
        return os.get_terminal_size(fd).columns or DEFAULT_WIDTH
    except OSError:
        return DEFAULT_WIDTH


def _encoded(lines: Iterable[str]) -> bytes:
    text = "".join(f"{line}\n" for line in lines)
    return text.encode() if shows_unicode() else text.translate(_IN_ASCII).encode("ascii", "backslashreplace")


_IN_ASCII = {ord("…"): "...", ord("“"): '"', ord("”"): '"'}
"""The replacements of our own characters. Characters from outside become escapes."""
