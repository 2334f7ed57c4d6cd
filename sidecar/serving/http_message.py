"""
Parse requests and write responses for the HTTP server of the webhook and the local services. Pure.

Rule: a request is exactly as in RFC 9112, and one compiled pattern contains the grammar of its head. Any other input is
rejected and never repaired, because two parsers that repair input differently make request smuggling possible. A body
needs a Content-Length, because the chunks of a Transfer-Encoding could have one byte each.

This grammar is for clients on the network and has every method and a body. The grammar in http.py is for the daemon.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

TEXT = "text/plain; charset=utf-8"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

MAX_HEADERS = 100
"""Maximum number of headers. The API server sends about ten. A head of 16 KiB could have 4,000, which take 3 ms."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    A complete request. Every part except the method may contain secrets.

    Header names are in lower case, in the order of arrival, and may repeat.
    """

    method: str
    target: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False, default=())
    body: bytes = field(repr=False, default=b"")

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """Return the first value of the header `name`, or None. `name` is in lower case."""
        return next((value for key, value in self.headers if key == name), None)


Send = Callable[[bytes], Awaitable[None]]
"""
The type of a function that sends a piece of a body.

Raises OSError or trio.TooSlowError if the client does not accept the piece.
"""

WriteBody = Callable[[Send], Awaitable[None]]
"""The type of a function that sends a body in pieces until the body ends. It is cancelled if the client leaves."""


@dataclass(frozen=True, slots=True)
class Response:
    """
    A complete response. Its body may contain credentials, so `repr` does not show the body.

    With `write_body`, the body continues with the pieces that this function sends, and ends with the connection.
    """

    status: int
    body: bytes = field(repr=False)
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    write_body: WriteBody | None = field(repr=False, default=None)


def text_response(status: int, message: str, *headers: tuple[str, str]) -> Response:
    """Return a response whose body is a sentence for a person."""
    return Response(status, f"{message}\n".encode(), TEXT, headers)


class RejectedError(Exception):
    """An error for a request that is invalid, incomplete or too long, with the response to it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = text_response(status, message)


class Head(NamedTuple):
    """
    The head of a request, and the length of its body in bytes.

    `is_last` is True if the client accepts no further response on its connection. `is_waiting` is True if the client
    sends the body only after CONTINUE.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    length: int
    is_last: bool
    is_waiting: bool


# RFC 9110, 5.6.2 (token) and 5.5 (field-value with obs-text). Possessive quantifiers (`++`, `*+`) do not backtrack, so
# matching takes linear time.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_HEAD = re.compile(
    rb"(" + _TOKEN + rb"++) ([!-~]++) HTTP/1\.([01])\r\n((?:" + _TOKEN + rb"++:[\t -~\x80-\xff]*+\r\n)*+)\r\n"
)
_END = re.compile(rb"\r\n\r\n|(?<!\r)\n")
"""The end of a head, or a line that ends in a bare LF, which is invalid. Neither is part of a valid line."""

_FIRST = re.compile(_TOKEN)
_LENGTH = re.compile(r"[0-9]{1,18}")
_SINGLE = ("host", "content-length")
"""Headers that must not occur twice, because two parsers might use different values."""

_CLOSE = re.compile(r"(?:\A|,)[ \t]*close[ \t]*(?:,|\Z)", re.IGNORECASE)
_CONTINUE = re.compile(r"(?:\A|,)[ \t]*100-continue[ \t]*(?:,|\Z)", re.IGNORECASE)
"""Patterns for a word in a header's list. A search avoids splitting a list of 16,000 commas, which would take 2 ms."""

_FIELD_VALUE = re.compile(r"[\t -~]*")

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}

_INVALID = "The request is not valid HTTP/1.1."


def head_end(buffer: bytearray, searched: int, limit: int) -> int | None:
    """
    Return the length of the head at the start of the buffer, or None if more bytes are needed.

    An earlier search found no end in the first `searched` bytes.

    Raises RejectedError if the head exceeds the limit, or cannot become valid.
    """
    if buffer and not _FIRST.match(buffer):
        raise RejectedError(400, _INVALID)
    found = _END.search(buffer, max(0, searched - 3))
    if (found.end() if found else len(buffer)) > limit:
        raise RejectedError(431, f"The request head is over {limit} bytes.")
    return found.end() if found else None


def parse_head(data: bytes) -> Head:
    """
    Return the parsed head.

    Raises RejectedError if it is invalid, has a Transfer-Encoding or too many headers.
    """
    if data.count(b"\n") > MAX_HEADERS + 2:
        raise RejectedError(431, f"The request has more than {MAX_HEADERS} headers.")
    match = _HEAD.fullmatch(data)
    if match is None:
        raise RejectedError(400, _INVALID)
    method, target, minor, lines = (part.decode("latin-1") for part in match.groups())
    fields = [line.partition(":") for line in lines.split("\r\n")[:-1]]
    headers = tuple((name.lower(), value.strip(" \t")) for name, _, value in fields)
    named = dict(headers)
    if len(named) < len(headers) and any(sum(name == single for name, _ in headers) > 1 for single in _SINGLE):
        raise RejectedError(400, "The header Host or Content-Length came more than once.")
    if "host" not in named and minor == "1":
        raise RejectedError(400, "An HTTP/1.1 request needs a Host header.")
    length = _length(named)
    is_last = minor == "0" or _has_word(headers, "connection", _CLOSE)
    is_waiting = length > 0 and minor == "1" and _has_word(headers, "expect", _CONTINUE)
    return Head(method, target, headers, length, is_last, is_waiting)


def _length(named: dict[str, str]) -> int:
    if "transfer-encoding" in named:
        raise RejectedError(411, "Send a Content-Length, not a Transfer-Encoding.")
    text = named.get("content-length", "0")
    if not _LENGTH.fullmatch(text):
        raise RejectedError(400, "The Content-Length is not a number of bytes.")
    return int(text)


def _has_word(headers: tuple[tuple[str, str], ...], name: str, word: re.Pattern[str]) -> bool:
    """Return whether a header with this name has the word in its list. Upper and lower case are the same."""
    return any(key == name and word.search(value) for key, value in headers)


def response_bytes(response: Response, *, has_body: bool, is_last: bool) -> bytes:
    """
    Return the response as it is sent.

    RFC 9110, 9.3.2: the response to HEAD has the length of a body that is not sent. RFC 9112, 6.3: a body of unknown
    length ends with the connection.

    Raises ValueError if a header would add lines to the head.
    """
    fields = (("Content-Type", response.content_type), *response.headers)
    if not all(_FIELD_VALUE.fullmatch(value) for _, value in fields):
        raise ValueError("a header of the response is not one line of ASCII text")
    first, *others = (f"{name}: {value}\r\n" for name, value in fields)
    close = "Connection: close\r\n" if is_last else ""
    length = f"Content-Length: {len(response.body)}\r\n" if response.write_body is None else ""
    head = "".join((_STATUS_LINES[response.status], first, length, close, *others, "\r\n")).encode("ascii")
    return head + response.body if has_body else head
