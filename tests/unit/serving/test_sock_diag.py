"""Test the replies of the kernel's socket diagnostics, and the lookup with them."""

import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.serving.peer import Peers, connection_key
from sidecar.serving.sock_diag import (
    ConnectionKey,
    Owner,
    SockDiag,
    owner_in_reply,
    request_message,
)
from tests.support.users import needs_linux
from tests.unit.serving.peer_lookup import Connect, uid_of

pytestmark = [needs_linux, pytest.mark.usefixtures("no_limits")]


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
    """Return a reply of the kernel. By default, the reply is about the socket of user 1001 with KEY."""
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
def test_reply_of_any_bytes_names_no_owner(data: bytes) -> None:
    assert owner_in_reply(data, KEY) is None
