"""
Listening sockets, opened before anything heavy is imported.

Rule: this file imports `socket` and nothing dearer, so that the port is there within milliseconds of exec and
early requests wait in the kernel's queue instead of being refused. An address is the `(host, port)` pair that
`socket` itself uses; a host is always an IP literal, because a name would need a resolver and may move.
"""

import errno
import socket
from contextlib import suppress

from sidecar.errors import ConfigurationError

BACKLOG = 1024
"""Connections the kernel keeps until they are accepted; it cuts this to `net.core.somaxconn` (4096 by default)."""

_OTHER_FAMILY = {"127.0.0.1": "::1", "::1": "127.0.0.1", "0.0.0.0": "::", "::": "0.0.0.0"}  # noqa: S104  a table, not a bind
"""The same place in the other family. `localhost` and clients' resolvers pick either one."""

WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  a table, not a bind
"""Every interface of the machine."""

_HOST_WORDS = {"": "0.0.0.0", "localhost": "127.0.0.1"}  # noqa: S104  what `:4773` has always meant

_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
"""What a kernel without IPv6 (or without IPv4 on its loopback) says."""

LOOPBACK_HOPS = 1
"""
How far what a loopback listener says may travel: no router passes it on, should a node's NAT or a badly set
`route_localnet` ever let the outside in. The metadata service of EC2 (IMDSv2) answers with the same limit.
"""

RECEIVE_BUFFER_BYTES = 16 * 1024
"""
Receive buffer of each accepted connection: one request head. The kernel doubles it for its own bookkeeping (tcp(7)).

The kernel charges these buffers to the container's memory. Without this limit a client fills several MiB for each
connection.
"""

_HOP_LIMIT = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}

IPV4_MAPPED = b"\0" * 10 + b"\xff\xff"
_IPV6_LOOPBACK = b"\0" * 15 + b"\1"

_FREE_PORT_TRIES = 8
"""A port that is free in one family may be taken in the other; then the kernel is asked for another one."""

_MAX_PORT = 65535


def parse_address(setting: str, text: str) -> tuple[str, int]:
    """
    Read `host:port` as `(host, port)`: `127.0.0.1:4772`, `[::1]:0`, `localhost:4772`, `:4773` (every interface).

    `setting` is the name a person knows it by. Port 0 asks the kernel for a free one. Raises ConfigurationError.
    """
    host, colon, port = text.strip().rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= _MAX_PORT):
        raise ConfigurationError(
            f"{setting} is {text!r}, which is no HOST:PORT with a port of 0 to {_MAX_PORT}: "
            "write for example 127.0.0.1:4772 or [::1]:4772."
        )
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    literal = _HOST_WORDS.get(bare.lower(), bare)
    if packed(literal) is None or (":" in literal) != (bare != host):
        raise ConfigurationError(
            f"{setting} is {text!r}, whose host is no IP address: "
            "write for example 127.0.0.1:4772, [::1]:4772 or localhost:4772."
        )
    return literal, int(port)


def format_address(host: str, port: int) -> str:
    """The address as a URL has it, an IPv6 one in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8 and `::1` (RFC 1122 3.2.1.3, RFC 4291 2.5.3), also in the form `::ffff:127.0.0.1`."""
    address = packed(host) or b""
    return address == _IPV6_LOOPBACK or (len(address) == 4 and address[0] == 127)


def packed(host: str) -> bytes | None:
    """
    The address in network bytes, or None for what is no IP literal. (`ipaddress` would cost 3 ms to import.)

    4 bytes, or 16; `::ffff:127.0.0.1` is IPv4 in another spelling (RFC 4291 2.5.5.2), and so are its bytes.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, host).removeprefix(IPV4_MAPPED)
        except (OSError, ValueError):
            continue
    return None


def is_address(host: str) -> bool:
    """True for an IP literal as a URL has it, an IPv6 one in brackets."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return packed(bare) is not None and (":" in bare) is (bare != host)


def listen(setting: str, address: tuple[str, int], backlog: int = BACKLOG) -> list[socket.socket]:
    """
    Open non-blocking listeners on the address and, for a loopback or wildcard host, on the other family's as well.

    Both get the same port, and connections to a loopback one a hop limit of LOOPBACK_HOPS. A family that this machine
    lacks is passed over as long as the other is there; a port in use is an error in either. Raises ConfigurationError
    naming the setting, the address and the next step.
    """
    listeners = bind(setting, address)
    start_listening(setting, listeners, backlog)
    return listeners


def bind(setting: str, address: tuple[str, int]) -> list[socket.socket]:
    """As `listen`, but connections are refused until `start_listening`."""
    host, port = address
    hosts = [host, _OTHER_FAMILY[host]] if host in _OTHER_FAMILY else [host]
    tries = _FREE_PORT_TRIES if port == 0 else 1
    while True:
        try:
            return _bind_all(hosts, port)
        except OSError as error:
            tries -= 1
            if tries == 0 or error.errno != errno.EADDRINUSE:
                raise ConfigurationError(_failure(setting, host, port, error)) from error


def start_listening(setting: str, listeners: list[socket.socket], backlog: int = BACKLOG) -> None:
    """Accept connections on bound sockets. Raises ConfigurationError if another process listens there meanwhile."""
    for listener in listeners:
        try:
            listener.listen(backlog)
        except OSError as error:
            host, port = listener.getsockname()[:2]
            for each in listeners:
                each.close()
            raise ConfigurationError(_failure(setting, host, port, error)) from error


def _bind_all(hosts: list[str], port: int) -> list[socket.socket]:
    """One socket for each host that this machine has; OSError for anything worse, with nothing left open."""
    listeners: list[socket.socket] = []
    absent: OSError | None = None
    for host in hosts:
        try:
            listeners.append(_bind(host, port))
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                for listener in listeners:
                    listener.close()
                raise
            absent = error
        else:
            port = listeners[0].getsockname()[1]
    if absent is not None and not listeners:
        raise absent
    return listeners


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it a restart would wait for the last connections' TIME_WAIT; two listeners stay impossible.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Each family has its own listener, whatever the machine's bindv6only says.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_loopback(host):
            _keep_near(listener)
        # Connections inherit it. It must be set before listen, because the window scale is fixed in the handshake.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listener.bind((host, port))
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


def _keep_near(listener: socket.socket) -> None:
    """Its connections inherit the limit, their first packet included. A sandbox without such limits serves as well."""
    with suppress(OSError):
        listener.setsockopt(*_HOP_LIMIT[listener.family], LOOPBACK_HOPS)


_NEXT_STEPS = {
    errno.EADDRINUSE: (
        "something else listens there, and all containers of a Pod share its ports: "
        "`ss -ltnp 'sport = :{port}'` shows which process. Stop it or choose another port."
    ),
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port.",
    errno.EADDRNOTAVAIL: "no interface here has this address: use 127.0.0.1 or [::1].",
    errno.EAFNOSUPPORT: "this machine lacks that address family: use the other of 127.0.0.1 and [::1].",
}


def _failure(setting: str, host: str, port: int, error: OSError) -> str:
    next_step = _NEXT_STEPS.get(error.errno or 0, "choose another address.").format(port=port)
    return f"{setting}: cannot listen on {format_address(host, port)} ({error.strerror or error}): {next_step}"
