"""Whose socket is at the other end, by both ways of asking, and what is not believed."""

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

OF_OUR_OWN = ("127.77.0.1", 0)
"""A client's address on loopback whose ports nothing else on this machine has."""

RESET_ON_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Connection(NamedTuple):
    client: socket.socket
    accepted: socket.socket


Connect = Callable[..., Connection]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes connections to a listener of ours: with `client` unconnected, from whom and where it likes."""
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
def a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs here may have a hundred thousand sockets and open files."""
    monkeypatch.setattr(proc_net, "MAX_TABLE_BYTES", 1 << 27)
    monkeypatch.setattr(peer_process, "CHECKS_A_SECOND", 1 << 20)


@pytest.fixture(params=["netlink", "proc"])
def find(request: pytest.FixtureRequest) -> Iterator[Find]:
    """Each of the two ways."""
    if request.param == "proc":
        yield find_in_proc
        return
    diag = SockDiag()
    yield diag.find
    diag.close()


def by_proc() -> Peers:
    """Peers of a system without netlink."""
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
    """Opened when it is first asked whether it can tell."""
    peers = Peers()
    yield peers
    peers.__exit__()
    assert not peers.can_look_up


_SECONDS = itertools.count(1000, 1000)


def uid_of(peers: Peers, accepted: socket.socket) -> int | Pending | None:
    """Each call comes so much later that the tables of /proc may be read again."""
    return peers.uid(accepted, next(_SECONDS))


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_a_client_in_our_own_process_is_ourselves(connect: Connect, peers: Peers) -> None:
    _, accepted = connect()
    assert uid_of(peers, accepted) == os.geteuid()
    assert peers.peer(accepted, 1.0) == Peer(os.geteuid(), os.getpid())


@needs_root
def test_the_client_is_told_and_not_our_own_end(connect: Connect, peers: Peers) -> None:
    for uid in (APP, OTHER, 0, 65534, 4_294_967_294):
        assert uid_of(peers, connect(socket_of(uid)).accepted) == uid


@needs_root
@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_an_ipv6_client_and_one_that_speaks_ipv4_through_an_ipv6_socket_are_told(
    connect: Connect, peers: Peers
) -> None:
    assert uid_of(peers, connect(socket_of(APP, socket.AF_INET6), "::1").accepted) == APP
    mapped = socket_of(OTHER, socket.AF_INET6)
    assert uid_of(peers, connect(mapped, to="::ffff:127.0.0.1").accepted) == OTHER


@needs_root
def test_a_listener_of_both_families_tells_its_ipv4_clients_too(find: Find) -> None:
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
def test_a_client_that_half_closed_is_still_there(connect: Connect, peers: Peers) -> None:
    client, accepted = connect(socket_of(APP))
    client.shutdown(socket.SHUT_WR)
    assert uid_of(peers, accepted) == APP
    client.close()
    assert uid_of(peers, accepted) is None


def test_a_client_that_sent_and_closed_is_nobody_and_not_root(connect: Connect, peers: Peers) -> None:
    """Of sockets that were left behind kernels say user 0: before 6.17 at once, and all once they wait in TIME_WAIT."""
    client, accepted = connect()
    client.sendall(b"GET")
    client.close()
    key = connection_key(accepted)
    assert peers.peer(accepted, 1.0) == Peer(None, None)
    accepted.close()
    assert peers._find is not None
    assert peers._find(key) is None
    assert uid_of(peers, accepted) is None


def test_a_client_that_reset_is_nobody_also_where_something_listens_on_its_port(connect: Connect, peers: Peers) -> None:
    client = socket.socket()
    client.bind(OF_OUR_OWN)
    accepted = connect(client).accepted
    key, address = connection_key(accepted), client.getsockname()
    client.setsockopt(*RESET_ON_CLOSE)
    client.close()
    assert uid_of(peers, accepted) is None
    with socket.create_server(address):
        assert peers._find is not None
        assert peers._find(key) is None


@needs_root
def test_who_takes_the_port_of_a_client_that_left_is_not_taken_for_it(connect: Connect, find: Find) -> None:
    first = socket_of(APP)
    first.bind(OF_OUR_OWN)
    accepted, address = connect(first).accepted, first.getsockname()
    found: list[Owner | None] = []

    def find_after_the_change(key: ConnectionKey) -> Owner | None:
        """The old client resets, and another user's has its place before the kernel is asked."""
        first.setsockopt(*RESET_ON_CLOSE)
        first.close()
        late = socket_of(OTHER)
        late.bind(address)
        found.append(find(connection_key(connect(late).accepted)))
        assert find(key) == found[0], "the key are the same"
        return find(key)

    peers = Peers()
    peers._find = find_after_the_change
    assert uid_of(peers, accepted) is None
    assert found[0] is not None
    assert found[0].uid == OTHER


