"""Provide a running server, connections with their lookups, and a clock for tests with real sockets."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
from trio.testing import MockClock

from sidecar.serving import peer_process, proc_net
from sidecar.serving.peer import Find, Peers
from sidecar.serving.proc_net import ProcTables, find_in_proc
from sidecar.serving.sock_diag import (
    SockDiag,
)
from tests.unit.serving.peer_lookup import Connect, Connection
from tests.unit.serving.running_server import Server, running


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Return a clock that jumps after 20 ms, so that the kernel can deliver the sent bytes first."""
    autojump_clock.autojump_threshold = 0.02
    return autojump_clock


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as server:
        yield server
        assert server.failures == []


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


@pytest.fixture
def no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Increase the limits of the lookup, because other tests may use a hundred thousand sockets and open files."""
    monkeypatch.setattr(proc_net, "MAX_TABLE_BYTES", 1 << 27)
    monkeypatch.setattr(peer_process, "CHECKS_A_SECOND", 1 << 20)


@pytest.fixture(params=["netlink", "proc"])
def find(request: pytest.FixtureRequest) -> Iterator[Find]:
    """Return each of the two lookup methods, netlink and /proc."""
    if request.param == "proc":
        yield find_in_proc
        return
    diag = SockDiag()
    yield diag.find
    diag.close()


@pytest.fixture
def peers(find: Find) -> Peers:
    peers = Peers()
    peers._find = find
    if find is find_in_proc:
        peers._tables = ProcTables()
    return peers


@pytest.fixture
def fresh() -> Iterator[Peers]:
    """Return a new Peers object. It opens at the first use of `can_look_up`."""
    peers = Peers()
    yield peers
    peers.__exit__()
    assert not peers.can_look_up
