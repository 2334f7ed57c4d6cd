"""
Find the owner of a TCP connection by the kernel's socket diagnostics, through one netlink socket.

See sock_diag(7) and netlink(7). Rule: a lookup never waits. The kernel writes its reply during the system call that
sends the request, so the reply is available at once or never.
"""

import socket
import struct
import sys
from enum import Enum
from typing import NamedTuple

from sidecar.addresses import IPV4_MAPPED

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
"""Constants of linux/netlink.h and linux/sock_diag.h."""

_REQUEST = struct.Struct("=IHHII BBBxI 2s2s16s16s III")
"""Layout of struct nlmsghdr, followed by struct inet_diag_req_v2 with its inet_diag_sockid (linux/inet_diag.h)."""

_REPLY = struct.Struct("=IHHII BB2x 2s2s16s16s I8x 12x II")
"""Layout of struct nlmsghdr, followed by struct inet_diag_msg. Attributes that were not requested may follow."""

_REPLY_BYTES = 512
"""Maximum size of a read. It is larger than the used part of a reply."""

_ANY_COOKIE = 0xFFFF_FFFF


class Owner(NamedTuple):
    """The user of a socket, and its inode, which is never 0."""

    uid: int
    inode: int


class ConnectionKey(NamedTuple):
    """The key of a connection, from the client's side: addresses of 4 or 16 bytes in network order, and ports."""

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int


CONNECTED = frozenset({1, 4, 5})
"""
The states ESTABLISHED, FIN_WAIT1 and FIN_WAIT2 (net/tcp_states.h), in which a client may still receive a response.

After the client has closed its socket, an exact lookup would also find a listener on the client's port.
"""


class Pending(Enum):
    """The type of PENDING, which lets a type checker distinguish it from other results."""

    PENDING = "pending"


PENDING = Pending.PENDING
"""The result of a lookup that is not allowed now. The caller must repeat the lookup later."""


class SockDiag:
    """
    A netlink socket for lookups.

    Raises OSError if the system has no such sockets.
    """

    def __init__(self) -> None:
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)
        try:
            self._socket.settimeout(0)
            self._socket.connect((0, 0))  # address 0 is the kernel, so the socket receives only the kernel's messages
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def find(self, key: ConnectionKey) -> Owner | None:
        """
        Return the owner of the connected socket, or None if there is none.

        Raises OSError if the kernel does not reply.
        """
        self._sequence = (self._sequence + 1) % 2**32
        self._socket.send(request_message(key, self._sequence))
        while True:  # skips the reply to an earlier lookup that failed
            reply = self._socket.recv(_REPLY_BYTES)
            if len(reply) >= 16 and int.from_bytes(reply[8:12], sys.byteorder) == self._sequence:
                return owner_in_reply(reply, key)


def request_message(key: ConnectionKey, sequence: int) -> bytes:
    """Return the message that requests the TCP socket with this key."""
    family = socket.AF_INET if len(key.source) == 4 else socket.AF_INET6
    return _REQUEST.pack(
        *(_REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0),
        *(family, socket.IPPROTO_TCP, 0, 0),
        *(key.source_port.to_bytes(2, "big"), key.destination_port.to_bytes(2, "big")),
        *(key.source, key.destination),
        *(0, _ANY_COOKIE, _ANY_COOKIE),
    )


def owner_in_reply(reply: bytes, key: ConnectionKey) -> Owner | None:
    """
    Return the owner if the reply is about this socket and the socket is still open.

    Return None for an error reply.
    """
    if len(reply) < _REPLY.size:
        return None
    _, kind, _, _, _, family, state, source_port, port, source, destination, _, uid, inode = _REPLY.unpack_from(reply)
    if kind != _SOCK_DIAG_BY_FAMILY or state not in CONNECTED or inode == 0:
        return None
    found = ConnectionKey(
        *(_address(family, source), int.from_bytes(source_port, "big")),
        *(_address(family, destination), int.from_bytes(port, "big")),
    )
    return Owner(uid, inode) if found == key else None


def _address(family: int, field: bytes) -> bytes:
    """
    Return the address in the field, in 4 or 16 bytes.

    An IPv6 socket that speaks IPv4 has mapped addresses in the message, and here the IPv4 address is returned.
    """
    return field[:4] if family == socket.AF_INET else field.removeprefix(IPV4_MAPPED)
