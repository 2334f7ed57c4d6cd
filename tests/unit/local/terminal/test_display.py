"""Test the display on real pseudo-terminals: width, colours, encoding, and terminals that are stopped or closed."""

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from sidecar.local.feed import Feed
from sidecar.local.terminal import display as display_module
from sidecar.local.terminal.display import PATIENCE_SECONDS, Display, open_terminal, shows_unicode
from tests.support.fakes.clock import EPOCH


class Terminal:
    """A pseudo-terminal. The program writes to `fd`, and the test reads the text from `screen`."""

    def __init__(self) -> None:
        self.screen, self.fd = pty.openpty()

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    async def read(self) -> str:
        """Return what the program has written."""
        os.write(self.fd, END)
        return await self.read_until(END)

    async def read_until(self, end: bytes) -> str:
        return await trio.to_thread.run_sync(self._read_until, end)

    def _read_until(self, end: bytes) -> str:
        data = b""
        while end not in data:
            data += os.read(self.screen, 65536)
        return data.partition(end)[0].decode().replace("\r\n", "\n")

    def close(self) -> None:
        for fd in (self.screen, self.fd):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


END = b"<end>"
"""The text that marks the end of what the program has written."""


@pytest.fixture(autouse=True)
def colourful_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(display_module, "shows_unicode", lambda: True)


def a_feed() -> Feed:
    return Feed(lambda: EPOCH)


async def done() -> int:
    return 0


async def show(fd: int, *names: str, level: str = "info", urls: dict[str, str] | None = None) -> None:
    feed = a_feed()
    for name in names:
        feed.publish("STS", name, level=level)
    with feed.subscribe() as events:
        await Display(fd, events, "info").accompany(urls or {}, done)


async def test_display_follows_the_width_of_the_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    widths = []
    for width in (60, 100):
        terminal.resize(width)
        await show(terminal.fd, urls={"page": "x" * 300})
        widths.append(max(map(len, (await terminal.read()).splitlines())))
    assert widths == [60, 100]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
async def test_plain_terminal_gets_no_colours(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    await show(terminal.fd, "exchange_granted")
    assert "\x1b[" in await terminal.read()
    monkeypatch.setenv(name, value)
    await show(terminal.fd, "exchange_granted")
    assert "✓ accepted the token" in (text := await terminal.read())
    assert "\x1b" not in text


async def test_terminal_without_unicode_gets_ascii(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "shows_unicode", lambda: False)
    await show(terminal.fd, "exchange_granted", "größe")
    assert (text := await terminal.read()).isascii()
    assert "gr\\xf6\\xdfe" in text


async def test_level_hides_less_important_events(terminal: Terminal) -> None:
    feed = a_feed()
    feed.publish("STS", "exchange_granted", level="info")
    feed.publish("STS", "request_failed", level="warning")
    with feed.subscribe() as events:
        await Display(terminal.fd, events, "warning").accompany({}, done)
    text = await terminal.read()
    assert "failed to respond" in text
    assert "accepted" not in text


async def test_event_is_shown_before_publish_returns(terminal: Terminal) -> None:
    feed = a_feed()

    async def command() -> int:
        await trio.lowlevel.checkpoint()
        feed.publish("client", "credentials_served", level="info", access_key_id="ASIA1")
        os.write(terminal.fd, b"output of the client\n")
        return 7

    with feed.subscribe() as events, open_terminal(terminal.fd) as fd:
        assert await Display(fd, events, "info").accompany({"STS": "http://b"}, command) == 7
    text = await terminal.read()
    assert text.index("http://b") < text.index("ASIA1") < text.index("output of the client")


async def test_stopped_terminal_delays_events_without_blocking(terminal: Terminal) -> None:
    """A terminal that nobody reads is full after some KiB. Later events then wait for a reader."""
    feed, count = a_feed(), 400

    async def command() -> int:
        for number in range(count):
            feed.publish("client", "request_denied", level="warning", reason=f"<{number}>" + "x" * 100)
        text = await terminal.read_until(f"<{count - 1}>".encode())
        assert all(f"<{number}>" in text for number in range(count - 1))
        return 0

    with feed.subscribe() as events, open_terminal(terminal.fd) as fd:
        await Display(fd, events, "info").accompany({}, command)
    assert events.lost == 0


async def test_terminal_that_stays_stopped_delays_the_end_briefly(
    terminal: Terminal, autojump_clock: trio.testing.MockClock
) -> None:
    started = autojump_clock.current_time()
    feed = a_feed()

    async def command() -> int:
        await trio.lowlevel.checkpoint()
        for _ in range(400):
            feed.publish("client", "request_denied", level="warning", reason="x" * 100)
        return 3

    with feed.subscribe() as events, open_terminal(terminal.fd) as fd:
        assert await Display(fd, events, "info").accompany({}, command) == 3
    assert autojump_clock.current_time() - started == PATIENCE_SECONDS


async def test_closed_terminal_ends_only_the_display(terminal: Terminal) -> None:
    feed = a_feed()

    async def command() -> int:
        os.close(terminal.screen)
        feed.publish("STS", "exchange_granted", level="info")
        await trio.lowlevel.checkpoint()
        return 5

    with feed.subscribe() as events, open_terminal(terminal.fd) as fd:
        assert await Display(fd, events, "info").accompany({}, command) == 5


async def test_display_writes_to_a_regular_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file, open_terminal(file.fileno()) as fd:
        assert fd == file.fileno()
        await show(fd, "exchange_granted")
    assert (tmp_path / "log").read_text().splitlines()[-1].startswith("STS ")
    assert "\x1b" not in (tmp_path / "log").read_text()


def test_shared_descriptor_stays_in_its_mode(terminal: Terminal) -> None:
    with open_terminal(terminal.fd) as fd:
        assert not os.get_blocking(fd)
        assert os.get_blocking(terminal.fd)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LANG": "de_DE.UTF-8"}, True),
        ({}, True),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, False),
        ({"LANG": "POSIX"}, False),
        ({"LANG": "de_DE.UTF-8", "TERM": "linux"}, False),
    ],
)
def test_unicode_follows_locale_and_terminal(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, expected: bool
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert shows_unicode() is expected
