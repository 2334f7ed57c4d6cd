"""
Send one GET to a daemon on this machine over a plain socket.

The kubelet's probe starts a process with this request every second, and an SDK starts one for each refresh. The import
of an HTTP library would take most of the run time of these processes.
"""

import re
import socket
import time
from typing import NamedTuple

MAX_RESPONSE_BYTES = 1024 * 1024
"""Maximum size of a response. A response of STS can be 256 KiB long (sts/client.py), and JSON makes it longer."""

_READ_BYTES = 65_536

_REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a table, not a bind
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


class Response(NamedTuple):
    """The status and the body of an HTTP response."""

    status: int
    body: bytes


def reachable(address: tuple[str, int]) -> tuple[str, int]:
    """Return the address for clients of a daemon that listens on `address`: loopback for a wildcard."""
    host, port = address
    return _REACHABLE.get(host, host), port


def get(address: tuple[str, int], path: str, seconds: float, *, authorization: str | None = None) -> Response:
    """
    Send one request, and return the response within `seconds`.

    `path` is visible ASCII, and `authorization` is visible ASCII and spaces.
    Raises OSError if no HTTP response arrives in time.
    """
    deadline_at = time.monotonic() + seconds
    lines = [f"GET {path} HTTP/1.0", *([] if authorization is None else [f"Authorization: {authorization}"]), "", ""]
    received = b""
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall("\r\n".join(lines).encode("ascii"))
        while piece := _receive(connection, deadline_at):
            received += piece
            if len(received) > MAX_RESPONSE_BYTES:
                raise ConnectionError(f"the response has more than {MAX_RESPONSE_BYTES} bytes")
    head, _, body = received.partition(b"\r\n\r\n")
    if not (status := _STATUS_LINE.match(head)):
        raise ConnectionError("the response is not HTTP")
    return Response(int(status[1]), body)


def _receive(connection: socket.socket, deadline_at: float) -> bytes:
    remaining_seconds = deadline_at - time.monotonic()
    if remaining_seconds <= 0:
        raise TimeoutError("timed out")
    connection.settimeout(remaining_seconds)
    return connection.recv(_READ_BYTES)
