"""
Parse the few HTTP requests that are allowed, and render every response. Pure: bytes in, values out.

The bodies for valid requests are in container_credentials.py, imds.py and admin.py.

Rule: a request is a GET without a body, in origin form, in HTTP/1.0 or 1.1, exactly as in RFC 9112. One compiled
pattern contains the whole grammar. Any other input is rejected and never repaired, because two parsers that repair
input differently make request smuggling possible. After a mismatch, the lines are parsed one by one to find the reason.
The first invalid line decides, so the rejection does not depend on the pieces in which the bytes arrive. A listener
that needs another method has its own grammar, which differs only in the methods.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

MAX_HEAD_BYTES = 16 * 1024
"""Maximum size of the request line and the fields together. SDKs send under 1 KiB, but a secret may be long. Tomcat's
limit is 8 KiB, Node's is 16 KiB."""

MAX_FIELDS = 100
"""Maximum number of fields. SDKs send fewer than 20; Apache's limit is also 100."""

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
"""Every status that is sent, with its reason phrase (RFC 9110 section 15, RFC 6585 section 5)."""


class Request(NamedTuple):
    """
    One well-formed request.

    `path` is the target without its query. `headers` maps lower-case names to values without surrounding white space.
    If a name occurs twice, the last value counts. A request that repeats a field in _SINGLE is rejected. `size` is the
    number of bytes of the request in the buffer. `has_waited` is True after the server has held the request.
    """

    path: bytes
    version: bytes
    headers: Mapping[bytes, bytes]
    size: int
    method: bytes = b"GET"
    has_waited: bool = False


class Rejection(NamedTuple):
    """The reason why bytes are not a valid request. `has_body` is False in the response to a HEAD (RFC 9110 9.3.2)."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()
    has_body: bool = True

    @property
    def content(self) -> bytes:
        """The whole response in bytes."""
        whole = error_response(self.status, self.message, headers=self.headers)
        return whole if self.has_body else whole[: whole.index(b"\r\n\r\n") + 4]


# RFC 9110 5.6.2 (token) and 5.5 (field-value with obs-text), RFC 9112 3.2.1 (origin-form). Possessive quantifiers
# (`++`, `*+`) do not backtrack, so matching takes linear time.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TARGET = rb" (/[!\"$->@-~]*+)(?:\?[!\"$-~]*+)? HTTP/(1\.[01])\r\n"
_FIELD = _TOKEN + rb"++:[\t -~\x80-\xff]*+\r\n"

Parse = Callable[[bytes], Request | Rejection | None]
"""
The type of a function that reads the request at the start of a buffer. It returns the request or its rejection, or None
if more bytes are needed.

Bytes after the request are ignored. A rejection may come before the head is complete, and later bytes do not change it.
"""


class Grammar:
    """The grammar of requests with these methods."""

    def __init__(self, *methods: str) -> None:
        line = f"({'|'.join(methods)})".encode("ascii") + _TARGET
        self._head = re.compile(line + rb"((?:" + _FIELD + rb")*+)\r\n")
        self._line_rules = _line_rules(methods, line)

    def parse(self, buffer: bytes) -> Request | Rejection | None:
        """Read the request at the start of the buffer (see Parse)."""
        match = self._head.match(buffer)
        if match is None or match.end() > MAX_HEAD_BYTES:
            return _rejection(buffer, self._line_rules)
        method, path, version, lines = match.groups()
        fields = [line.partition(b":") for line in lines.split(b"\r\n")[:-1]]
        if len(fields) > MAX_FIELDS:
            return _TOO_LARGE
        headers = {name.lower(): value.strip(b" \t") for name, _, value in fields}
        if len(headers) != len(fields) and (rejection := _repetition(fields)):
            return rejection
        if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
            return _BODY
        if b"host" not in headers and version == b"1.1":
            return _NO_HOST
        return Request(path, version, headers, match.end(), method)


def response(
    status: int, body: bytes, *, content_type: str = "application/json", headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """
    Return one complete response, after which the server closes the connection.

    The response has a Content-Length and is not compressed. `no-store` keeps credentials out of caches. Go's and
    Kotlin's SDKs read an error's body only if its type is exactly `application/json`. A 503 tells the client to retry
    after one second.
    """
    lines = [
        f"HTTP/1.1 {status} {REASONS[status]}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(_RETRY_IN_ONE_SECOND if status == 503 else ()),
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body


_RETRY_IN_ONE_SECOND = ("Retry-After: 1", "x-amz-retry-after: 1000")
"""
Headers for a retry after one second: RFC 9110's (10.2.3), and AWS's own, which counts milliseconds.

