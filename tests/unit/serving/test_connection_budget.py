"""Test the choice of the connections to close when all connections exceed the limits."""

from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from sidecar.serving import connection_budget
from sidecar.serving import http_server as server
from sidecar.serving.connection_budget import Budget, Phase, Place, waiting
from sidecar.webhook.certificate.issue import renewed
from sidecar.webhook.tls import Tls
from tests.unit.serving.running_http_server import HALF, LARGE, POST, all_of, serving, until


def in_phase(budget: Budget, phase: Phase) -> int:
    return sum(place.phase is phase and place.scope is not None for place in budget._places)


async def test_client_with_the_oldest_unread_response_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the budget is empty at the end."""
    monkeypatch.setattr(connection_budget, "MAX_WAITING_BYTES", 2 * server.RESPONSE_COPIES * len(LARGE))
    budget = Budget()
    async with serving(budget=budget) as served, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await served.connect()) for _ in range(3)]
        for count, stream in enumerate(streams):
            await stream.send_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            while in_phase(budget, Phase.WRITING) < min(count + 1, 2):
                await trio.testing.wait_all_tasks_blocked(0.001)
        with suppress(trio.BrokenResourceError):
            assert len(await all_of(streams[0])) < len(LARGE)
        received = 0
        while received < len(LARGE):
            received += len(await streams[1].receive_some())
        await streams[2].aclose()
        while in_phase(budget, Phase.WRITING):
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


async def test_slow_request_is_closed_before_a_later_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this order, clients that send slowly would keep all places but one, and others would share one place."""
    monkeypatch.setattr(connection_budget, "MAX_CONNECTIONS", 2)
    async with serving() as served, await served.connect() as slow:
        await slow.send_all(b"P")
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with await served.connect() as later, await served.connect() as latest:
            assert await all_of(slow) == b""
            for stream in (later, latest):
                await stream.send_all(POST)
                await until(stream, b"POST /inject 3")


