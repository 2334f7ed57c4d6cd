"""
Describe the mistake in the content of a token file without a valid JWT. Pure.

Rule: a mistake is reported only if the content proves it. A token that is cut off is not a mistake, because its writer
may not have finished. Texts never quote the content, because the content can hold a token. The daemon imports this
module only after it failed to read a token.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Mistake(NamedTuple):
    """A mistake that only a person can fix. `code` is one of CODES; `problem` follows "the file holds no JWT: "."""

    code: str
    problem: str
    fix: str


_ALONE = "Write the token alone into the file"

_TEXTS = {
    "compressed": ("it is compressed, or an archive", "Write the token itself into the file"),
    "utf16": (
        "it is UTF-16, as PowerShell's > writes it",
        "Write the token as ASCII, for example with Set-Content -Encoding ascii",
    ),
    "quoted": ("the token is in quotes", "Write the token without quotes, as jq -r does"),
    "json": ("it is JSON without a token", "Check the program that wrote the file: its request may have failed"),
    "json_error": ("it is an error message in JSON", "Find out why the request for the token failed"),
    "null": ("it is a word for an empty value, such as null", "Check whether the member that jq reads exists"),
    "html": (
        "it is an HTML page",
        "Find out why the response to the request for the token was a page, such as a login",
    ),
    "xml": ("it is an XML document", "Find out why the response to the request for the token was XML"),
    "pem": ("it is a PEM block, such as a certificate or a key", "Set the path of the token's file instead"),
    "encrypted": (
        "the token is encrypted (JWE, five parts), and STS accepts only signed tokens",
        "Configure the issuer to sign the token without encrypting it",
    ),
    "several": ("it holds several tokens", "Write one token, and replace the file instead of appending to it"),
    "wrapped": ("the token is broken into several lines", "Write the token on one line, for example with base64 -w 0"),
    "scheme": ("an authorization scheme such as Bearer is before the token", _ALONE),
    "assignment": ("a name such as TOKEN= is before the token", _ALONE),
    "text_before": ("other text is before the token, such as a log line", _ALONE),
    "text_behind": ("other text is after the token, such as a log line", _ALONE),
    "text_around": ("other text is around the token, such as log lines", _ALONE),
    "base64": ("it is base64 of a token, as in a Secret", "Decode it, for example with base64 -d"),
    "path": ("it is the path of a file", "Set that path as the token's file, or write the token into this file"),
    "url": ("it is a URL", "Write the token into the file"),
    "placeholder": (
        "it is a placeholder that nothing replaced",
        "Check the program that should replace it by the token",
    ),
    "opaque": (
        "it is not a JWT but an opaque token, such as an access token or a job token",
        "Request an ID token from the issuer. An ID token begins with eyJ",
    ),
    "text": ("it is text without a token, such as an error message", "Check the program that wrote it"),
}
CODES = frozenset(_TEXTS)
"""All codes of mistakes."""

_TOKEN = r"e[wy][\w-]{8,}\.[\w-]{2,}\.[\w-]{2,}"  # noqa: S105  a pattern
"""A pattern for a signed JWT. Its header is a JSON object, so its base64url begins with `ey` or `ew`."""

_JWS = re.compile(_TOKEN, re.ASCII)
_JWS_WITHIN = re.compile(rf"(?<![\w-]){_TOKEN}(?![\w-])", re.ASCII)
_QUOTES = "[\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb]{1,3}"
_QUOTED = re.compile(rf"[bru]?{_QUOTES}\s*{_TOKEN}\s*{_QUOTES}[,;]?", re.ASCII)
_SCHEME = re.compile(
    rf"(?:[\w-]+\s*[:=]\s*)?[\"']?(?:bearer[\s:]|(?:jwt|token|basic)\s)\s*{_TOKEN}[\"']?", re.ASCII | re.IGNORECASE
)
_ASSIGNMENT = re.compile(
    rf"(?:(?:export|set|setx|let|const|var)\s+)?[$\w][\w.:-]*\s*[:=]+\s*[\"']?{_TOKEN}[\"']?;?", re.ASCII
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MAGIC = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
"""The first bytes of compressed files: gzip, zip, bzip2, xz and Zstandard."""

_NOTHING = frozenset(
    {"null", "none", "nil", "undefined", "(null)", "<nil>", "<none>", "nan", "false", "true", "n/a", "~"}
)
_HTML = re.compile(r"<(!doctype\s+html|html|head|body|title|h1|p|div)\b", re.IGNORECASE)
_XML = re.compile(r"<\?xml\b.*|<([A-Za-z][\w:.-]*)\b[^>]*>.*</\1\s*>", re.DOTALL)
_PATH = re.compile(r"(?:~?/|\.{1,2}/|[A-Za-z]:[\\/])[^\s*?\"<>|]+")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\$\{?\w+\}?|\$\(.+\)|\$?\{\{.+\}\}|<[\w .-]{1,60}>|%\w+%", re.DOTALL)
_OPAQUE = re.compile(r"(?!e[wy])[\w~+/=-]{0,20}\.?[\w~+/=-]{16,500}", re.ASCII)
_TEXT = re.compile(r"(?:(?!e[wy]\w{4})[^\x00-\x08\x0e-\x1f\x7f\ufffd]){3,}")
"""A pattern for text without control characters, and without the beginning of a JWT."""

_MEMBER = re.compile(r"[A-Za-z_][\w-]{0,40}", re.ASCII)
_MAX_DEPTH = 8


def find_mistake(content: bytes) -> Mistake | None:
    """Return the mistake in this content, or None if the mistake is unknown or the content is only cut off."""
    if content.startswith(_MAGIC):
        return _mistake("compressed")
    if _is_utf16(content):
        return _mistake("utf16")
    text = content.decode("utf-8", "replace").removeprefix("\ufeff").strip()
    if not text:
        return None
    return next(filter(None, (find(text) for find in _FINDERS)), None)


def _mistake(code: str) -> Mistake:
    return Mistake(code, *_TEXTS[code])


def _is_utf16(content: bytes) -> bool:
    """Return whether the content is UTF-16 or UTF-32: a byte order mark, or zero in every second byte."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    half = len(content) // 2
    fewer, more = sorted(content[start::2].count(0) for start in (0, 1))
    return half > 8 and more > 0.9 * half and fewer < 0.6 * half


