"""
Fake servers with any host name on loopback, over TLS with certificates that the test chooses.

Clients connect to the servers through the proxy in HTTPS_PROXY. The proxy accepts CONNECT to a host of the test and
responds as that host. It rejects other hosts as a real proxy does.
"""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.support.fakes.threaded import serving

Answer = tuple[int, bytes]


class Internet:
    """Servers and their proxy. `requested_urls` has the URLs of all requests. `proxy_url` is the proxy's address."""

    def __init__(self) -> None:
        self.proxy_url = ""
        self.requested_urls: list[str] = []
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._answers: dict[str, Answer] = {}

    def serve(self, host: str, context: ssl.SSLContext) -> None:
        """Serve this host name. Paths without a document return 404."""
        self._contexts[host] = context

    def publish(self, url: str, content: Any, status: int = 200) -> None:
        """Publish a JSON document, or bytes unchanged."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self._answers[url] = (status, body)

    def context_of(self, host: str) -> ssl.SSLContext | None:
        return self._contexts.get(host)

    def answer(self, url: str) -> Answer:
        self.requested_urls.append(url)
        return self._answers.get(url, (404, b"nothing here"))


class _Proxy(BaseHTTPRequestHandler):
    internet: Internet

    def do_CONNECT(self) -> None:
        host = urlsplit(f"//{self.path}").hostname or ""
        context = self.internet.context_of(host)
        if context is None:
            self.send_error(502, f"no such host as {host}")
            return
        self.send_response(200)
        self.end_headers()
        with suppress(OSError), context.wrap_socket(self.connection, server_side=True) as connection:
            self._answer_one(host, connection)
        self.close_connection = True

    def _answer_one(self, host: str, connection: ssl.SSLSocket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            piece = connection.recv(65536)
            if not piece:
                return
            request += piece
        path = request.split()[1].decode()
        status, body = self.internet.answer(f"https://{host}{path}")
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)

    def log_message(self, *_: object) -> None:
        """Ignore the messages of http.server."""


@contextmanager
def internet() -> Iterator[Internet]:
    found = Internet()
    with proxy(found) as found.proxy_url:
        yield found


@contextmanager
def proxy(to: Internet, listener: socket.socket | None = None) -> Iterator[str]:
    """Run a proxy to the servers, and yield its URL. `listener` is for clients in another network namespace."""
    with serving(type("Proxy", (_Proxy,), {"internet": to}), listener=listener) as url:
        yield url
