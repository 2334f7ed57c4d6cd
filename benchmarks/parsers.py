"""
Measure the time to parse one request: our grammar, httptools and h11, on requests of real SDKs.

    python benchmarks/parsers.py

Prints microseconds per request, the best of several rounds. A parser that is not installed is skipped. Only our parser
also rejects requests that a credentials endpoint should reject. The other parsers only parse. httptools is written in C
and may be faster by 2 or 3 us of the 40 us or more for a connection. That does not justify another package in the image
and a second check of the requests that it accepts. h11 takes ten times as long as our parser.
"""

import argparse
import importlib
import timeit
from collections.abc import Callable
from typing import Any

from sidecar.serving import http

ROUNDS = 7
REQUESTS_PER_ROUND = 5_000

REQUESTS = {
    "botocore": b"GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1:4772\r\nAccept-Encoding: identity\r\n"
    b"Accept: application/json\r\nUser-Agent: python-urllib3/2.2.1\r\nAuthorization: s3cr3t\r\n\r\n",
    "JavaScript v3": b"GET /v1/credentials HTTP/1.1\r\nAuthorization: s3cr3t\r\nHost: 127.0.0.1:4772\r\n"
    b"Connection: keep-alive\r\n\r\n",
    "Java v2": b"GET /v1/credentials HTTP/1.1\r\nUser-Agent: aws-sdk-java/2.25.1\r\n"
    b"Accept: text/html, image/gif, image/jpeg, */*; q=0.2\r\nAccept: application/json\r\nAccept: */*\r\n"
    b"Authorization: s3cr3t\r\nHost: 127.0.0.1:4772\r\nConnection: keep-alive\r\n\r\n",
}

Read = Callable[[bytes], object]


def by_httptools(httptools: Any) -> Read:
    """Parse with httptools in the usual way: callbacks of an object collect the target and the headers."""

    class Collected:
        def __init__(self) -> None:
            self.url = b""
            self.headers: dict[bytes, bytes] = {}

        def on_url(self, url: bytes) -> None:
            self.url += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers[name.lower()] = value

    def read(data: bytes) -> Collected:
        collected = Collected()
        httptools.HttpRequestParser(collected).feed_data(data)
        return collected

    return read


def by_h11(h11: Any) -> Read:
    def read(data: bytes) -> object:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(data)
        return connection.next_event()

    return read


def parsers() -> dict[str, Read]:
    """Return every installed parser by name."""
    found: dict[str, Read] = {"sidecar.serving.http": http.parse}
    for name, make in (("httptools", by_httptools), ("h11", by_h11)):
        try:
            found[name] = make(importlib.import_module(name))
        except ImportError:
            print(f"{name} is not installed: skipped")
    return found


def microseconds(read: Read, data: bytes) -> float:
    rounds = timeit.repeat(lambda: read(data), number=REQUESTS_PER_ROUND, repeat=ROUNDS)
    return min(rounds) / REQUESTS_PER_ROUND * 1e6


def main() -> None:
    argparse.ArgumentParser(description="Measure the time to parse one request.").parse_args()
    found = parsers()
    print("us per request", *(f"{name:>14}" for name in found))
    for client, data in REQUESTS.items():
        print(f"{client:14}", *(f"{microseconds(read, data):14.1f}" for read in found.values()))


if __name__ == "__main__":
    main()
