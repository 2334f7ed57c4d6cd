"""
Who is at the other end of a connection: the user as the kernel has it, and the process where that can be seen.

Rule: what is not plainly said is not known, and no answer is ever waited for. What is looked up is the *client's*
socket, by both its ends; on loopback our own exists beside it with the ends turned round. It counts only while it is
connected and somebody holds it, since of sockets that were left behind the kernel says user 0.

That it is this connection's client, and not a later socket on the same port, follows from looking at our end
afterwards: while that is connected, no other socket comes to be connected between the same two ends, because whatever
it sends there reaches ours, which takes it for nonsense. If ours is no longer connected, nothing is said.
"""

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Self

from sidecar.addresses import IPV4_MAPPED, packed

if TYPE_CHECKING:
    from sidecar.serving.pending import Pending
    from sidecar.serving.proc_net import ProcTables

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
"""linux/netlink.h and linux/sock_diag.h."""

_QUESTION = struct.Struct("=IHHII BBBxI 2s2s16s16s III")
"""struct nlmsghdr, then struct inet_diag_req_v2 with its inet_diag_sockid (linux/inet_diag.h)."""

_REPLY = struct.Struct("=IHHII BB2x 2s2s16s16s I8x 12x II")
"""struct nlmsghdr, then struct inet_diag_msg; attributes that nobody asked for may follow."""

_REPLY_BYTES = 512
"""More than is read of one."""

_ANY_COOKIE = 0xFFFF_FFFF

MAX_LISTED = 1024
"""Entries of /proc that are taken in, to begin with the newest of these processes."""

LOOKS_A_SECOND, DENIAL_LOOKS_A_SECOND = 512, 128
"""At processes and at their open files: 2.5 ms in all, however many clients are looked for."""

_SELF_CHECK_SECONDS = 1.0
"""A connection to ourselves takes microseconds, unless something drops what is sent on loopback."""


class Asker(NamedTuple):
    """
    Who asked. None is what could not be found out.

    `uid` is of the user that made the socket, as our user namespace numbers it; one that has no number there is the
    kernel's overflow user, 65534 (user_namespaces(7)). `pid` is as our /proc has it.
    """

    uid: int | None
    pid: int | None


class Owner(NamedTuple):
    """Whose socket it is, and its inode, which is never 0."""

    uid: int
    inode: int


class Ends(NamedTuple):
    """A connection as its client has it: addresses of 4 or 16 bytes in network order, and ports."""

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int


CONNECTED = frozenset({1, 4, 5})
"""
ESTABLISHED, FIN_WAIT1 and FIN_WAIT2 (net/tcp_states.h): a client that may still receive a response.

An exact query also finds a listener on the client's port after the client itself is gone.
"""


Find = Callable[[Ends], Owner | None]
"""Returns the owner of the connected socket with these ends, None if there is none. Raises OSError."""


class Peers:
    """
    Tells who is at the other end of accepted connections, by the first way that this system offers.

    NETLINK_SOCK_DIAG; where a sandbox or a seccomp profile has none, /proc/net/tcp. Each is first tried on a
    connection to ourselves. Before its block is entered and after that is left, nobody is known.
    """

    def __init__(self) -> None:
        self._find: Find | None = None
        self._netlink: SockDiag | None = None
        self._tables: ProcTables | None = None
        self._second, self._looks = -1, dict.fromkeys((False, True), 0)
        self._last_found: int | None = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._find = nobody
        if self._netlink is not None:
            self._netlink.close()

    @property
    def can_tell(self) -> bool:
        """Whether the user of a client on this machine is ever known."""
        self._open()
        return self._find is not nobody

    def uid(self, sock: socket.socket, monotonic: float) -> "int | Pending | None":
        """
        Return the user at the other end of this accepted socket, None if it is unknown.

        PENDING means that the caller has to ask again after `pause_seconds`.
        """
        owner = self._owner(sock, monotonic, is_denial=False)
        return owner.uid if isinstance(owner, Owner) else owner

    def pause_seconds(self, monotonic: float) -> float:
        """Return for how long a connection whose user is PENDING has to wait."""
        return 0.0 if self._tables is None else self._tables.pause_seconds(monotonic)

    def asker(self, sock: socket.socket, monotonic: float, *, is_denial: bool = False) -> Asker:
        """
        Return the user and the process for a log line, as far as the budget of this second allows.

        Lines of denied requests have a budget of their own, so that denied clients cannot use up the others'.
        """
        owner = self._owner(sock, monotonic, is_denial=is_denial)
        if not isinstance(owner, Owner):
            return Asker(None, None)
        return Asker(owner.uid, self._process(owner, int(monotonic), is_denial=is_denial))

    def _owner(self, sock: socket.socket, monotonic: float, *, is_denial: bool) -> "Owner | Pending | None":
        find = self._find or nobody
        try:
            ends = ends_of(sock)
            if self._tables is None or find is nobody:
                owner: Owner | Pending | None = find(ends)
            else:
                owner = self._tables.find(sock, ends, monotonic, is_denial=is_denial)
            sock.getpeername()  # fails if our end is no longer connected
        except (OSError, ValueError):  # a table in /proc that is not Linux's own
            return None
        return owner

    def _process(self, owner: Owner, second: int, *, is_denial: bool) -> int | None:
        if second != self._second:
            self._second, self._looks = second, {False: LOOKS_A_SECOND, True: DENIAL_LOOKS_A_SECOND}
        wanted = f"socket:[{owner.inode}]"
        for pid, link in islice(open_files(owner.uid, self._last_found), self._looks[is_denial]):
            self._looks[is_denial] -= 1
            if link == wanted:
                self._last_found = pid
                return pid
        return None

    def _open(self) -> None:
        """Once, at the start: later there may be no descriptor left for it."""
        if self._find is None:
            self._find = next((find for find in self._ways() if _knows_ourselves(find)), nobody)

    def _ways(self) -> Iterator[Find]:
        if not sys.platform.startswith("linux"):
            return
        with suppress(OSError):
            self._netlink = SockDiag()
            yield self._netlink.find
        from sidecar.serving.proc_net import ProcTables, find_in_proc  # noqa: PLC0415  for systems without netlink

        self._tables = ProcTables()
        yield find_in_proc


