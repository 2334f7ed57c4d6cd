"""
Test the server on real loopback sockets, with slow, broken and hostile clients.

Time is virtual. The clock jumps when nothing has happened on any socket for a moment, so deadlines take no real time.
"""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from sidecar.serving.container_credentials import Response
from sidecar.serving.http import MAX_HEAD_BYTES
from sidecar.serving.limits import Limits
from sidecar.serving.server import CLIENT_GONE
from tests.unit.serving.running_server import GET, HEAD_SECONDS, NOT_YET, OK, Server, read_all, reset, settle, status_of


async def test_request_is_observed_with_the_clients_address(clock: MockClock, server: Server) -> None:
    async with await server.connect() as client:
        await client.send_all(GET)
        assert await read_all(client) == OK.content
        assert server.addresses == server.client_addresses == [client.socket.getsockname()]
    assert await server.send_at_once(GET) == OK.content
    assert server.client_addresses == server.addresses
    assert server.statuses == [200, 200]


async def test_handler_gets_the_parsed_request(clock: MockClock, server: Server) -> None:
    await server.send(GET)
    assert [request.path for request in server.requests] == [b"/v1/credentials"]


async def test_request_in_single_bytes_gets_the_same_response(clock: MockClock, server: Server) -> None:
    assert await server.send(*[GET[i : i + 1] for i in range(len(GET))]) == OK.content


async def test_many_concurrent_clients_are_all_answered(clock: MockClock, server: Server) -> None:
    responses: list[bytes] = []

    async def one() -> None:
        responses.append(await server.send(GET))

    async with trio.open_nursery() as clients:
        for _ in range(200):
            clients.start_soon(one)
    assert responses == [OK.content] * 200


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost"], ids=["silent", "mid-header"])
async def test_slow_request_gets_408(clock: MockClock, server: Server, sent: bytes) -> None:
    start = trio.current_time()
    async with await server.connect() as client:
        await client.send_all(sent)
        assert status_of(await read_all(client)) == 408
    assert trio.current_time() - start >= HEAD_SECONDS


async def test_single_bytes_do_not_extend_the_deadline(clock: MockClock, server: Server) -> None:
    async with await server.connect() as client:
        await client.send_all(b"GET / HTTP/1.1\r\nA: ")
        for _ in range(int(HEAD_SECONDS)):
            await client.send_all(b"a")
            await trio.sleep(1)
        assert status_of(await read_all(client)) == 408


async def test_client_gets_its_rejection_while_it_still_sends(clock: MockClock, server: Server) -> None:
    body = b"x" * 50_000
    denied = await server.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n", body)
    assert status_of(denied) == 405
    assert server.statuses == [405]


async def test_head_over_the_limit_is_rejected_while_it_is_sent(clock: MockClock, server: Server) -> None:
    assert status_of(await server.send(b"GET /" + b"a" * 3 * MAX_HEAD_BYTES)) == 431


async def test_client_that_never_stops_sending_is_disconnected(clock: MockClock, server: Server) -> None:
    async with await server.connect() as client:
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"\x16" * 64 * 1024 * 1024)


async def test_half_closed_request_is_answered(clock: MockClock, server: Server) -> None:
    async with await server.connect() as client:
        await client.send_all(GET)
        await client.send_eof()
        assert await read_all(client) == OK.content


async def test_request_that_ends_early_is_rejected(clock: MockClock, server: Server) -> None:
    async with await server.connect() as client:
        await client.send_all(GET[:-2])
        await client.send_eof()
        assert status_of(await read_all(client)) == 400


async def test_second_request_on_a_connection_is_not_read(clock: MockClock, server: Server) -> None:
    assert await server.send(GET + GET) == OK.content
    assert await server.send_at_once(GET + GET) == OK.content
    assert server.statuses == [200, 200]


async def test_client_that_sends_too_much_gets_no_reset(clock: MockClock, server: Server) -> None:
    assert await server.send_at_once(GET + b"x" * 8192) == OK.content


async def test_port_probe_is_not_observed(clock: MockClock, server: Server) -> None:
    await (await server.connect()).aclose()
    await reset(server.connect_at_once())
    silent = await server.connect()
    await settle()
    await reset(silent)
    await settle()
    assert await server.send(GET) == OK.content
    assert server.statuses == [200]


async def test_client_that_resets_during_its_request_is_counted(clock: MockClock, server: Server) -> None:
    client = await server.connect()
    await client.send_all(GET[:10])
    await settle()
    await reset(client)
    await settle()
    assert server.statuses == [CLIENT_GONE]
    assert await server.send(GET) == OK.content


async def test_client_that_resets_after_its_request_is_counted(clock: MockClock, server: Server) -> None:
    await reset(server.connect_at_once(GET))
    await settle()
    assert server.statuses == [CLIENT_GONE]


async def test_client_that_resets_while_held_is_counted(clock: MockClock, server: Server) -> None:
    server.decide = lambda _request, _now: OK if server.ready.is_set() else NOT_YET
    client = await server.connect()
    await client.send_all(GET)
    await settle()
    await reset(client)
    server.ready.set()
    await settle()
    assert server.statuses == [CLIENT_GONE]


async def test_client_that_never_reads_is_counted_at_the_deadline(clock: MockClock, server: Server) -> None:
    server.decide = lambda _request, _now: Response(200, b"x" * 32 * 1024 * 1024)
    async with await server.connect() as client:
        await client.send_all(GET)
        await trio.sleep(Limits().write_seconds + 1)
        assert server.statuses == [CLIENT_GONE]


async def test_response_larger_than_the_buffer_arrives_whole(clock: MockClock, server: Server) -> None:
    large = Response(200, b"0123456789" * 800_000)
    server.decide = lambda _request, _now: large
    assert await server.send(GET) == large.content
    assert await server.send_at_once(GET) == large.content


async def test_early_request_is_answered_when_credentials_arrive(clock: MockClock, server: Server) -> None:
    server.decide = lambda _request, _now: OK if server.ready.is_set() else NOT_YET
    start = trio.current_time()
    async with await server.connect() as client:
        await client.send_all(GET)
        await settle()
        assert server.statuses == []
        server.ready.set()
        assert await read_all(client) == OK.content
        assert server.client_addresses == [client.socket.getsockname()] * 2
    assert trio.current_time() == start


async def test_credentials_that_arrive_before_the_hold_are_served(clock: MockClock, server: Server) -> None:
    server.decide = lambda _request, _now: OK if len(server.requests) > 1 else NOT_YET
    start = trio.current_time()
    assert await server.send_at_once(GET) == OK.content
    assert trio.current_time() == start


async def test_held_request_gets_503_at_the_deadline(clock: MockClock, server: Server) -> None:
    server.decide = lambda _request, _now: NOT_YET
    start = trio.current_time()
    assert await server.send(GET) == NOT_YET.content
    assert trio.current_time() - start >= Limits().hold_seconds
    assert server.statuses == [503]
