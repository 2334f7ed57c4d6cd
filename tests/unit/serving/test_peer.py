"""Test the lookup of a connection's client by both methods, and the results that do not count."""

import builtins
import itertools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.serving import peer_process, proc_net
from sidecar.serving.peer import Find, Peer, Peers, connection_key
from sidecar.serving.proc_net import ProcTables, find_in_proc, owners_in
from sidecar.serving.sock_diag import (
    PENDING,
    ConnectionKey,
    Owner,
    Pending,
    SockDiag,
    owner_in_reply,
    request_message,
)
from tests.support.users import APP, BECOME, OTHER, in_namespaces, needs_linux, needs_root, socket_of

pytestmark = needs_linux

UNUSED_ADDRESS = ("127.77.0.1", 0)
"""A client's address on loopback that nothing else on this machine uses."""

RESET_ON_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Connection(NamedTuple):
    client: socket.socket
    accepted: socket.socket


Connect = Callable[..., Connection]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a function that connects to a listener of the test, from a new socket or from `client`."""
    with ExitStack() as stack:
        listeners: dict[str, socket.socket] = {}

        def connect(client: socket.socket | None = None, host: str = "127.0.0.1", to: str | None = None) -> Connection:
            if host not in listeners:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                listeners[host] = stack.enter_context(socket.create_server((host, 0), family=family))
            listener = listeners[host]
            sock = stack.enter_context(client or socket.socket(listener.family))
            sock.connect((to or host, listener.getsockname()[1]))
            return Connection(sock, stack.enter_context(listener.accept()[0]))

        yield connect


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the limits, because other tests may use a hundred thousand sockets and open files."""
    monkeypatch.setattr(proc_net, "MAX_TABLE_BYTES", 1 << 27)
    monkeypatch.setattr(peer_process, "CHECKS_A_SECOND", 1 << 20)


@pytest.fixture(params=["netlink", "proc"])
def find(request: pytest.FixtureRequest) -> Iterator[Find]:
    """Return each of the two methods."""
    if request.param == "proc":
        yield find_in_proc
        return
    diag = SockDiag()
    yield diag.find
    diag.close()


def by_proc() -> Peers:
    """Return a Peers for a system without netlink."""
    peers = Peers()
    peers._find, peers._tables = find_in_proc, ProcTables()
    return peers


@pytest.fixture
def peers(find: Find) -> Peers:
    peers = Peers()
    peers._find = find
    if find is find_in_proc:
        peers._tables = ProcTables()
    return peers


@pytest.fixture
def fresh() -> Iterator[Peers]:
    """Return a Peers that opens at the first use of `can_look_up`."""
    peers = Peers()
    yield peers
    peers.__exit__()
    assert not peers.can_look_up


_SECONDS = itertools.count(1000, 1000)


def uid_of(peers: Peers, accepted: socket.socket) -> int | Pending | None:
    """Look up the user. Each call is so much later that the tables of /proc may be read again."""
    return peers.uid(accepted, next(_SECONDS))


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_client_in_our_process_has_our_uid_and_pid(connect: Connect, peers: Peers) -> None:
    _, accepted = connect()
    assert uid_of(peers, accepted) == os.geteuid()
    assert peers.peer(accepted, 1.0) == Peer(os.geteuid(), os.getpid())


@needs_root
def test_lookup_finds_the_user_of_the_client_and_not_ours(connect: Connect, peers: Peers) -> None:
    for uid in (APP, OTHER, 0, 65534, 4_294_967_294):
        assert uid_of(peers, connect(socket_of(uid)).accepted) == uid


@needs_root
@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_lookup_finds_users_of_ipv6_and_mapped_ipv4_clients(connect: Connect, peers: Peers) -> None:
    assert uid_of(peers, connect(socket_of(APP, socket.AF_INET6), "::1").accepted) == APP
    mapped = socket_of(OTHER, socket.AF_INET6)
    assert uid_of(peers, connect(mapped, to="::ffff:127.0.0.1").accepted) == OTHER


@needs_root
def test_dual_stack_listener_finds_the_user_of_ipv4_clients(find: Find) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        client = socket_of(APP)
        with client:
            client.connect(("127.0.0.1", listener.getsockname()[1]))
            with listener.accept()[0] as accepted:
                assert accepted.getpeername()[0] == "::ffff:127.0.0.1"
                owner = find(connection_key(accepted))
    assert owner is not None
    assert owner.uid == APP