def _json(text: str) -> Mistake | None:
    if not text.startswith(("{", "[")):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    path = next(_tokens_in(document, (), _MAX_DEPTH), None)
    if path is None:
        return _mistake("json_error" if _is_error(document) else "json")
    return Mistake("json", *_member_texts(path))


def _member_texts(path: tuple[str | int, ...]) -> tuple[str, str]:
    """Return the problem and the fix, with the member's path in jq's syntax unless it has unusual characters."""
    if path and all(isinstance(step, int) or _MEMBER.fullmatch(step) for step in path):
        name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
        jq = name if name.startswith(".") else f".{name}"
        return (
            f'it is JSON whose member "{name.removeprefix(".")}" holds the token',
            f"Write only that, as jq -r {jq} does",
        )
    return "it is JSON around a token", "Write the token alone, as jq -r does with its member's name"


def _tokens_in(value: Any, path: tuple[str | int, ...], depth: int) -> Iterator[tuple[str | int, ...]]:
    """Yield the paths of the members of a JSON document that hold a token."""
    if isinstance(value, str) and _JWS_WITHIN.search(value):
        yield path
    elif isinstance(value, dict) and depth:
        for name, member in value.items():
            yield from _tokens_in(member, (*path, name), depth - 1)
    elif isinstance(value, list) and depth:
        for index, item in enumerate(value):
            yield from _tokens_in(item, (*path, index), depth - 1)


def _is_error(document: Any) -> bool:
    names = {"error", "errors", "message", "code", "status", "statuscode", "fault", "detail", "title", "reason"}
    return isinstance(document, dict) and any(name.lower() in names for name in document)


def _parts(text: str) -> Mistake | None:
    """Find a token with a wrong number of parts. Five parts are a JWE, or two tokens without a separator."""
    parts = text.split(".")
    if len(parts) < 5 or not all(re.fullmatch(r"[\w-]*", part, re.ASCII) for part in parts):
        return None
    header = _json_object(parts[0])
    if len(parts) == 5 and header is not None and "enc" in header:
        return _mistake("encrypted")
    return _mistake("several") if header is not None and _json_object(parts[1]) is not None else None


def _json_object(part: str) -> dict[str, Any] | None:
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _lines(text: str) -> Mistake | None:
    """Find a token that is broken into lines of equal length. If a line is a whole token, that is another mistake."""
    first, *rest = lines = text.split()
    if not rest or any(_JWS.fullmatch(line) for line in lines) or not _JWS.fullmatch("".join(lines)):
        return None
    is_even = all(len(line) == len(first) for line in lines[:-1]) and len(lines[-1]) <= len(first)
    return _mistake("wrapped") if is_even else None


def _within(text: str) -> Mistake | None:
    """Find one or several tokens that are surrounded by other text."""
    text = _COLOUR.sub(" ", text)
    found = [*_JWS_WITHIN.finditer(text)]
    if not found or found[0][0] == text:
        return None
    if len(found) > 1:
        return _mistake("several")
    is_before, is_behind = found[0].start() > 0, found[0].end() < len(text)
    return _mistake("text_around" if is_before and is_behind else "text_before" if is_before else "text_behind")


def _base64(text: str) -> Mistake | None:
    packed = "".join(text.split())
    try:
        decoded = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_" if "-" in packed else None)
    except (binascii.Error, ValueError):
        return None
    is_token = _JWS.fullmatch(decoded.decode("ascii", "replace").strip())
    return _mistake("base64") if is_token and re.fullmatch(r"[\w+/=-]+", packed, re.ASCII) else None


def _matcher(code: str, pattern: re.Pattern[str], *, whole: bool = True) -> Callable[[str], Mistake | None]:
    return lambda text: _mistake(code) if (pattern.fullmatch(text) if whole else pattern.match(text)) else None


_FINDERS: tuple[Callable[[str], Mistake | None], ...] = (
    lambda text: _mistake("null") if text.strip("\"'").lower() in _NOTHING else None,
    _json,
    _matcher("pem", re.compile("-----BEGIN "), whole=False),
    _matcher("html", _HTML, whole=False),
    _matcher("xml", _XML),
    _matcher("placeholder", _PLACEHOLDER),
    _parts,
    _matcher("quoted", _QUOTED),
    _matcher("scheme", _SCHEME),
    _matcher("assignment", _ASSIGNMENT),
    _lines,
    _within,
    _base64,
    _matcher("path", _PATH),
    _matcher("url", _URL),
    _matcher("opaque", _OPAQUE),
    lambda text: _mistake("text") if len(text.split()) > 1 and _TEXT.fullmatch(text) else None,
)
"""The checks in the order in which they run. Specific mistakes come before general ones."""
