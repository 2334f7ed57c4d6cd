"""One expensive review at a time, and no namespace that takes the places of the others."""

import pytest
import trio
import trio.testing

from sidecar.webhook.turns import MAX_WAITING, MAX_WAITING_OF_ONE, FullError, Turns


async def test_one_turn_at_a_time_in_the_order_of_arrival() -> None:
    turns, order, most = Turns(), list[int](), 0
    running = 0

    async def work(number: int) -> None:
        nonlocal running, most
        async with turns.turn(f"namespace-{number}"):
            running += 1
            most = max(most, running)
            await trio.testing.wait_all_tasks_blocked()
            order.append(number)
            running -= 1

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(work, number)
            await trio.testing.wait_all_tasks_blocked()
    assert (order, most) == (list(range(10)), 1)


async def waiting(turns: Turns, namespace: str) -> None:
    async with turns.turn(namespace):
        pass


async def test_a_namespace_has_two_places_and_leaves_the_others_free() -> None:
    turns = Turns()
    async with trio.open_nursery() as nursery, turns.turn("first"):
        for _ in range(MAX_WAITING_OF_ONE):
            nursery.start_soon(waiting, turns, "evil")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(FullError):
            await waiting(turns, "evil")
        nursery.start_soon(waiting, turns, "shop")
        await trio.testing.wait_all_tasks_blocked()
    await waiting(turns, "evil")


async def test_the_queue_is_bounded_in_all() -> None:
    turns = Turns()
    async with trio.open_nursery() as nursery, turns.turn("first"):
        for number in range(MAX_WAITING):
            nursery.start_soon(waiting, turns, f"namespace-{number}")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(FullError):
            await waiting(turns, "one-more")


async def test_who_gives_up_waiting_leaves_the_place() -> None:
    turns = Turns()
    async with turns.turn("first"):
        for _ in range(5):
            with trio.move_on_after(0):
                await waiting(turns, "shop")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting, turns, "shop")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert turns._waiting.total() == 0
