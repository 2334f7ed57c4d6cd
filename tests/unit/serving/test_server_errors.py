"""Test that an unexpected exception of the handler affects only one client."""

from typing import Any, NoReturn

from trio.testing import MockClock

from tests.unit.serving.running_server import GET, NOT_YET, OK, Server, reset, running, settle, status_of


class BrokenError(Exception):
    """An unexpected exception of a handler."""


def broken(*_: object) -> NoReturn:
    raise BrokenError


async def test_error_in_respond_causes_a_500_for_one_client(clock: MockClock, server: Server) -> None:
    server.decide = broken
    assert status_of(await server.send_at_once(GET)) == 500
    assert status_of(await server.send(GET[:5], GET[5:])) == 500
    assert [type(failure) for failure in server.failures] == [BrokenError, BrokenError]
    server.failures.clear()
    server.decide = lambda _request, _now: OK
    assert await server.send(GET) == OK.content


def nothing(*_: object) -> Any:
    """Return None, although the type of a handler does not allow it."""


async def test_none_as_response_affects_only_its_own_client(clock: MockClock, server: Server) -> None:
    server.decide = nothing
    assert await server.send_at_once(GET) == b""
    assert await server.send(GET) == b""
    assert [type(failure) for failure in server.failures] == [AttributeError, AttributeError]
    server.failures.clear()
    server.decide = lambda _request, _now: OK
    assert await server.send(GET) == OK.content


async def test_error_in_observe_is_reported_and_response_is_sent(clock: MockClock, server: Server) -> None:
    server.on_observe = broken
    assert await server.send_at_once(GET) == OK.content
    assert await server.send(GET[:5], GET[5:]) == OK.content
    assert [type(failure) for failure in server.failures] == [BrokenError, BrokenError]
    server.failures.clear()


async def test_observe_error_for_a_lost_client_does_not_end_the_server(clock: MockClock, server: Server) -> None:
    server.on_observe = broken
    client = await server.connect()
    await client.send_all(GET[:10])
    await settle()
    await reset(client)
    await settle()
    assert [type(failure) for failure in server.failures] == [BrokenError]
    server.failures.clear()
    assert await server.send(GET) == OK.content
    server.failures.clear()


async def test_error_in_wait_causes_a_500_for_one_client(clock: MockClock, server: Server) -> None:
    async def broken_wait() -> None:
        raise BrokenError

    server.decide = lambda _request, _now: NOT_YET
    server.arrival = broken_wait
    assert status_of(await server.send(GET)) == 500
    assert [type(failure) for failure in server.failures] == [BrokenError]
    server.failures.clear()


async def test_error_in_report_does_not_end_the_server(clock: MockClock) -> None:
    async with running(decide=broken, on_report=broken) as server:
        assert status_of(await server.send(GET)) == 500
        assert status_of(await server.send_at_once(GET)) == 500