def test_a_second_client_cannot_have_the_ends_of_one_that_is_there(connect: Connect) -> None:
    first = socket.socket()
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    first.bind(OF_OUR_OWN)
    client, _ = connect(first)
    with socket.socket() as second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        second.bind(client.getsockname())
        with pytest.raises(OSError, match="Cannot assign requested address"):
            second.connect(client.getpeername())


def test_a_reply_that_was_left_behind_is_passed_over(connect: Connect) -> None:
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


def test_a_kernel_that_says_nothing_is_not_waited_for(connect: Connect) -> None:
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
    """What the kernel says of user 1001's socket with KEY, unless told otherwise."""
    address = b"\x7f\0\0\1" + b"\0" * 12
    return struct.pack(
        "=IHHII BBBB 2s2s16s16s IQ III II", 88, kind, 0, 1, 0, family, state, 0, 0,
        port.to_bytes(2, "big"), (4772).to_bytes(2, "big"), address, address, 0, 0, 0, 0, 0, 1001, inode,
    )  # fmt: skip


def test_a_reply_counts_only_if_it_is_of_the_connected_socket_that_was_asked_for() -> None:
    assert owner_in_reply(reply(), KEY) == Owner(1001, 77)
    spoilt = [
        *(reply(state=state) for state in (2, 3, 6, 7, 8, 9, 10, 11)),
        reply(inode=0),
        reply(port=40_001),
        reply(kind=2),
        reply(family=socket.AF_INET6),
        reply()[:-1],
        b"",
    ]
    assert [owner_in_reply(bad, KEY) for bad in spoilt] == [None] * len(spoilt)


@given(st.binary(max_size=200))
def test_no_reply_is_a_fault(data: bytes) -> None:
    assert owner_in_reply(data, KEY) is None


