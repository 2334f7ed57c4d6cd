"""
One GET to a daemon on this machine, by a bare socket.

What asks so is a process of its own, run by a probe every second or by an SDK whenever it needs credentials: an HTTP
library would be most of its life.
"""

import re
import socket
import time
from typing import NamedTuple

MAX_ANSWER_BYTES = 1024 * 1024
"""The daemon serves what STS replied, which may be 256 KiB (client.py) before it is JSON. Metrics have fewer."""

_READ_BYTES = 65_536

_REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a table, not a bind
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


class Reply(NamedTuple):
    status: int
    body: bytes


def reachable(address: tuple[str, int]) -> tuple[str, int]:
    """Where to connect to a daemon that listens there: for every interface, to loopback."""
    host, port = address
    return _REACHABLE.get(host, host), port


def get(address: tuple[str, int], path: str, seconds: float, *, authorization: str | None = None) -> Reply:
    """
    Ask once, for so many seconds in all. `path` and `authorization` are visible ASCII, the latter with spaces.

    Raises OSError when nobody answers in that time, or not in HTTP.
    """
    until = time.monotonic() + seconds
    lines = [f"GET {path} HTTP/1.0", *([] if authorization is None else [f"Authorization: {authorization}"]), "", ""]
    answer = b""
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall("\r\n".join(lines).encode("ascii"))
        while piece := _receive(connection, until):
            answer += piece
            if len(answer) > MAX_ANSWER_BYTES:
                raise ConnectionError(f"the answer is over {MAX_ANSWER_BYTES} bytes")
    head, _, body = answer.partition(b"\r\n\r\n")
    status = _STATUS_LINE.match(head)
    if status is None:
        raise ConnectionError("what listens there does not speak HTTP")
    return Reply(int(status[1]), body)


def _receive(connection: socket.socket, until: float) -> bytes:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    connection.settimeout(left)
    return connection.recv(_READ_BYTES)
