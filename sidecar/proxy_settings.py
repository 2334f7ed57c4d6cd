"""
Check HTTPS_PROXY and NO_PROXY for values that have no effect or a wrong effect. Pure.

Rule: messages do not show the value of a proxy setting, because the value may hold a password.
"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from sidecar.errors import ConfigurationError, Explanation

MAX_ENTRIES_SHOWN = 5
MAX_ENTRY_LENGTH = 80

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_USER_INFO = re.compile(r"(?:[^\s\x00-\x20\x7f%@/?#\[\]\\\"<>`]|%[0-9A-Fa-f]{2})*")
"""
A pattern for the user and password of a URL (RFC 3986, section 3.2.1), without characters that programs parse
differently.

Characters that every client encodes automatically, such as letters beyond ASCII, are accepted.
"""

_IN_NO_HOST = frozenset("\"'<>\\^`{|}")

_HOST = re.compile(r"\.*[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")
"""A pattern for a name with or without leading dots, an IPv4 address, or an IPv6 address in brackets."""


def checked_proxy(setting: str, value: str) -> str:
    """
    Return the proxy's URL, with `http://` if it has no scheme.

    Raises ConfigurationError if the value is not a URL with a host, or if the user or password is not percent-encoded.
    A `#` or `/` would cut the value, and a part of the password would be sent to a resolver as a host name.
    """
    raw = value.strip()
    has_scheme = _SCHEME.match(raw)
    rest = raw[has_scheme.end() :] if has_scheme else raw
    user_info, at, _ = rest.rpartition("@")
    if at and _USER_INFO.fullmatch(user_info) is None:
        raise ConfigurationError(
            f"{setting}'s user and password must be percent-encoded (its value is not shown)",
            fix="Write # as %23, / as %2F, @ as %40 and % as %25",
            setting=setting,
        )
    url = raw if has_scheme else f"http://{raw}"
    if not _has_host(url):
        raise unusable_proxy(setting)
    return url


def unusable_proxy(setting: str) -> ConfigurationError:
    """Return the error for a value that is not the URL of a proxy, or has an unsupported scheme."""
    return ConfigurationError(
        f"{setting} is not a proxy that can be used (its value is not shown, because it may hold a password)",
        fix="Use the form http://HOST:PORT or https://HOST:PORT",
        setting=setting,
    )


def _has_host(url: str) -> bool:
    """Return whether the URL has a host, and a valid port or no port."""
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and _IN_NO_HOST.isdisjoint(parts.hostname or "") and parts.port != 0
    except ValueError:
        return False


def no_proxy_warning(text: str, netloc: str) -> Explanation | None:
    """
    Return a warning about the entries of NO_PROXY that have no effect on requests to `netloc`, or None.

    Python and botocore read NO_PROXY as a comma-separated list of names. `*` works only if it is the whole value.
    """
    if text in {"", "*"}:
        return None
    found = list(_misread(text, netloc.lower()))
    if not found:
        return None
    shown = "; ".join(f"{_shown(entry)} ({fix})" for entry, fix in found[:MAX_ENTRIES_SHOWN])
    more = f"; and {len(found) - MAX_ENTRIES_SHOWN} more" if len(found) > MAX_ENTRIES_SHOWN else ""
    return Explanation(
        f"NO_PROXY holds entries that are not understood here and have no effect: {shown}{more}",
        fix="Correct or remove these entries",
    )


def _misread(text: str, netloc: str) -> Iterator[tuple[str, str]]:
    for entry in map(str.strip, text.split(",")):
        if entry and entry.lower() != netloc and _HOST.fullmatch(entry) is None:
            yield entry, next(fix for pattern, fix in _FIXES if pattern.search(entry))


_FIXES = tuple(
    (re.compile(pattern), fix)
    for pattern, fix in (
        (r"[\"'\u2018\u2019\u201c\u201d]", "remove the quotes"),
        (r"://", "use the host without a scheme"),
        (r"[\s;|]", "separate entries by commas"),
        (r"/\d+\Z", "address ranges have no effect; list hosts or addresses"),
        (r"/", "use the host without a path"),
        (r"\A\*\Z", "`*` works only as the whole value"),
        (r"\A\*\.[^*]*\Z", "remove the `*`: a name includes all names below it"),
        (r"\*", "`*` works only as the whole value"),
        (r"\A(\[.*\]|[^:]*):\d*\Z", "remove the port"),
        (r"\A[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%.*)?\Z", "put the IPv6 address in brackets"),
        (r"\.\Z", "remove the dot at the end"),
        (r"", "it is not a host name"),
    )
)


def _shown(entry: str) -> str:
    """Return the entry quoted and shortened, without user and password."""
    plain = entry.rpartition("@")[2]
    return repr(plain if len(plain) <= MAX_ENTRY_LENGTH else plain[: MAX_ENTRY_LENGTH - 1] + "…")
