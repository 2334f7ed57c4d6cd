"""
Find the user and the process at the other end of an accepted connection.

Rule: an ambiguous result counts as unknown, and no lookup ever waits. The lookup is for the *client's* socket, by both
of its addresses. On loopback, our own socket exists too, with the two addresses exchanged. The client's socket counts
only while it is connected and open in a process, because the kernel reports user 0 for abandoned sockets.

A later socket on the same port cannot be mistaken for the client, because our end is checked after the lookup. While
our end is connected, no other socket can connect between the same two addresses, because our end receives its packets
and discards them. If our end is no longer connected, the user is unknown.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self

from sidecar.addresses import packed
from sidecar.serving.peer_process import ProcessLookup
from sidecar.serving.sock_diag import ConnectionKey, Owner, Pending, SockDiag

if TYPE_CHECKING:
    from sidecar.serving.proc_net import ProcTables

_SELF_CHECK_SECONDS = 1.0
"""Deadline for a connection from this process to itself. It takes microseconds, unless a filter drops packets on
loopback."""


class Peer(NamedTuple):
    """
    The client of a connection. None means unknown.

    `uid` is the user that created the socket, as a number in our user namespace. A user without a number in it appears
    as the kernel's overflow user, 65534 (user_namespaces(7)). `pid` is the process's number in our /proc.
    """

    uid: int | None
    pid: int | None


Find = Callable[[ConnectionKey], Owner | None]
"""
The type of a function that returns the owner of the connected socket with this key, or None.

Raises OSError if the lookup fails.
"""


class Peers:
    """
    A lookup of the clients of accepted connections, by the first method that works on this system.

    The methods are NETLINK_SOCK_DIAG, and /proc/net/tcp for a sandbox or seccomp profile without netlink. Each method
    is tested with a connection from this process to itself. The object is a context manager; after its block, all
    clients are unknown.
    """

    def __init__(self) -> None:
        self._find: Find | None = None
        self._netlink: SockDiag | None = None
        self._tables: ProcTables | None = None
        self._processes = ProcessLookup()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._find = lookup_unavailable
        if self._netlink is not None:
            self._netlink.close()

    @property
    def can_look_up(self) -> bool:
        """True if this machine can look up the user of a client's process."""
        self._open()
        return self._find is not lookup_unavailable

    def uid(self, sock: socket.SocketType, monotonic: float) -> int | Pending | None:
        """
        Return the user at the other end of this accepted socket, or None if it is unknown.

        PENDING means that the caller must repeat the call after `pause_seconds`.
        """
        owner = self._owner(sock, monotonic, is_denial=False)
        return owner.uid if isinstance(owner, Owner) else owner

    def pause_seconds(self, monotonic: float) -> float:
        """Return how long a connection whose user is PENDING must wait."""
        return 0.0 if self._tables is None else self._tables.pause_seconds(monotonic)

    def peer(self, sock: socket.SocketType, monotonic: float, *, is_denial: bool = False) -> Peer:
        """
        Return the user, and the process if this second's budget allows, for a log line.

        Lines of denied requests have a budget of their own, so that denied clients cannot use up the budget of the
        others.
        """
        owner = self._owner(sock, monotonic, is_denial=is_denial)
        if not isinstance(owner, Owner):
            return Peer(None, None)
        return Peer(owner.uid, self._processes.find(owner, int(monotonic), is_denial=is_denial))

    def _owner(self, sock: socket.SocketType, monotonic: float, *, is_denial: bool) -> Owner | Pending | None:
        find = self._find or lookup_unavailable
        try:
            key = connection_key(sock)
            if self._tables is None or find is lookup_unavailable:
                owner: Owner | Pending | None = find(key)
            else:
                owner = self._tables.find(sock, key, monotonic, is_denial=is_denial)
            sock.getpeername()  # fails if our end is no longer connected
        except (OSError, ValueError):  # a table in /proc that does not have Linux's format
            return None
        return owner

    def _open(self) -> None:
        """Choose the method once, at the start, because later there may be no free file descriptor."""
        if self._find is None:
            self._find = next((find for find in self._methods() if _finds_ourselves(find)), lookup_unavailable)

    def _methods(self) -> Iterator[Find]:
        if not sys.platform.startswith("linux"):
            return
        with suppress(OSError):
            self._netlink = SockDiag()
            yield self._netlink.find
        from sidecar.serving.proc_net import ProcTables, find_in_proc  # noqa: PLC0415  only for systems without netlink

        self._tables = ProcTables()
        yield find_in_proc


def lookup_unavailable(_key: ConnectionKey) -> None:
    """Return None, on a system where no method works."""


def connection_key(sock: socket.SocketType) -> ConnectionKey:
    """
    Return the key of the client's side of this accepted socket.

    Raises OSError if the socket is no longer connected, or an address is link-local.
    """
    (host, port), (our_host, our_port) = sock.getpeername()[:2], sock.getsockname()[:2]
    source, destination = packed(host), packed(our_host)
    if source is None or destination is None:  # a link-local address, which includes the name of an interface
        raise OSError(f"no plain address: {host}, {our_host}")
    return ConnectionKey(source, port, destination, our_port)


def _finds_ourselves(find: Find) -> bool:
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with suppress(OSError), socket.socket(family) as listener, socket.socket(family) as client:
            listener.bind((host, 0))
            listener.listen(1)
            for sock in (listener, client):
                sock.settimeout(_SELF_CHECK_SECONDS)
            client.connect(listener.getsockname())
            with listener.accept()[0] as accepted:
                return find(connection_key(accepted)) == Owner(os.geteuid(), os.fstat(client.fileno()).st_ino)
    return False