@needs_root
def test_half_closed_client_has_a_user(connect: Connect, peers: Peers) -> None:
    client, accepted = connect(socket_of(APP))
    client.shutdown(socket.SHUT_WR)
    assert uid_of(peers, accepted) == APP
    client.close()
    assert uid_of(peers, accepted) is None


def test_closed_client_is_unknown_and_not_root(connect: Connect, peers: Peers) -> None:
    """Kernels report user 0 for abandoned sockets: before 6.17 at once, and later in TIME_WAIT."""
    client, accepted = connect()
    client.sendall(b"GET")
    client.close()
    key = connection_key(accepted)
    assert peers.peer(accepted, 1.0) == Peer(None, None)
    accepted.close()
    assert peers._find is not None
    assert peers._find(key) is None
    assert uid_of(peers, accepted) is None


def test_reset_client_is_unknown_despite_a_listener_on_its_port(connect: Connect, peers: Peers) -> None:
    client = socket.socket()
    client.bind(UNUSED_ADDRESS)
    accepted = connect(client).accepted
    key, address = connection_key(accepted), client.getsockname()
    client.setsockopt(*RESET_ON_CLOSE)
    client.close()
    assert uid_of(peers, accepted) is None
    with socket.create_server(address):
        assert peers._find is not None
        assert peers._find(key) is None


@needs_root
def test_later_client_on_the_same_port_is_not_mistaken(connect: Connect, find: Find) -> None:
    first = socket_of(APP)
    first.bind(UNUSED_ADDRESS)
    accepted, address = connect(first).accepted, first.getsockname()
    found: list[Owner | None] = []

    def find_after_the_change(key: ConnectionKey) -> Owner | None:
        """Find the owner after the old client has reset and a client of another user has the same key."""
        first.setsockopt(*RESET_ON_CLOSE)
        first.close()
        late = socket_of(OTHER)
        late.bind(address)
        found.append(find(connection_key(connect(late).accepted)))
        assert find(key) == found[0], "the keys are equal"
        return find(key)

    peers = Peers()
    peers._find = find_after_the_change
    assert uid_of(peers, accepted) is None
    assert found[0] is not None
    assert found[0].uid == OTHER


def test_two_clients_cannot_have_the_same_key(connect: Connect) -> None:
    first = socket.socket()
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    first.bind(UNUSED_ADDRESS)
    client, _ = connect(first)
    with socket.socket() as second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        second.bind(client.getsockname())
        with pytest.raises(OSError, match="Cannot assign requested address"):
            second.connect(client.getpeername())


def test_stale_netlink_reply_is_ignored(connect: Connect) -> None:
    diag, one, two = SockDiag(), connect(), connect()
    try:
        for sequence in (5, 7, 5):
            diag._socket.send(request_message(connection_key(one.accepted), sequence))
        diag._sequence = 2**32 - 2
        for accepted, client in ((two.accepted, two.client), (one.accepted, one.client)):
            owner = diag.find(connection_key(accepted))
            assert owner is not None
            assert owner.inode == os.fstat(client.fileno()).st_ino
    finally:
        diag.close()


def test_silent_kernel_does_not_delay_the_lookup(connect: Connect) -> None:
    quiet, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    diag = SockDiag()
    diag.close()
    ours.settimeout(0)
    diag._socket = ours
    peers = Peers()
    peers._find = diag.find
    with quiet, ours:
        assert uid_of(peers, connect().accepted) is None


KEY = ConnectionKey(b"\x7f\0\0\1", 40_000, b"\x7f\0\0\1", 4772)


def reply(
    *, kind: int = 20, state: int = 1, family: int = socket.AF_INET, inode: int = 77, port: int = 40_000
) -> bytes:
    """Return a reply of the kernel. By default it is about the socket of user 1001 with KEY."""
    address = b"\x7f\0\0\1" + b"\0" * 12
    return struct.pack(
        "=IHHII BBBB 2s2s16s16s IQ III II", 88, kind, 0, 1, 0, family, state, 0, 0,
        port.to_bytes(2, "big"), (4772).to_bytes(2, "big"), address, address, 0, 0, 0, 0, 0, 1001, inode,
    )  # fmt: skip