SDKs of late 2026 use AWS's header. Without it they retry after 50 ms and stop within half a second.
"""


def error_response(
    status: int, message: str, *, code: str | None = None, headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """
    Return a response whose message an SDK shows to a person. The default code is the reason phrase without spaces.

    Both spellings are in the body: Go, Java and Python read `code` and `message`, JavaScript and Kotlin `Code` and
    `Message`.
    """
    code = code or REASONS[status].replace(" ", "")
    body = json.dumps({"code": code, "message": message, "Code": code, "Message": message}).encode("ascii")
    return response(status, body, headers=headers)


# From here on: the search for the reason of a rejection. It runs if a head is rejected, incomplete or repeats a field.

_NO_HOST = Rejection(400, "An HTTP/1.1 request needs a Host header.")
_BODY = Rejection(400, "A request here has no body: send neither Transfer-Encoding nor a Content-Length other than 0.")
_TOO_LARGE = Rejection(431, f"The request head is over {MAX_HEAD_BYTES} bytes or {MAX_FIELDS} fields.")
_TLS = Rejection(400, "This looks like TLS, and the endpoint speaks plain HTTP: use http:// in the URI.")
_BARE_LF = Rejection(400, "A line ends in a bare LF; lines end in CR LF.")
_MALFORMED_LINE = Rejection(400, "The request line is not `GET /path HTTP/1.1` in visible ASCII characters.")
_MALFORMED_FIELD = Rejection(400, "A header line is not `Name: value`.")

_SINGLE = (b"host", b"authorization", b"content-length")
"""Fields that must not occur twice, because two parsers might use different values."""

_Rules = tuple[bytes, tuple[tuple[bytes, Rejection], ...], Rejection]
"""
The pattern that a line must match, and the rejections of lines that do not.

The first fault that matches a line selects the rejection. If none matches, the rejection is the last value. `re` keeps
the compiled patterns, which the start of `run` does not need.
"""


def _line_rules(methods: tuple[str, ...], line: bytes) -> _Rules:
    ours = f"(?:{'|'.join(methods)})".encode("ascii")
    only = f"Only {' and '.join(methods)} {'is' if len(methods) == 1 else 'are'} allowed."
    allow = (("Allow", ", ".join(methods)),)
    return (
        line,
        (
            (rb"GET [!-~]+", Rejection(505, "HTTP/0.9 is not supported: use HTTP/1.1.")),
            (
                rb"[^ ]+ [^ ]+ HTTP/(?!1\.[01]\Z)[0-9.]+",
                Rejection(505, "Only HTTP/1.0 and HTTP/1.1 are supported."),
            ),
            (rb"HEAD [!-~]+ HTTP/1\.[01]", Rejection(405, only, allow, has_body=False)),
            (rb"(?!" + ours + rb" )" + _TOKEN + rb"+ [!-~]+ HTTP/1\.[01]", Rejection(405, only, allow)),
            (
                ours + rb" [^/ ][!-~]* HTTP/1\.[01]",
                Rejection(400, "The request target is not a path that starts with `/`."),
            ),
        ),
        _MALFORMED_LINE,
    )


_FIELD_RULES: _Rules = (
    _FIELD,
    (
        (rb"[ \t].*", Rejection(400, "A header line starts with white space; folded headers are obsolete.")),
        (rb":.*", Rejection(400, "A header has no name.")),
        (rb"[^:]*[ \t]:.*", Rejection(400, "There is white space between a header's name and its colon.")),
        (rb".*[\x00-\x08\n-\x1f\x7f].*", Rejection(400, "A header holds a control character.")),
    ),
    _MALFORMED_FIELD,
)

_TLS_HANDSHAKE = b"\x16"


def _rejection(buffer: bytes, line_rules: _Rules) -> Rejection | None:
    """Return the rejection of the first invalid line, or None if all complete lines are valid so far."""
    if buffer and not re.match(_TOKEN, buffer):
        return _TLS if buffer.startswith(_TLS_HANDSHAKE) else _MALFORMED_LINE
    lines = buffer[:MAX_HEAD_BYTES].split(b"\n")[:-1]
    for number, line in enumerate(lines):
        if rejection := _line_rejection(number, line, line_rules):
            return rejection
    return _TOO_LARGE if len(buffer) >= MAX_HEAD_BYTES else None


def _line_rejection(number: int, line: bytes, line_rules: _Rules) -> Rejection | None:
    """Return the rejection of one line, which has no LF, or None if the line is valid. Line 0 is the request line."""
    if not line.endswith(b"\r"):
        return _BARE_LF
    if number > MAX_FIELDS:
        return _TOO_LARGE
    pattern, faults, otherwise = line_rules if number == 0 else _FIELD_RULES
    if re.fullmatch(pattern, line + b"\n"):
        return None
    return next((rejection for fault, rejection in faults if re.fullmatch(fault, line[:-1], re.DOTALL)), otherwise)


def _repetition(fields: Iterable[tuple[bytes, bytes, bytes]]) -> Rejection | None:
    names = [name.lower() for name, _, _ in fields]
    repeated = next((single for single in _SINGLE if names.count(single) > 1), None)
    return Rejection(400, f"The header {repeated.decode()} came more than once.") if repeated else None


parse: Parse = Grammar("GET").parse
"""
The parser of every listener that accepts only GET.

Rule: no result is kept between requests, because a head may contain a secret (`Authorization`).
"""