def test_a_table_that_is_cut_off_or_names_two_owners_says_nothing(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = connection_key(connect().accepted)
    assert find_in_proc(key) is not None
    with monkeypatch.context() as patch:
        patch.setattr(proc_net, "owners_in", lambda _table, _wanted: iter([Owner(1001, 1), Owner(1002, 2)]))
        assert find_in_proc(key) is None
    monkeypatch.setattr(proc_net, "MAX_TABLE_BYTES", 160)  # the line of headings
    assert find_in_proc(key) is None


LINE = (
    b"  12: 0100007F:9C40 0100007F:12A4 %s 00000000:00000000 00:00000000 00000000 %5d        0 %d 1 0000000000000000 20"
)


def test_a_line_of_the_table_is_read_as_the_reply_is() -> None:
    wanted = b" 0100007F:9C40 0100007F:12A4 "
    lines = [LINE % (b"01", 1001, 77), LINE % (b"06", 0, 78), LINE % (b"05", 0, 0), LINE % (b"04", 1002, 79)]
    table = b"\n".join([*lines, b""])
    assert list(owners_in(table, wanted)) == [Owner(1001, 77), Owner(1002, 79)]
    assert list(owners_in(table, b" 0100007F:9C41 0100007F:12A4 ")) == []


def test_a_line_that_is_cut_off_or_spoilt_is_nobodys(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted, table, whole = connect().accepted, tmp_path / "tcp", LINE % (b"01", 1001, 77) + b"\n"
    monkeypatch.setattr(proc_net, "_wanted_lines", lambda _ends: [(str(table), b" 0100007F:9C40 0100007F:12A4 ")])
    monkeypatch.setattr(proc_net, "PATHS", (str(table),))
    peers = by_proc()
    cut_off = [whole[:length] for length in range(len(whole))]
    for spoilt in [*cut_off, whole.replace(b"1001", b"root"), whole.replace(b" 01 ", b" ")]:
        table.write_bytes(spoilt)
        assert uid_of(peers, accepted) is None
    table.write_bytes(whole)
    assert uid_of(peers, accepted) == 1001


# The budget of /proc


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What each reading of the tables took in, in bytes. Each looks like tables of 2 MiB."""
    sizes: list[int] = []
    read = proc_net.read_tables

    def counted() -> dict[str, bytes]:
        tables = read()
        sizes.append(sum(map(len, tables.values())))
        return tables | {"padding": b"x" * (2 * 1024 * 1024 - sizes[-1])}

    monkeypatch.setattr(proc_net, "read_tables", counted)
    return sizes


def test_many_clients_at_once_share_a_reading(connect: Connect, readings: list[int]) -> None:
    peers = by_proc()
    accepted = [connect().accepted for _ in range(64)]
    assert peers.uid(accepted[0], 100.0) == os.geteuid()
    assert [peers.uid(sock, 100.0) for sock in accepted[1:]] == [PENDING] * 63
    assert peers.pause_seconds(100.0) == pytest.approx(0.36, abs=0.01)
    later = 100.0 + peers.pause_seconds(100.0)
    assert [peers.uid(sock, later) for sock in accepted] == [os.geteuid()] * 64
    assert len(readings) == 2


def test_a_client_that_comes_after_a_reading_is_not_looked_for_in_it(connect: Connect, readings: list[int]) -> None:
    """Its key may have been another user's when the tables were read."""
    peers = by_proc()
    first, second = connect().accepted, connect().accepted
    assert peers.uid(first, 100.0) == os.geteuid()
    assert peers.uid(second, 100.1) is PENDING
    assert peers.uid(first, 100.1) == os.geteuid()
    assert len(readings) == 1


def test_lines_of_denied_requests_do_not_use_up_the_others_readings(connect: Connect, readings: list[int]) -> None:
    peers = by_proc()
    accepted = [connect().accepted for _ in range(4)]
    assert peers.peer(accepted[0], 100.0, is_denial=True).uid == os.geteuid()
    assert peers.peer(accepted[1], 100.0, is_denial=True).uid is None
    assert peers.uid(accepted[2], 100.0) == os.geteuid()
    assert peers.uid(accepted[3], 100.0) is PENDING
    assert len(readings) == 2


def test_reading_takes_a_tenth_of_a_processor_at_most(connect: Connect, readings: list[int]) -> None:
    """The kernel takes 18 ms for a MiB. Two budgets, one for denials, make it two tenths."""
    peers = by_proc()
    for hundredth in range(1000):
        sock = connect().accepted
        peers.uid(sock, 100.0 + hundredth / 100)
        sock.close()
    assert len(readings) * 2 * 0.018 <= 10.0 / 10 + 0.036


# The process


@contextmanager
def client_process(address: tuple[str, int], prelude: str = "") -> Iterator[int]:
    """A process that is connected and says nothing: its id."""
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
def test_the_process_of_another_user_is_found_by_whoever_may_look_into_it(
    fresh: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fresh.can_look_up
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        client_process(listener.getsockname(), BECOME.format(uid=APP)) as pid,
        listener.accept()[0] as accepted,
    ):
        assert fresh.peer(accepted, 1.0) == Peer(APP, pid)
        told = subprocess.run(
            [sys.executable, "-c", ASK, str(accepted.fileno()), str(OTHER)],
            pass_fds=[accepted.fileno()], capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert told.stdout.split() == [str(APP), "None"], "another user's processes are not ours to look into"
        with monkeypatch.context() as patch:
            patch.setattr(peer_process, "MAX_LISTED", 0)
            patch.setattr(fresh._processes, "_last_found", None)
            assert fresh.peer(accepted, 1.0) == Peer(APP, None)


def test_a_second_has_so_many_looks_and_then_only_the_user_is_told(
    connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fresh.can_look_up
    accepted, looks, known, unknown = connect().accepted, 0, Peer(os.geteuid(), os.getpid()), Peer(os.geteuid(), None)
    links = peer_process.open_files

    def counted(uid: int, first: int | None) -> Iterator[tuple[int, str]]:
        nonlocal looks
        for link in links(uid, first):
            looks += 1
            yield link

    monkeypatch.setattr(peer_process, "open_files", counted)
    monkeypatch.setattr(peer_process, "_newest_processes", lambda: [os.getpid()])
    assert fresh.peer(accepted, 1.0) == known
    once = looks
    monkeypatch.setattr(peer_process, "CHECKS_A_SECOND", 2 * once + 1)
    assert [fresh.peer(accepted, 2.0 + passed) for passed in (0.0, 0.5, 0.9, 0.9)] == [known, known, unknown, unknown]
    assert looks == once + 2 * once + 1
    assert fresh.peer(accepted, 3.0) == known


def test_who_asked_last_is_looked_at_first_and_others_are_found_all_the_same(
    connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the process has ended, and another one asks."""
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
"""As this user, say who is at the other end of a socket that was passed on."""


@needs_root
def test_a_user_without_a_number_in_our_user_namespace_is_the_overflow_user(connect: Connect) -> None:
    ours, another = connect().accepted, connect(socket_of(APP)).accepted
    command = in_namespaces("--user")
    for accepted, uid in ((ours, "0"), (another, "65534")):
        told = subprocess.run(
            [*command, "-c", ASK.replace("os.setgroups([])", ""), str(accepted.fileno()), "0"],
            pass_fds=[accepted.fileno()], capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert told.stdout.split()[0] == uid


IN_A_NAMESPACE = """
import fcntl, os, socket, struct, sys
from sidecar.serving.peer import Peers
with Peers() as peers:
    print(peers.can_look_up)  # there is no loopback yet
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
with Peers() as peers, socket.socket(fileno=int(sys.argv[1])) as elsewhere:
    print(peers.can_look_up, peers.uid(elsewhere, 1.0))
"""


def test_in_a_network_namespace_its_own_sockets_are_told_and_no_others(connect: Connect) -> None:
    accepted = connect().accepted
    told = subprocess.run(
        [*in_namespaces("--user", "--net"), "-c", IN_A_NAMESPACE, str(accepted.fileno())],
        pass_fds=[accepted.fileno()], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.split() == ["False", "True", "None"]


# Which way there is


class WithoutNetlink(socket.socket):
    """As a seccomp profile has it."""

    def __init__(self, family: int = socket.AF_INET, *args: int, **kwargs: int) -> None:
        if family == socket.AF_NETLINK:
            raise PermissionError(1, "Operation not permitted")
        super().__init__(family, *args, **kwargs)


def test_netlink_is_the_first_way(fresh: Peers) -> None:
    assert fresh.can_look_up
    assert fresh._find != find_in_proc


class WithSpoiltNetlink(socket.socket):
    """As a profile has it that knows of netlink's calls, and not of all."""

    def connect(self, address: Any) -> None:
        if self.family == socket.AF_NETLINK:
            raise PermissionError(1, "Operation not permitted")
        super().connect(address)


@pytest.mark.parametrize("kind", [WithoutNetlink, WithSpoiltNetlink])
def test_without_netlink_the_table_in_proc_is_read(
    connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch, kind: type[socket.socket]
) -> None:
    monkeypatch.setattr(socket, "socket", kind)
    assert fresh.can_look_up
    assert fresh._find == find_in_proc
    assert uid_of(fresh, connect().accepted) == os.geteuid()


@pytest.mark.parametrize("lie", [None, Owner(0, 12), Owner(4_000_000_000, 12)])
def test_a_way_that_does_not_know_ourselves_is_not_taken(
    connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch, lie: Owner | None
) -> None:
    monkeypatch.setattr(SockDiag, "find", lambda _self, _ends: lie)
    monkeypatch.setattr(proc_net, "find_in_proc", lambda _ends: lie)
    assert not fresh.can_look_up
    assert fresh.peer(connect().accepted, 1.0) == Peer(None, None)


def test_elsewhere_than_on_linux_nobody_is_told(
    connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not fresh.can_look_up
    assert uid_of(fresh, connect().accepted) is None


def test_without_a_proc_the_user_is_told_and_the_process_is_not(
    connect: Connect, fresh: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = connect().accepted
    assert fresh.can_look_up
    monkeypatch.setattr(os, "scandir", missing)
    monkeypatch.setattr(builtins, "open", missing)
    assert fresh.peer(accepted, 1.0) == Peer(os.geteuid(), None)
    assert find_in_proc(connection_key(accepted)) is None


def missing(*_: object) -> NoReturn:
    raise FileNotFoundError(2, "No such file or directory")


class LinkLocal(socket.socket):
    """An accepted socket whose client came over an interface's own network."""

    def getpeername(self) -> Any:
        return "fe80::1%eth0", 40_000, 0, 2


def test_a_client_from_a_link_local_address_is_nobody(connect: Connect, fresh: Peers) -> None:
    assert fresh.can_look_up
    with LinkLocal(fileno=connect().accepted.detach()) as accepted:
        assert uid_of(fresh, accepted) is None


def test_before_it_is_open_nobody_is_told(connect: Connect) -> None:
    assert uid_of(Peers(), connect().accepted) is None
