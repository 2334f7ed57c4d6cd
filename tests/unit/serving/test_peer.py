"""Test the lookup of a connection's client by both methods, and the clients that stay unknown."""

import builtins
import os
import socket
import sys
from typing import Any, NoReturn

import pytest

from sidecar.serving import proc_net
from sidecar.serving.peer import Find, Peer, Peers, connection_key
from sidecar.serving.proc_net import find_in_proc
from sidecar.serving.sock_diag import (
    ConnectionKey,
    Owner,
    SockDiag,
)
from tests.support.users import APP, OTHER, needs_linux, needs_root, socket_of
from tests.unit.serving.peer_lookup import (
    RESET_ON_CLOSE,
    UNUSED_ADDRESS,
    Connect,
    has_ipv6,
    uid_of,
)

pytestmark = [needs_linux, pytest.mark.usefixtures("no_limits")]


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
    """Kernels report user 0 for abandoned sockets: kernels before 6.17 at once, and newer kernels in TIME_WAIT."""
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
def test_later_client_on_the_same_port_is_not_returned(connect: Connect, find: Find) -> None:
    first = socket_of(APP)
    first.bind(UNUSED_ADDRESS)
    accepted, address = connect(first).accepted, first.getsockname()
    found: list[Owner | None] = []

    def find_after_the_change(key: ConnectionKey) -> Owner | None:
        """Find the owner after the old client has reset its connection and another user's client has the same key."""
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


# Netlink or /proc


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


def test_clients_are_unknown_before_peers_opens(connect: Connect) -> None:
    assert uid_of(Peers(), connect().accepted) is None
