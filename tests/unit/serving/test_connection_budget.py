"""Test the choice of the connections to close when all connections exceed the limits."""

from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from sidecar.serving import connection_budget
from sidecar.serving import http_server as server
from sidecar.serving.connection_budget import Budget
from sidecar.webhook.certificate.issue import renewed
from sidecar.webhook.tls import Tls
from tests.unit.serving.running_http_server import HALF, LARGE, POST, all_of, serving, until


async def test_client_with_the_oldest_unread_response_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the budget is empty at the end."""
    monkeypatch.setattr(connection_budget, "MAX_WAITING_BYTES", 2 * server.RESPONSE_COPIES * len(LARGE))
    budget = Budget()
    async with serving(budget=budget) as served, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await served.connect()) for _ in range(3)]
        for count, stream in enumerate(streams):
            await stream.send_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            while len(budget.writing) < min(count + 1, 2):
                await trio.testing.wait_all_tasks_blocked(0.001)
        with suppress(trio.BrokenResourceError):
            assert len(await all_of(streams[0])) < len(LARGE)
        received = 0
        while received < len(LARGE):
            received += len(await streams[1].receive_some())
        await streams[2].aclose()
        while budget.writing:
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert budget.waiting_bytes == 0


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\n", HALF + b"a"])
async def test_new_connection_closes_the_oldest_waiting_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connection_budget, "MAX_CONNECTIONS", 2)
    async with serving() as served, await served.connect() as oldest, await served.connect() as newer:
        for stream in (oldest, newer):
            await stream.send_all(sent) if sent else None
            await trio.testing.wait_all_tasks_blocked(0.01)
        async with await served.connect() as honest:
            await honest.send_all(POST)
            await until(honest, b"POST /inject 3")
            assert await all_of(oldest) == b""
        assert served.reported == []


async def test_tls_handshake_is_closed_for_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_budget, "MAX_CONNECTIONS", 1)
    tls = Tls()
    tls.use(renewed(None, ["127.0.0.1"], datetime.now(UTC)).serving)
    async with serving(lambda: tls.context) as served, await served.connect() as silent:
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with await served.connect() as newer:
            assert await all_of(silent) == b""
            await trio.testing.wait_all_tasks_blocked(0.01)
            await newer.send_all(b"GET / HTTP/1.1\r\n\r\n")
            assert b"HTTP" not in await all_of(newer)
        assert served.reported == []


async def test_connection_with_the_oldest_incomplete_body_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_budget, "MAX_WAITING_BYTES", 1500)
    async with serving() as served, await served.connect() as one, await served.connect() as other:
        for stream in (one, other):
            await stream.send_all(HALF + b"a" * 800)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await all_of(one) == b""
        await other.send_all(b"a" * 200)
        await until(other, b"POST / 1000")
        async with await served.connect() as next_one:
            await next_one.send_all(HALF + b"a" * 1000)
            await until(next_one, b"POST / 1000")


async def test_listeners_share_one_budget_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_budget, "MAX_WAITING_BYTES", 1500)
    budget = Budget()
    async with (
        serving(budget=budget) as one,
        serving(budget=budget) as other,
        await one.connect() as first,
        await other.connect() as second,
    ):
        await first.send_all(HALF + b"a" * 800)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await second.send_all(HALF + b"a" * 800)
        assert await all_of(first) == b""
        await second.send_all(b"a" * 200)
        await until(second, b"POST / 1000")
    assert budget.waiting_bytes == 0


async def test_listeners_share_one_budget_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_budget, "MAX_CONNECTIONS", 1)
    budget = Budget()
    async with serving(budget=budget) as one, serving(budget=budget) as other, await one.connect() as silent:
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with await other.connect() as newer:
            assert await all_of(silent) == b""
            await newer.send_all(POST)
            await until(newer, b"POST /inject 3")


async def test_connection_after_a_complete_request_is_closed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server keeps such connections longest, because the API server does not repeat a POST after a close."""
    monkeypatch.setattr(connection_budget, "MAX_CONNECTIONS", 2)
    async with serving() as served, await served.connect() as known:
        await known.send_all(POST)
        await until(known, b"POST /inject 3")
        async with await served.connect() as stranger:
            await trio.testing.wait_all_tasks_blocked(0.01)
            async with await served.connect() as newer:
                assert await all_of(stranger) == b""
                await newer.send_all(POST)
                await until(newer, b"POST /inject 3")
        await known.send_all(POST)
        await until(known, b"POST /inject 3")