async def test_busy_connection_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client always sends its next request before the response, so the server never waits for a request."""
    monkeypatch.setattr(connection_budget, "MAX_CONNECTIONS", 1)
    async with serving() as served, await served.connect() as busy:
        await busy.send_all(POST)
        assert b"Connection: close" not in await until(busy, b"POST /inject 3")
        await busy.send_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n" + POST * 100)
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with await served.connect() as newer:
            await newer.send_all(POST)
            await trio.testing.wait_all_tasks_blocked(0.01)
            served.go_on.set()
            await until(newer, b"POST /inject 3")
        response = b""
        with suppress(trio.BrokenResourceError):
            response = await all_of(busy)
        assert response.count(b"HTTP/1.1") <= 1


async def test_connection_that_lingers_is_closed_first(autojump_clock: trio.testing.MockClock) -> None:
    budget = Budget(2)
    async with serving(budget=budget) as served, await served.connect() as silent, await served.connect() as rejected:
        await rejected.send_all(b"nonsense\r\n\r\n")
        await until(rejected, b"not valid HTTP/1.1.\n")
        await trio.testing.wait_all_tasks_blocked(0.01)
        began_at = trio.current_time()
        async with await served.connect() as newer:
            await newer.send_all(POST)
            await until(newer, b"POST /inject 3")
            await silent.send_all(POST)
            await until(silent, b"POST /inject 3")
        assert trio.current_time() - began_at < 1


class Clients:
    """Connections without sockets. `closed` has their names, in the order in which the budget closed them."""

    def __init__(self, budget: Budget, nursery: trio.Nursery) -> None:
        self._budget = budget
        self._nursery = nursery
        self.closed: list[str] = []

    async def add(self, name: str, phase: Phase | None = Phase.IDLE, *, is_known: bool = False, size: int = 0) -> None:
        """Add a connection that waits for its client. Without a phase, the server works for the connection."""
        self._nursery.start_soon(self._run, name, phase, is_known, size)
        await trio.testing.wait_all_tasks_blocked()

    async def _run(self, name: str, phase: Phase | None, is_known: bool, size: int) -> None:  # noqa: FBT001
        async with self._budget.place() as place:
            if is_known:
                self._budget.complete(place)
            await self._wait(place, phase, size)
            self.closed.append(name)

    async def _wait(self, place: Place, phase: Phase | None, size: int) -> None:
        if phase is None:
            self._budget.resize(place, size)
            await trio.sleep_forever()
        else:
            with waiting(self._budget, place, phase, 1e9):
                self._budget.resize(place, size)
                await trio.sleep_forever()


ORDERS = {
    "the oldest of the new clients": (["new", "new reading", "new"], ["0", "1"]),
    "new clients before known ones": (["known", "new", "new"], ["1", "2"]),
    "half of the places are for new clients": (["known", "known", "known reading", "new"], ["0", "3"]),
    "an idle client before one with a request": (["known reading", "known"], ["1", "0"]),
    "a client after its last response before all": (["known", "new", "new lingering"], ["2", "1"]),
    "no client whose response has no end": (["new streaming", "known"], ["1"]),
    "no client for which the server works": (["new working", "new"], ["1"]),
}


@pytest.mark.parametrize("kind", ORDERS)
async def test_order_in_which_connections_are_closed(kind: str) -> None:
    """Each further connection closes an earlier connection, and stays open because the server works for it."""
    before, expected = ORDERS[kind]
    budget = Budget(len(before))
    async with trio.open_nursery() as nursery:
        clients = Clients(budget, nursery)
        for number, text in enumerate(before):
            age, _, phase = text.partition(" ")
            in_work = phase == "working"
            await clients.add(str(number), None if in_work else Phase(phase or "idle"), is_known=age == "known")
        for number in range(len(expected)):
            assert clients.closed == expected[:number]
            await clients.add("further", None)
        assert clients.closed == expected
        assert budget.closed == {"connections": len(expected)}
        nursery.cancel_scope.cancel()


async def test_known_clients_cannot_keep_new_clients_out() -> None:
    """Known clients hold all places. New clients then replace them, and not each other."""
    async with trio.open_nursery() as nursery:
        clients = Clients(Budget(10), nursery)
        for number in range(10):
            await clients.add(f"known {number}", Phase.READING, is_known=True)
        for number in range(5):
            await clients.add(f"new {number}")
        assert clients.closed == [f"known {number}" for number in range(5)]
        nursery.cancel_scope.cancel()


async def test_only_as_many_connections_close_as_wait_for_a_place() -> None:
    """One connection ends late after its wait is cancelled. Connections that begin to wait meanwhile stay open."""
    budget = Budget(3)
    may_end = trio.Event()

    async def slow_end() -> None:
        async with budget.place() as place:
            with waiting(budget, place, Phase.IDLE, 1e9):
                await trio.sleep_forever()
            with trio.CancelScope(shield=True):
                await may_end.wait()

    async with trio.open_nursery() as nursery, budget.place() as place:
        clients = Clients(budget, nursery)
        nursery.start_soon(slow_end)
        await trio.testing.wait_all_tasks_blocked()
        await clients.add("other")
        await clients.add("waits for a place", None)
        with waiting(budget, place, Phase.IDLE, 0):
            await trio.sleep_forever()
        assert (clients.closed, budget.closed) == ([], {"connections": 1})
        may_end.set()
        await trio.testing.wait_all_tasks_blocked()
        assert clients.closed == []
        nursery.cancel_scope.cancel()


async def test_cancelled_wait_for_a_place_leaves_the_queue() -> None:
    budget = Budget(1)
    async with trio.open_nursery() as nursery, budget.place():
        with trio.move_on_after(0):
            async with budget.place():
                pytest.fail("the place was free")
        nursery.start_soon(Clients(budget, nursery).add, "cancelled")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    async with budget.place():
        pass
    async with trio.open_nursery() as nursery:
        async with budget.place():
            await Clients(budget, nursery).add("called", None)
        nursery.cancel_scope.cancel()  # after the place was given, and before the task runs
    async with budget.place():
        pass


async def test_queue_for_places_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel holds the other connections, and uses much less memory."""
    monkeypatch.setattr(connection_budget, "MAX_QUEUED", 2)
    budget, is_short = Budget(1), trio.Event()

    async def wait_for_short_queue() -> None:
        await budget.wait_for_short_queue()
        is_short.set()

    async with trio.open_nursery() as nursery:
        clients = Clients(budget, nursery)
        async with budget.place():
            for number in range(2):
                await clients.add(str(number), None)
            nursery.start_soon(wait_for_short_queue)
            await trio.testing.wait_all_tasks_blocked()
            assert not is_short.is_set()
        await trio.testing.wait_all_tasks_blocked()
        assert is_short.is_set()
        await budget.wait_for_short_queue()
        nursery.cancel_scope.cancel()


async def test_connections_are_closed_until_the_bytes_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close the oldest bodies, also of known clients. Bytes of closing connections do not count twice."""
    monkeypatch.setattr(connection_budget, "MAX_WAITING_BYTES", 100)
    budget = Budget()
    async with trio.open_nursery() as nursery:
        clients = Clients(budget, nursery)
        await clients.add("known", Phase.READING, is_known=True, size=30)
        for number in range(3):
            await clients.add(str(number), Phase.READING, size=20)
        await clients.add("unread response", Phase.WRITING, size=10)
        await clients.add("nothing yet", Phase.READING)
        assert clients.closed == []
        await clients.add("large", Phase.READING, size=60)
        assert set(clients.closed) == {"unread response", "known", "0"}
        assert budget.waiting_bytes == 100
        assert budget.closed == {"bytes": 3}
        nursery.cancel_scope.cancel()
    assert budget.waiting_bytes == 0


async def test_bytes_in_work_cannot_be_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_budget, "MAX_WAITING_BYTES", 100)
    async with trio.open_nursery() as nursery:
        clients = Clients(Budget(), nursery)
        await clients.add("in work", None, size=200)
        await clients.add("reading", Phase.READING, size=1)
        assert clients.closed == ["reading"]
        nursery.cancel_scope.cancel()
