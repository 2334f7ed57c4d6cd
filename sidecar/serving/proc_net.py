"""
Find the owner of a TCP connection in /proc/net/tcp and tcp6, for systems without socket diagnostics.

See proc_pid_net(5). Rule: these reads take at most a tenth of a processor, and another tenth for denied requests,
whatever the number of clients is. The kernel generates a table for each reader, which takes 18 ms per MiB, so one read
serves every connection that was accepted before it. A connection that arrives while no read is allowed waits for the
next read. Lookups for the log lines of denied requests have a budget of their own, so that denied clients cannot use up
the reads of the others.
"""

import socket
import struct
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from sidecar.addresses import IPV4_MAPPED
from sidecar.serving.sock_diag import CONNECTED, PENDING, ConnectionKey, Owner, Pending

MAX_TABLE_BYTES = 1024 * 1024
"""Maximum number of bytes that are read of each table, enough for 7000 sockets. Sockets after that stay unknown."""

SECONDS_PER_MEBIBYTE = 0.18
"""Pause after a read, per MiB: ten times as long as the kernel takes to generate that much."""

MIN_PAUSE_SECONDS = 0.002
"""Minimum pause after a read, for small tables."""


class ProcTables:
    """
    The content of the two tables at the last read, and the monotonic time of the next read.

    `is_denial` is True if a lookup is only for the log line of a denied request.
    """

    def __init__(self) -> None:
        self._tables: dict[str, bytes] = {}
        self._reads = 0
        self._first_lookups: WeakKeyDictionary[socket.SocketType, int] = WeakKeyDictionary()
        self._next_read_at = {False: float("-inf"), True: float("-inf")}

    def find(
        self, sock: socket.SocketType, key: ConnectionKey, monotonic: float, *, is_denial: bool = False
    ) -> Owner | Pending | None:
        """Return the owner of the client's socket, None if the tables do not show one, or PENDING."""
        before = self._first_lookups.setdefault(sock, self._reads)
        if monotonic >= self._next_read_at[is_denial]:
            self._read(monotonic, is_denial=is_denial)
        elif self._reads == before:
            return PENDING
        return owner_in_tables(self._tables, key)

    def pause_seconds(self, monotonic: float) -> float:
        """Return how long a connection that is PENDING must wait."""
        return max(0.0, self._next_read_at[False] - monotonic)

    def _read(self, monotonic: float, *, is_denial: bool) -> None:
        self._tables = read_tables()
        self._reads += 1
        mebibytes = sum(map(len, self._tables.values())) / (1024 * 1024)
        self._next_read_at[is_denial] = monotonic + max(MIN_PAUSE_SECONDS, SECONDS_PER_MEBIBYTE * mebibytes)


PATHS = ("/proc/net/tcp", "/proc/net/tcp6")


def read_tables() -> dict[str, bytes]:
    """Read both tables, by path. The content of an unreadable table is empty."""
    return {path: _table(path) for path in PATHS}


def find_in_proc(key: ConnectionKey) -> Owner | None:
    """
    Return the owner from newly read tables, or None as in `owner_in_tables`.

    The number of reads has no limit, because only the self-check at the start calls this function.
    """
    return owner_in_tables(read_tables(), key)


def owner_in_tables(tables: dict[str, bytes], key: ConnectionKey) -> Owner | None:
    """Return the owner in the tables, or None if there is none or more than one."""
    found = {owner for path, wanted in _wanted_lines(key) for owner in owners_in(tables[path], wanted)}
    return found.pop() if len(found) == 1 else None


def owners_in(table: bytes, wanted: bytes) -> Iterator[Owner]:
    """Yield the owners of the connected sockets whose two addresses are written as `wanted`."""
    at = table.find(wanted)
    while at >= 0:
        end = table.index(b"\n", at)
        _, _, state, _, _, _, uid, _, inode, *_ = table[at:end].split()
        if int(state, 16) in CONNECTED and int(inode) != 0:
            yield Owner(int(uid), int(inode))
        at = table.find(wanted, end)


def _table(path: str) -> bytes:
    """Return the complete lines of a table, because a truncated line could end with a part of a number."""
    try:
        with open(path, "rb") as file:
            whole, line_end, _ = file.read(MAX_TABLE_BYTES).rpartition(b"\n")
    except OSError:  # no IPv6 here, or no /proc
        return b""
    return whole + line_end


def _wanted_lines(key: ConnectionKey) -> Iterator[tuple[str, bytes]]:
    """Yield each table that may contain the socket, with the form of the two addresses in that table."""
    if len(key.source) == 4:
        yield "/proc/net/tcp", _formatted(key)
        key = key._replace(source=IPV4_MAPPED + key.source, destination=IPV4_MAPPED + key.destination)
    yield "/proc/net/tcp6", _formatted(key)


def _formatted(key: ConnectionKey) -> bytes:
    return f" {_hex(key.source)}:{key.source_port:04X} {_hex(key.destination)}:{key.destination_port:04X} ".encode()


def _hex(address: bytes) -> str:
    """Return the address in hexadecimal words of four bytes, in this machine's byte order."""
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(address) // 4}I", address))