def test_reply_about_another_socket_is_ignored() -> None:
    assert owner_in_reply(reply(), KEY) == Owner(1001, 77)
    others = [
        *(reply(state=state) for state in (2, 3, 6, 7, 8, 9, 10, 11)),
        reply(inode=0),
        reply(port=40_001),
        reply(kind=2),
        reply(family=socket.AF_INET6),
        reply()[:-1],
        b"",
    ]
    assert [owner_in_reply(other, KEY) for other in others] == [None] * len(others)


@given(st.binary(max_size=200))
def test_reply_of_any_bytes_is_parsed_without_an_error(data: bytes) -> None:
    assert owner_in_reply(data, KEY) is None


def test_truncated_or_ambiguous_table_gives_no_owner(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    key = connection_key(connect().accepted)
    assert find_in_proc(key) is not None
    with monkeypatch.context() as patch:
        patch.setattr(proc_net, "owners_in", lambda _table, _wanted: iter([Owner(1001, 1), Owner(1002, 2)]))
        assert find_in_proc(key) is None
    monkeypatch.setattr(proc_net, "MAX_TABLE_BYTES", 160)  # the length of the heading line
    assert find_in_proc(key) is None


LINE = (
    b"  12: 0100007F:9C40 0100007F:12A4 %s 00000000:00000000 00:00000000 00000000 %5d        0 %d 1 0000000000000000 20"
)


def test_table_line_is_parsed_like_a_reply() -> None:
    wanted = b" 0100007F:9C40 0100007F:12A4 "
    lines = [LINE % (b"01", 1001, 77), LINE % (b"06", 0, 78), LINE % (b"05", 0, 0), LINE % (b"04", 1002, 79)]
    table = b"\n".join([*lines, b""])
    assert list(owners_in(table, wanted)) == [Owner(1001, 77), Owner(1002, 79)]
    assert list(owners_in(table, b" 0100007F:9C41 0100007F:12A4 ")) == []


def test_truncated_or_malformed_line_gives_no_owner(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted, table, whole = connect().accepted, tmp_path / "tcp", LINE % (b"01", 1001, 77) + b"\n"
    monkeypatch.setattr(proc_net, "_wanted_lines", lambda _key: [(str(table), b" 0100007F:9C40 0100007F:12A4 ")])
    monkeypatch.setattr(proc_net, "PATHS", (str(table),))
    peers = by_proc()
    truncated = [whole[:length] for length in range(len(whole))]
    for line in [*truncated, whole.replace(b"1001", b"root"), whole.replace(b" 01 ", b" ")]:
        table.write_bytes(line)
        assert uid_of(peers, accepted) is None
    table.write_bytes(whole)
    assert uid_of(peers, accepted) == 1001


# The budget for /proc


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the size of each read of the tables. Padding makes each read 2 MiB long."""
    sizes: list[int] = []
    read = proc_net.read_tables

    def counted() -> dict[str, bytes]:
        tables = read()
        sizes.append(sum(map(len, tables.values())))
        return tables | {"padding": b"x" * (2 * 1024 * 1024 - sizes[-1])}

    monkeypatch.setattr(proc_net, "read_tables", counted)
    return sizes


def test_concurrent_clients_share_one_read(connect: Connect, reads: list[int]) -> None:
    peers = by_proc()
    accepted = [connect().accepted for _ in range(64)]
    assert peers.uid(accepted[0], 100.0) == os.geteuid()
    assert [peers.uid(sock, 100.0) for sock in accepted[1:]] == [PENDING] * 63
    assert peers.pause_seconds(100.0) == pytest.approx(0.36, abs=0.01)
    later = 100.0 + peers.pause_seconds(100.0)
    assert [peers.uid(sock, later) for sock in accepted] == [os.geteuid()] * 64
    assert len(reads) == 2


def test_client_after_a_read_waits_for_the_next_one(connect: Connect, reads: list[int]) -> None:
    """Another user's client may have had the same key at the time of the read."""
    peers = by_proc()
    first, second = connect().accepted, connect().accepted
    assert peers.uid(first, 100.0) == os.geteuid()
    assert peers.uid(second, 100.1) is PENDING
    assert peers.uid(first, 100.1) == os.geteuid()
    assert len(reads) == 1


def test_denied_requests_do_not_use_up_the_reads_of_others(connect: Connect, reads: list[int]) -> None:
    peers = by_proc()
    accepted = [connect().accepted for _ in range(4)]
    assert peers.peer(accepted[0], 100.0, is_denial=True).uid == os.geteuid()
    assert peers.peer(accepted[1], 100.0, is_denial=True).uid is None
    assert peers.uid(accepted[2], 100.0) == os.geteuid()
    assert peers.uid(accepted[3], 100.0) is PENDING
    assert len(reads) == 2


def test_reads_take_at_most_a_tenth_of_a_processor(connect: Connect, reads: list[int]) -> None:
    """The kernel takes 18 ms per MiB. With the second budget, for denials, the limit is two tenths."""
    peers = by_proc()
    for hundredth in range(1000):
        sock = connect().accepted
        peers.uid(sock, 100.0 + hundredth / 100)
        sock.close()
    assert len(reads) * 2 * 0.018 <= 10.0 / 10 + 0.036


# The process


@contextmanager
def client_process(address: tuple[str, int], prelude: str = "") -> Iterator[int]:
    """Start a process that connects and stays silent. Yield its id."""
    program = f"import socket\ns = socket.socket()\ns.close()\n{prelude}s = socket.socket()\ns.connect({address!r})\n"
    program += "print(flush=True)\ninput()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline(), "it could not connect"
        yield child.pid
        child.stdin.close()


@needs_root
def test_root_finds_the_process_of_another_user(fresh: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fresh.can_look_up
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        client_process(listener.getsockname(), BECOME.format(uid=APP)) as pid,
        listener.accept()[0] as accepted,
    ):
        assert fresh.peer(accepted, 1.0) == Peer(APP, pid)
        done = subprocess.run(
            [sys.executable, "-c", ASK, str(accepted.fileno()), str(OTHER)],
            pass_fds=[accepted.fileno()], capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split() == [str(APP), "None"], "we may not trace another user's processes"
        with monkeypatch.context() as patch:
            patch.setattr(peer_process, "MAX_LISTED", 0)
            patch.setattr(fresh._processes, "_last_found", None)
            assert fresh.peer(accepted, 1.0) == Peer(APP, None)


def test_peer_over_the_budget_has_only_a_user(connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fresh.can_look_up
    accepted, checks, known, unknown = connect().accepted, 0, Peer(os.geteuid(), os.getpid()), Peer(os.geteuid(), None)
    links = peer_process.open_files

    def counted(uid: int, first: int | None) -> Iterator[tuple[int, str]]:
        nonlocal checks
        for link in links(uid, first):
            checks += 1
            yield link

    monkeypatch.setattr(peer_process, "open_files", counted)
    monkeypatch.setattr(peer_process, "_newest_processes", lambda: [os.getpid()])
    assert fresh.peer(accepted, 1.0) == known
    once = checks
    monkeypatch.setattr(peer_process, "CHECKS_A_SECOND", 2 * once + 1)
    assert [fresh.peer(accepted, 2.0 + passed) for passed in (0.0, 0.5, 0.9, 0.9)] == [known, known, unknown, unknown]
    assert checks == once + 2 * once + 1
    assert fresh.peer(accepted, 3.0) == known


def test_last_found_process_is_checked_first(connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """If that process has ended, the lookup still finds other processes."""
    assert fresh.can_look_up
    listed: list[list[int]] = []

    def listing() -> list[int]:
        listed.append([os.getpid()])
        return listed[-1]

    monkeypatch.setattr(peer_process, "_newest_processes", listing)
    known = Peer(os.geteuid(), os.getpid())
    assert [fresh.peer(connect().accepted, 1.0) for _ in range(3)] == [known] * 3
    assert len(listed) == 1
    fresh._processes._last_found = ended_process()
    assert [fresh.peer(connect().accepted, 2.0) for _ in range(3)] == [known] * 3
    assert len(listed) == 2


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


ASK = """
import os, socket, sys
from sidecar.serving.peer import Peers
fd, uid = map(int, sys.argv[1:])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
with Peers() as peers, socket.socket(fileno=fd) as accepted:
    client = peers.peer(accepted, 1.0)
print(client.uid, client.pid)
"""
"""A program that prints the client of an inherited socket, as the user with this id."""


@needs_root
def test_unmapped_user_is_the_overflow_user(connect: Connect) -> None:
    ours, another = connect().accepted, connect(socket_of(APP)).accepted
    command = in_namespaces("--user")
    for accepted, uid in ((ours, "0"), (another, "65534")):
        done = subprocess.run(
            [*command, "-c", ASK.replace("os.setgroups([])", ""), str(accepted.fileno()), "0"],
            pass_fds=[accepted.fileno()], capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split()[0] == uid


IN_NAMESPACE = """
import fcntl, os, socket, struct, sys
from sidecar.serving.peer import Peers
with Peers() as peers:
    print(peers.can_look_up)  # there is no loopback yet
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
with Peers() as peers, socket.socket(fileno=int(sys.argv[1])) as elsewhere:
    print(peers.can_look_up, peers.uid(elsewhere, 1.0))
"""


def test_network_namespace_shows_only_its_own_sockets(connect: Connect) -> None:
    accepted = connect().accepted
    done = subprocess.run(
        [*in_namespaces("--user", "--net"), "-c", IN_NAMESPACE, str(accepted.fileno())],
        pass_fds=[accepted.fileno()], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "True", "None"]


# The choice of the method


class WithoutNetlink(socket.socket):
    """A socket class under a seccomp profile that denies netlink."""

    def __init__(self, family: int = socket.AF_INET, *args: int, **kwargs: int) -> None:
        if family == socket.AF_NETLINK:
            raise PermissionError(1, "Operation not permitted")
        super().__init__(family, *args, **kwargs)


def test_netlink_is_preferred(fresh: Peers) -> None:
    assert fresh.can_look_up
    assert fresh._find != find_in_proc


class WithPartialNetlink(socket.socket):
    """A socket class under a profile that allows only some netlink calls."""

    def connect(self, address: Any) -> None:
        if self.family == socket.AF_NETLINK:
            raise PermissionError(1, "Operation not permitted")
        super().connect(address)


@pytest.mark.parametrize("kind", [WithoutNetlink, WithPartialNetlink])
def test_lookup_without_netlink_uses_proc(
    connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch, kind: type[socket.socket]
) -> None:
    monkeypatch.setattr(socket, "socket", kind)
    assert fresh.can_look_up
    assert fresh._find == find_in_proc
    assert uid_of(fresh, connect().accepted) == os.geteuid()


@pytest.mark.parametrize("lie", [None, Owner(0, 12), Owner(4_000_000_000, 12)])
def test_method_that_fails_the_self_check_is_not_used(
    connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch, lie: Owner | None
) -> None:
    monkeypatch.setattr(SockDiag, "find", lambda _self, _key: lie)
    monkeypatch.setattr(proc_net, "find_in_proc", lambda _key: lie)
    assert not fresh.can_look_up
    assert fresh.peer(connect().accepted, 1.0) == Peer(None, None)


def test_clients_outside_linux_are_unknown(connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not fresh.can_look_up
    assert uid_of(fresh, connect().accepted) is None


def test_peer_without_proc_has_only_a_user(connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = connect().accepted
    assert fresh.can_look_up
    monkeypatch.setattr(os, "scandir", missing)
    monkeypatch.setattr(builtins, "open", missing)
    assert fresh.peer(accepted, 1.0) == Peer(os.geteuid(), None)
    assert find_in_proc(connection_key(accepted)) is None


def missing(*_: object) -> NoReturn:
    raise FileNotFoundError(2, "No such file or directory")


class LinkLocal(socket.socket):
    """An accepted socket whose client has a link-local address."""

    def getpeername(self) -> Any:
        return "fe80::1%eth0", 40_000, 0, 2


def test_link_local_client_is_unknown(connect: Connect, fresh: Peers) -> None:
    assert fresh.can_look_up
    with LinkLocal(fileno=connect().accepted.detach()) as accepted:
        assert uid_of(fresh, accepted) is None


def test_clients_are_unknown_before_peers_is_open(connect: Connect) -> None:
    assert uid_of(Peers(), connect().accepted) is None
