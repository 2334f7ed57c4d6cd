"""Test the tables in /proc/net: their lines, and the limit on reads."""

import os
from pathlib import Path

import pytest

from sidecar.serving import proc_net
from sidecar.serving.peer import connection_key
from sidecar.serving.proc_net import find_in_proc, owners_in
from sidecar.serving.sock_diag import (
    PENDING,
    Owner,
)
from tests.support.users import needs_linux
from tests.unit.serving.peer_lookup import Connect, by_proc, uid_of

pytestmark = [needs_linux, pytest.mark.usefixtures("no_limits")]


def test_truncated_or_ambiguous_table_has_no_owner(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    key = connection_key(connect().accepted)
    assert find_in_proc(key) is not None
    with monkeypatch.context() as patch:
        patch.setattr(proc_net, "owners_in", lambda _table, _wanted: iter([Owner(1001, 1), Owner(1002, 2)]))
        assert find_in_proc(key) is None
    monkeypatch.setattr(proc_net, "MAX_TABLE_BYTES", 160)  # the heading line and the start of the next line
    assert find_in_proc(key) is None


LINE = (
    b"  12: 0100007F:9C40 0100007F:12A4 %s 00000000:00000000 00:00000000 00000000 %5d        0 %d 1 0000000000000000 20"
)


def test_table_line_is_parsed_like_a_netlink_reply() -> None:
    wanted = b" 0100007F:9C40 0100007F:12A4 "
    lines = [LINE % (b"01", 1001, 77), LINE % (b"06", 0, 78), LINE % (b"05", 0, 0), LINE % (b"04", 1002, 79)]
    table = b"\n".join([*lines, b""])
    assert list(owners_in(table, wanted)) == [Owner(1001, 77), Owner(1002, 79)]
    assert list(owners_in(table, b" 0100007F:9C41 0100007F:12A4 ")) == []


def test_truncated_or_malformed_line_has_no_owner(
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
    """
    Record the size of each read of the tables. Padding makes each read at least 2 MiB long.

    A machine with many connections, such as those of a benchmark, has longer tables.
    """
    sizes: list[int] = []
    read = proc_net.read_tables

    def counted() -> dict[str, bytes]:
        tables = read()
        length = sum(map(len, tables.values()))
        sizes.append(max(length, 2 * 1024 * 1024))
        return tables | {"padding": b"x" * (sizes[-1] - length)}

    monkeypatch.setattr(proc_net, "read_tables", counted)
    return sizes


def test_concurrent_clients_share_one_read(connect: Connect, reads: list[int]) -> None:
    peers = by_proc()
    accepted = [connect().accepted for _ in range(64)]
    assert peers.uid(accepted[0], 100.0) == os.geteuid()
    assert [peers.uid(sock, 100.0) for sock in accepted[1:]] == [PENDING] * 63
    assert peers.pause_seconds(100.0) == pytest.approx(0.18 * reads[0] / (1024 * 1024))
    later = 100.0 + peers.pause_seconds(100.0)
    assert [peers.uid(sock, later) for sock in accepted] == [os.geteuid()] * 64
    assert len(reads) == 2


def test_client_after_a_read_waits_for_the_next_one(connect: Connect, reads: list[int]) -> None:
    """Check the wait, because another user's client may have had the same key at the time of the read."""
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
    """Count 18 ms of the kernel per MiB. A second budget is for denials, so both budgets may take two tenths."""
    peers = by_proc()
    for hundredth in range(1000):
        sock = connect().accepted
        peers.uid(sock, 100.0 + hundredth / 100)
        sock.close()
    assert len(reads) * 2 * 0.018 <= 10.0 / 10 + 0.036
