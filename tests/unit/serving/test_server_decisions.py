"""Test when identical requests that arrive together share one decision."""

from collections.abc import Callable

import pytest
import trio

from sidecar.clock import Instant
from sidecar.serving.container_credentials import Hold, Response
from sidecar.serving.http import Request
from sidecar.serving.limits import Limits
from sidecar.serving.peer import Peer
from tests.unit.serving.running_server import GET, OK, Server, read_all

FOR_ALL = OK._replace(is_for_all=True)
OTHER = GET.replace(b"127.0.0.1", b"localhost")


async def send_together(server: Server, *requests: bytes) -> list[bytes]:
    """Send the requests before the server's first pass, so that one pass accepts all of them."""
    clients = [server.connect_at_once(request) for request in requests]
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        received = [await read_all(client) for client in clients]
        nursery.cancel_scope.cancel()
    for client in clients:
        client.socket.close()
    return received


async def test_identical_requests_of_a_pass_are_decided_once() -> None:
    server = Server(decide=lambda _request, _now: FOR_ALL)
    assert await send_together(server, GET, GET, GET) == [OK.content] * 3
    assert len(server.requests) == 1
    assert server.statuses == [200] * 3
    assert len(set(server.addresses)) == 3


def by_host(request: Request, _now: Instant) -> Response:
    return FOR_ALL if request.headers[b"host"] == b"127.0.0.1" else Response(403, b"HTTP/1.1 403 Forbidden\r\n\r\n")


async def test_alternating_requests_get_their_own_decisions() -> None:
    server = Server(decide=by_host)
    received = await send_together(server, GET, OTHER, GET, OTHER)
    assert [whole.split()[1] for whole in received] == [b"200", b"403", b"200", b"403"]
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda response: response._replace(is_for_all=False),
        lambda response: response._replace(peer=Peer(1000, None)),
    ],
)
async def test_responses_for_one_client_are_decided_each_time(change: Callable[[Response], Response]) -> None:
    server = Server(decide=lambda _request, _now: change(FOR_ALL))
    assert await send_together(server, GET, GET) == [OK.content] * 2
    assert len(server.requests) == 2


async def test_held_responses_are_decided_each_time() -> None:
    held = FOR_ALL._replace(hold=Hold.CREDENTIALS)
    server = Server(decide=lambda request, _now: FOR_ALL if request.has_waited else held)
    server.ready.set()
    assert await send_together(server, GET, GET) == [OK.content] * 2
    assert len(server.requests) == 6


async def test_next_pass_decides_again() -> None:
    server = Server(decide=lambda _request, _now: FOR_ALL, limits=Limits(accepts_per_pass=1))
    assert await send_together(server, GET, GET) == [OK.content] * 2
    assert len(server.requests) == 2


async def test_large_shared_response_reaches_both_clients() -> None:
    large = Response(200, b"x" * 16 * 1024 * 1024, is_for_all=True)
    server = Server(decide=lambda _request, _now: large)
    assert await send_together(server, GET, GET) == [large.content] * 2
