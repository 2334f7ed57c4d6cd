"""A peer of a test on a free loopback port, spoken to over real HTTP."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol, TypeVar

import trio

from sidecar.local import http
from sidecar.local.http import Reply, Request


class Peer(Protocol):
    async def answer(self, request: Request) -> Reply: ...


Served = TypeVar("Served", bound=Peer)


@asynccontextmanager
async def serving_peer(make: Callable[[str], Served]) -> AsyncIterator[Served]:
    """What `make` makes of the peer's URL, while it is served. What its `answer` raises fails the test."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    served = make(f"http://127.0.0.1:{listener.socket.getsockname()[1]}")

    def report(exc: Exception) -> None:
        raise exc

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(partial(http.serve, listener, served.answer, report=report))
        yield served
        nursery.cancel_scope.cancel()
