"""
Parse and classify addresses: `HOST:PORT` as people write it, IP literals, loopback. Pure.

Rule: an address is the `(host, port)` pair that `socket` itself uses. A host to listen on is always an IP literal,
because a host name would need a resolver, and its address may change. The module must import fast, because the daemon
imports it before it listens (serving/early_listener.py). It therefore uses neither `ipaddress` nor `socket`.
"""

from _socket import AF_INET, AF_INET6, inet_pton

from sidecar.errors import ConfigurationError

Address = tuple[str, int]
"""The type of an address: the host as an IP literal, and the port."""

OTHER_FAMILY = {"127.0.0.1": "::1", "::1": "127.0.0.1", "0.0.0.0": "::", "::": "0.0.0.0"}  # noqa: S104  a table, not a bind
"""The same address in the other family. Clients that resolve `localhost` may use either address."""

WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  a table, not a bind
"""The addresses that mean every interface of the machine."""

_HOST_WORDS = {"": "0.0.0.0", "localhost": "127.0.0.1"}  # noqa: S104  what `:4773` has always meant

IPV4_MAPPED = b"\0" * 10 + b"\xff\xff"
_IPV6_LOOPBACK = b"\0" * 15 + b"\1"

_MAX_PORT = 65535


def parse_address(setting: str, text: str) -> tuple[str, int]:
    """
    Parse an address such as `127.0.0.1:4772`, `[::1]:0`, `localhost:4772` or `:4773` (every interface).

    `setting` is the name of the setting in messages. Port 0 means that the kernel chooses a free port.

    Raises ConfigurationError if the text has another form.
    """
    host, colon, port = text.strip().rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= _MAX_PORT):
        raise ConfigurationError(
            f"{setting} is {text!r}, which is not HOST:PORT with a port from 0 to {_MAX_PORT}",
            fix="Use an address such as 127.0.0.1:4772 or [::1]:4772",
            setting=setting,
        )
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    literal = _HOST_WORDS.get(bare.lower(), bare)
    if packed(literal) is None or (":" in literal) != (bare != host):
        raise ConfigurationError(
            f"{setting} is {text!r}, whose host is not an IP address",
            fix="Use an address such as 127.0.0.1:4772, [::1]:4772 or localhost:4772",
            setting=setting,
        )
    return literal, int(port)


def format_address(host: str, port: int) -> str:
    """Return the address as in a URL, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """
    Return whether the IP literal is in 127.0.0.0/8 or is `::1` (RFC 1122 3.2.1.3, RFC 4291 2.5.3).

    `::ffff:127.0.0.1` is a loopback address too.
    """
    address = packed(host) or b""
    return address == _IPV6_LOOPBACK or (len(address) == 4 and address[0] == 127)


def is_loopback_host(host: str) -> bool:
    """Return whether a URL's host is on this machine: a loopback address, or `localhost` (RFC 6761, section 6.3)."""
    return host == "localhost" or is_loopback(host)


def packed(host: str) -> bytes | None:
    """
    Return the 4 or 16 bytes of the address, or None if it is not an IP literal.

    `::ffff:127.0.0.1` is another spelling of an IPv4 address (RFC 4291 2.5.5.2), so it has 4 bytes.
    """
    for family in (AF_INET, AF_INET6):
        try:
            return inet_pton(family, host).removeprefix(IPV4_MAPPED)
        except (OSError, ValueError):
            continue
    return None


def is_address(host: str) -> bool:
    """Return whether a URL's host is an IP literal. In a URL, an IPv6 address is in brackets."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return packed(bare) is not None and (":" in bare) is (bare != host)