def nobody(_ends: Ends) -> None:
    """Where no way to find somebody is."""


def ends_of(sock: socket.socket) -> Ends:
    """The ends as the client of this accepted socket has them. Raises OSError when it is no longer connected."""
    (host, port), (our_host, our_port) = sock.getpeername()[:2], sock.getsockname()[:2]
    source, destination = packed(host), packed(our_host)
    if source is None or destination is None:  # link-local, with its interface's name in it
        raise OSError(f"no plain address: {host}, {our_host}")
    return Ends(source, port, destination, our_port)


def _knows_ourselves(find: Find) -> bool:
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with suppress(OSError), socket.socket(family) as listener, socket.socket(family) as client:
            listener.bind((host, 0))
            listener.listen(1)
            for sock in (listener, client):
                sock.settimeout(_SELF_CHECK_SECONDS)
            client.connect(listener.getsockname())
            with listener.accept()[0] as accepted:
                return find(ends_of(accepted)) == Owner(os.geteuid(), os.fstat(client.fileno()).st_ino)
    return False


class SockDiag:
    """
    The kernel's own table of sockets, asked through one netlink socket (sock_diag(7), netlink(7)).

    Its answer is made within the system call that asks, so it is there at once or never comes. Raises OSError where
    there is no such socket.
    """

    def __init__(self) -> None:
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)
        try:
            self._socket.settimeout(0)
            self._socket.connect((0, 0))  # the kernel: from then on it takes messages of nobody else
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def find(self, ends: Ends) -> Owner | None:
        self._sequence = (self._sequence + 1) % 2**32
        self._socket.send(question(ends, self._sequence))
        while True:  # a reply left behind by a question that failed is passed over
            reply = self._socket.recv(_REPLY_BYTES)
            if len(reply) >= 16 and int.from_bytes(reply[8:12], sys.byteorder) == self._sequence:
                return owner_in(reply, ends)


def question(ends: Ends, sequence: int) -> bytes:
    """Ask for the one TCP socket with these ends."""
    family = socket.AF_INET if len(ends.source) == 4 else socket.AF_INET6
    return _QUESTION.pack(
        *(_QUESTION.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0),
        *(family, socket.IPPROTO_TCP, 0, 0),
        *(ends.source_port.to_bytes(2, "big"), ends.destination_port.to_bytes(2, "big")),
        *(ends.source, ends.destination),
        *(0, _ANY_COOKIE, _ANY_COOKIE),
    )


def owner_in(reply: bytes, ends: Ends) -> Owner | None:
    """The owner, if this is the socket that was asked for and its client holds it; an error is no reply."""
    if len(reply) < _REPLY.size:
        return None
    _, kind, _, _, _, family, state, source_port, port, source, destination, _, uid, inode = _REPLY.unpack_from(reply)
    if kind != _SOCK_DIAG_BY_FAMILY or state not in CONNECTED or inode == 0:
        return None
    found = Ends(
        *(_address(family, source), int.from_bytes(source_port, "big")),
        *(_address(family, destination), int.from_bytes(port, "big")),
    )
    return Owner(uid, inode) if found == ends else None


def _address(family: int, field: bytes) -> bytes:
    """An IPv6 socket that talks IPv4 has mapped addresses, and is in the table of IPv4 all the same."""
    return field[:4] if family == socket.AF_INET else field.removeprefix(IPV4_MAPPED)


def open_files(uid: int, first: int | None = None) -> Iterator[tuple[int, str]]:
    """
    What processes of that user hold, by process, as far as we may look: ours to trace, and in our process namespace.

    A process comes with an empty link first. `first` is looked at before the others, as who asked last mostly asks
    next; then the newest, as clients come after a sidecar.
    """
    for pid in _processes(first):
        yield pid, ""
        with suppress(OSError):  # it ended, or is not ours to look into
            if os.stat(f"/proc/{pid}").st_uid == uid:
                with os.scandir(f"/proc/{pid}/fd") as descriptors:
                    for descriptor in descriptors:
                        yield pid, os.readlink(descriptor.path)


def _processes(first: int | None) -> Iterator[int]:
    """Listing them takes longer than looking at one."""
    if first is not None:
        yield first
    yield from (pid for pid in _newest_processes() if pid != first)


def _newest_processes() -> list[int]:
    with suppress(OSError), os.scandir("/proc") as entries:
        return sorted((int(entry.name) for entry in islice(entries, MAX_LISTED) if entry.name.isdigit()), reverse=True)
    return []
