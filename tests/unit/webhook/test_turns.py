"""Test the queue for turns: the number of turns held at once is limited, and namespaces share the queue fairly."""

import pytest
import trio
import trio.testing

from sidecar.webhook.turns import FullError, Turns

MAX_WAITING, MAX_WAITING_OF_ONE = 32, 12


def turns_of(at_once: int = 1) -> Turns:
    return Turns(at_once=at_once, max_waiting=MAX_WAITING, max_waiting_of_one=MAX_WAITING_OF_ONE)


async def test_turns_follow_the_order_of_arrival() -> None:
    turns, order, most = turns_of(), list[int](), 0
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


async def test_several_turns_are_held_at_once() -> None:
    turns, running, most = turns_of(3), 0, 0

    async def work(number: int) -> None:
        nonlocal running, most
        async with turns.turn(f"namespace-{number % 4}"):
            running += 1
            most = max(most, running)
            await trio.testing.wait_all_tasks_blocked()
            running -= 1

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(work, number)
    assert (running, most) == (0, 3)


async def test_places_of_a_namespace_in_the_queue_are_limited() -> None:
    turns = turns_of()
    async with trio.open_nursery() as nursery, turns.turn("first"):
        for _ in range(MAX_WAITING_OF_ONE):
            nursery.start_soon(waiting, turns, "evil")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(FullError):
            await waiting(turns, "evil")
        nursery.start_soon(waiting, turns, "shop")
        await trio.testing.wait_all_tasks_blocked()
    await waiting(turns, "evil")


async def test_length_of_the_queue_is_limited() -> None:
    turns = turns_of()
    async with trio.open_nursery() as nursery, turns.turn("first"):
        for number in range(MAX_WAITING):
            nursery.start_soon(waiting, turns, f"namespace-{number}")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(FullError):
            await waiting(turns, "one-more")


async def test_cancelled_wait_leaves_the_queue() -> None:
    turns = turns_of()
    async with turns.turn("first"):
        for _ in range(5):
            with trio.move_on_after(0):
                await waiting(turns, "shop")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting, turns, "shop")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert turns.waiting("shop") == 0
    await waiting(turns, "shop")


async def order_of(turns: Turns, namespaces: list[str]) -> list[str]:
    """Return the order of turns. A wait that ends without a turn is in brackets."""
    order: list[str] = []

    async def work(namespace: str) -> None:
        try:
            async with turns.turn(namespace):
                order.append(namespace)
                await trio.lowlevel.checkpoint()
        except FullError:
            order.append(f"({namespace})")

    async with trio.open_nursery() as nursery, turns.turn("first"):
        for namespace in namespaces:
            nursery.start_soon(work, namespace)
            await trio.testing.wait_all_tasks_blocked()
    return order


async def test_namespaces_take_turns() -> None:
    assert await order_of(turns_of(), ["evil"] * 5 + ["shop", "cart", "shop"]) == [
        *("evil", "shop", "cart", "evil", "shop", "evil", "evil", "evil")
    ]


async def test_full_queue_accepts_a_namespace_with_few_places() -> None:
    """Check that the namespace with the most places in the queue loses its latest place."""
    hostile = [f"evil-{number % 3}" for number in range(MAX_WAITING)]
    order = await order_of(turns_of(), [*hostile, "shop"])
    assert order.count("(evil-0)") + order.count("(evil-1)") + order.count("(evil-2)") == 1
    assert order.index("shop") < 5
    assert "(shop)" not in order


async def test_burst_of_one_namespace_is_served() -> None:
    """Use eight Pods, as many as a ReplicaSet creates at once in its fourth step."""
    assert await order_of(turns_of(), ["shop"] * 8) == ["shop"] * 8


async def test_turn_of_a_cancelled_wait_goes_to_the_next() -> None:
    turns = turns_of()
    async with trio.open_nursery() as nursery:
        async with turns.turn("first"):
            nursery.start_soon(waiting, turns, "shop")
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await waiting(turns, "cart")
