"""
Run a proxy in front of a fake AWS.

The proxy can listen in the cluster's network. It can make the clock of the fake fast, so that a test need not wait.
"""

import socket
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


class AwsProxy:
    """The proxy's URL, and the seconds by which the clock in its responses is ahead."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.ahead_seconds = 0.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: AwsProxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = HTTPConnection(urlsplit(self.proxy.target).netloc, timeout=GUARD_SECONDS)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _OF_ONE_CONNECTION:
                self.send_header(name, value)
        self.send_header("Date", formatdate(time.time() + self.proxy.ahead_seconds, usegmt=True))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815  the standard library's names

    def log_message(self, *_: object) -> None:
        """Ignore log messages of http.server."""


@contextmanager
def aws_proxy(target: str, listener: socket.socket | None = None) -> Iterator[AwsProxy]:
    """Run the proxy in front of `target` until the block ends. `listener` can belong to another network."""
    proxy = AwsProxy(target)
    with serving(type("Handler", (_Handler,), {"proxy": proxy}), listener=listener) as proxy.url:
        yield proxy
