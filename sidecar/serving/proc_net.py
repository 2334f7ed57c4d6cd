"""
The owner of a TCP connection by /proc/net/tcp and tcp6 (proc_pid_net(5)), for systems without socket diagnostics.

Rule: no number of clients makes reading these tables take more than a tenth of a processor. The kernel writes a table
anew for each reader, which takes 18 ms per MiB, so one reading serves every connection that was accepted before it. A
connection that comes while no reading is allowed waits for the next one. Lookups for the log lines of denied requests
have a budget of their own, so that denied clients cannot use up the others' readings.
"""

import socket
import struct
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from sidecar.addresses import IPV4_MAPPED
from sidecar.serving.peer import CONNECTED, Ends, Owner
from sidecar.serving.pending import PENDING, Pending

MAX_TABLE_BYTES = 1024 * 1024
"""Of each table, this much is read: 7000 sockets. Sockets on a line that is cut off, or after it, stay unknown."""

SECONDS_PER_MEBIBYTE = 0.18
"""Pause after a reading, by what was read: ten times as long as the kernel takes for it."""

LEAST_PAUSE_SECONDS = 0.002
"""Pause after a reading of small tables."""


class ProcTables:
    """
    The two tables as they were read last, and when they may be read again, by the caller's monotonic clock.

    `is_denial` says that a lookup is only for the log line of a denied request.
    """

    def __init__(self) -> None:
        self._tables: dict[str, bytes] = {}
        self._readings = 0
        self._first_asked: WeakKeyDictionary[socket.socket, int] = WeakKeyDictionary()
        self._next_read_at = {False: float("-inf"), True: float("-inf")}

    def find(
        self, sock: socket.socket, ends: Ends, monotonic: float, *, is_denial: bool = False
    ) -> Owner | Pending | None:
        """Return the owner of the client's socket, None if the tables do not show one, or PENDING."""
        before = self._first_asked.setdefault(sock, self._readings)
        if monotonic >= self._next_read_at[is_denial]:
            self._read(monotonic, is_denial=is_denial)
        elif self._readings == before:
            return PENDING
        return owner_in_tables(self._tables, ends)

    def pause_seconds(self, monotonic: float) -> float:
        """Return for how long a connection that is PENDING has to wait."""
        return max(0.0, self._next_read_at[False] - monotonic)

    def _read(self, monotonic: float, *, is_denial: bool) -> None:
        self._tables = read_tables()
        self._readings += 1
        mebibytes = sum(map(len, self._tables.values())) / (1024 * 1024)
        self._next_read_at[is_denial] = monotonic + max(LEAST_PAUSE_SECONDS, SECONDS_PER_MEBIBYTE * mebibytes)


PATHS = ("/proc/net/tcp", "/proc/net/tcp6")


def read_tables() -> dict[str, bytes]:
    """Read both tables, by path. A table that cannot be read is empty."""
    return {path: _table(path) for path in PATHS}


def find_in_proc(ends: Ends) -> Owner | None:
    """Read the tables, whatever that costs, and return the owner. For the self-check at start."""
    return owner_in_tables(read_tables(), ends)


def owner_in_tables(tables: dict[str, bytes], ends: Ends) -> Owner | None:
    """Return the one owner that the tables show for these ends."""
    found = {owner for path, wanted in _wanted_lines(ends) for owner in owners_in(tables[path], wanted)}
    return found.pop() if len(found) == 1 else None


def owners_in(table: bytes, wanted: bytes) -> Iterator[Owner]:
    """The owners of the connected sockets whose two ends are spelled as `wanted`."""
    at = table.find(wanted)
    while at >= 0:
        end = table.index(b"\n", at)
        _, _, state, _, _, _, uid, _, inode, *_ = table[at:end].split()
        if int(state, 16) in CONNECTED and int(inode) != 0:
            yield Owner(int(uid), int(inode))
        at = table.find(wanted, end)


def _table(path: str) -> bytes:
    """Whole lines only: the start of a number is another number."""
    try:
        with open(path, "rb") as file:
            whole, line_end, _ = file.read(MAX_TABLE_BYTES).rpartition(b"\n")
    except OSError:  # no IPv6 here, or no /proc
        return b""
    return whole + line_end


def _wanted_lines(ends: Ends) -> Iterator[tuple[str, bytes]]:
    """Where the socket may stand, and how its ends are spelled there."""
    if len(ends.source) == 4:
        yield "/proc/net/tcp", _spelled(ends)
        ends = ends._replace(source=IPV4_MAPPED + ends.source, destination=IPV4_MAPPED + ends.destination)
    yield "/proc/net/tcp6", _spelled(ends)


def _spelled(ends: Ends) -> bytes:
    return f" {_hex(ends.source)}:{ends.source_port:04X} {_hex(ends.destination)}:{ends.destination_port:04X} ".encode()


def _hex(address: bytes) -> str:
    """Words of four bytes, each printed as a number of this machine's byte order."""
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(address) // 4}I", address))
