"""
Open listening sockets, before anything heavy is imported.

Rule: this module must import fast, so that the port is open within milliseconds after exec (early_listener.py). Early
requests then wait in the kernel's queue, and the kernel does not refuse them. The module therefore uses `_socket`, the
C part of `socket`, whose Python part takes longer than all other steps until the port is open.
"""

import _socket
import errno
from contextlib import suppress

from sidecar.addresses import OTHER_FAMILY, format_address, is_loopback
from sidecar.errors import ConfigurationError

TYPE_CHECKING = False  # `typing` takes as long to import as all other modules until the port is open
if TYPE_CHECKING:
    import socket

Listener = _socket.socket
"""The class of a listening socket before `as_sockets`."""

DEFAULT_ADDRESS = "127.0.0.1:4772"
"""The default address of the credentials endpoint."""

BACKLOG = 1024
"""Maximum length of the kernel's queue of connections, which `net.core.somaxconn` limits too (4096 by default)."""

_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
"""Errors of a kernel without IPv6, or without IPv4 on its loopback interface."""

LOOPBACK_HOPS = 1
"""
Hop limit of the packets that a loopback listener sends, so that no router forwards them.

The limit protects the listener if a node's NAT or a wrong `route_localnet` admits outside clients. EC2's metadata
service (IMDSv2) has the same limit.
"""

RECEIVE_BUFFER_BYTES = 16 * 1024
"""
Size of each connection's receive buffer, enough for one request head. The kernel doubles it for overhead (tcp(7)).

The kernel charges these buffers to the container's memory. Without this limit a client can use several MiB for each
connection.
"""

_HOP_LIMIT = {
    _socket.AF_INET: (_socket.IPPROTO_IP, _socket.IP_TTL),
    _socket.AF_INET6: (_socket.IPPROTO_IPV6, _socket.IPV6_UNICAST_HOPS),
}

_FREE_PORT_TRIES = 8
"""Maximum number of tries to find a free port. A port that is free in one address family may be in use in the other."""


def listen(setting: str, address: tuple[str, int], backlog: int = BACKLOG) -> "list[socket.socket]":
    """
    Open non-blocking listeners on the address. For a loopback or wildcard host, do so in both address families.

    Both listeners get the same port. Connections to a loopback listener get the hop limit LOOPBACK_HOPS. A family that
    this machine lacks is skipped. A port in use is an error in either family.

    Raises ConfigurationError with the setting, the address and the fix if a socket cannot be opened.
    """
    listeners = bind(setting, address)
    start_listening(setting, listeners, backlog)
    return as_sockets(listeners)


def as_sockets(listeners: list[Listener]) -> "list[socket.socket]":
    """Return the listeners as objects of the standard library's class, which own the descriptors from now on."""
    from socket import socket  # noqa: PLC0415  not before the daemon listens

    sockets = [socket(each.family, each.type, each.proto, each.detach()) for each in listeners]
    for each in sockets:
        each.settimeout(0)
    return sockets


def bind(setting: str, address: tuple[str, int]) -> list[Listener]:
    """
    Bind the sockets for `listen`. The kernel refuses connections until `start_listening`.

    Raises ConfigurationError if a socket cannot be bound.
    """
    host, port = address
    hosts = [host, OTHER_FAMILY[host]] if host in OTHER_FAMILY else [host]
    tries = _FREE_PORT_TRIES if port == 0 else 1
    while True:
        try:
            return _bind_all(hosts, port)
        except OSError as error:
            tries -= 1
            if tries == 0 or error.errno != errno.EADDRINUSE:
                raise ConfigurationError(_failure(setting, host, port, error)) from error


def start_listening(setting: str, listeners: list[Listener], backlog: int = BACKLOG) -> None:
    """
    Let the kernel accept connections on these bound sockets.

    Raises ConfigurationError if another process now listens on the port. All sockets are then closed.
    """
    for listener in listeners:
        try:
            listener.listen(backlog)
        except OSError as error:
            host, port = listener.getsockname()[:2]
            for each in listeners:
                each.close()
            raise ConfigurationError(_failure(setting, host, port, error)) from error


def _bind_all(hosts: list[str], port: int) -> list[Listener]:
    """Bind one socket for each host whose family exists here. On any other OSError, close all sockets and raise it."""
    listeners: list[Listener] = []
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


def _bind(host: str, port: int) -> Listener:
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    listener = Listener(family, _socket.SOCK_STREAM)
    try:
        # Without SO_REUSEADDR, a restart would wait for the TIME_WAIT of the last connections. A second listener
        # remains impossible.
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            # Each family has its own listener, whatever the machine's bindv6only is.
            listener.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if is_loopback(host):
            _keep_near(listener)
        # Connections inherit the buffer size. It must be set before listen, because the handshake fixes the window
        # scale.
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listener.bind((host, port))
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


def _keep_near(listener: Listener) -> None:
    """Set the hop limit, which connections inherit for all packets. Ignore a sandbox that has no such limit."""
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
