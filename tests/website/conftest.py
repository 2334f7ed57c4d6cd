"""Serve the built site on loopback, and show it in a headless Chromium. `make docs-check` runs these tests."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.website.browser import executable, launched
from website.build import BUILD

SITE = BUILD / "site"
SCREENSHOTS = BUILD / "screenshots"


class QuietHandler(SimpleHTTPRequestHandler):
    """A file server without a log."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the name is the base class's
        """Ignore log messages of http.server."""


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Disable the check of threads and descriptors, because Playwright keeps some of them until pytest exits."""


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Return the address of the site."""
    if not (SITE / "index.html").exists():
        pytest.exit("There is no site. Run `make docs` first.", returncode=2)
    handler = functools.partial(QuietHandler, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if executable() is None:
        pytest.exit("There is no Chromium in PATH. On Debian: apt-get install chromium.", returncode=2)
    with sync_playwright() as playwright, launched(playwright) as started:
        yield started


@pytest.fixture(scope="session")
def screenshots() -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS
