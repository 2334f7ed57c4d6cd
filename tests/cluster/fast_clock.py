"""Run a proxy in front of a fake AWS that makes its clock fast, so that a test need not wait for old tokens."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.support.fakes.threaded import serving
from tests.support.processes import GUARD_SECONDS

_OF_ONE_CONNECTION = {"connection", "date", "transfer-encoding", "content-length", "server"}
"""The headers that the proxy sets itself."""


class FastClock:
    """The proxy's URL, and the seconds by which the clock in its responses is ahead."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.ahead_seconds = 0.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    clock: FastClock

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = HTTPConnection(urlsplit(self.clock.target).netloc, timeout=GUARD_SECONDS)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _OF_ONE_CONNECTION:
                self.send_header(name, value)
        self.send_header("Date", formatdate(time.time() + self.clock.ahead_seconds, usegmt=True))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = _forward  # noqa: N815  the standard library's names

    def log_message(self, *_: object) -> None:
        """Ignore log messages of http.server."""


@contextmanager
def fast_clock(target: str) -> Iterator[FastClock]:
    """Run the proxy in front of `target` until the block ends."""
    clock = FastClock(target)
    with serving(type("Handler", (_Handler,), {"clock": clock})) as clock.url:
        yield clock
