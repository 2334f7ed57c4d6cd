"""Test the lookup of the client's process, and users and sockets in other namespaces."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sidecar.serving import peer_process
from sidecar.serving.peer import Peer, Peers
from tests.support.users import APP, BECOME, OTHER, in_namespaces, needs_linux, needs_root, socket_of
from tests.unit.serving.peer_lookup import Connect

pytestmark = [needs_linux, pytest.mark.usefixtures("no_limits")]


@contextmanager
def client_process(address: tuple[str, int], prelude: str = "") -> Iterator[int]:
    """Start a process that connects and stays silent. Yield its id."""
    program = f"import socket\ns = socket.socket()\ns.close()\n{prelude}s = socket.socket()\ns.connect({address!r})\n"
    program += "print(flush=True)\ninput()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline(), "the process could not connect"
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
    """Check that the lookup still finds other processes after the last found process has ended."""
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
"""A program that becomes the user with an id, and then prints the client of an inherited socket."""


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
