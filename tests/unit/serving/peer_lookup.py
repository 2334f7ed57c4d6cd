"""Provide connections on loopback, and lookups of their clients."""

import itertools
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from sidecar.serving.peer import Peers
from sidecar.serving.proc_net import ProcTables, find_in_proc
from sidecar.serving.sock_diag import (
    Pending,
)

UNUSED_ADDRESS = ("127.77.0.1", 0)
"""A client's address on loopback that no other program on this machine uses."""

RESET_ON_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Connection(NamedTuple):
    client: socket.socket
    accepted: socket.socket


Connect = Callable[..., Connection]


def by_proc() -> Peers:
    """Return a Peers object for a system without netlink."""
    peers = Peers()
    peers._find, peers._tables = find_in_proc, ProcTables()
    return peers


_SECONDS = itertools.count(1000, 1000)


def uid_of(peers: Peers, accepted: socket.socket) -> int | Pending | None:
    """Look up the user. The clock advances between calls, so that each call may read the tables of /proc again."""
    return peers.uid(accepted, next(_SECONDS))


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
