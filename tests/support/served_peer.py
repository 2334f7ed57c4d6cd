"""Run HTTP servers for tests on free loopback ports. Tests use real connections to these servers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import trio

from sidecar.local.services import HTTP_LIMITS
from sidecar.serving.http_message import Request, Response
from sidecar.serving.http_server import Respond, Server
from sidecar.serving.listen import listen


def raise_exception(exc: Exception) -> None:
    raise exc


def start_server(nursery: trio.Nursery, respond: Respond, report: Callable[[Exception], None] = raise_exception) -> str:
    """
    Serve until the nursery is cancelled, and return the address once the server accepts connections.

    By default, an exception of `respond` fails the test.
    """
    listeners = listen("--listen", ("127.0.0.1", 0))
    nursery.start_soon(Server(respond, report, limits=HTTP_LIMITS).serve, listeners)
    return f"127.0.0.1:{listeners[0].getsockname()[1]}"


@asynccontextmanager
async def serving(respond: Respond) -> AsyncIterator[str]:
    """Serve until the block ends, and yield the URL of the server without a path."""
    async with trio.open_nursery() as nursery:
        yield f"http://{start_server(nursery, respond)}"
        nursery.cancel_scope.cancel()


class Peer(Protocol):
    async def respond(self, request: Request) -> Response: ...


Served = TypeVar("Served", bound=Peer)


@asynccontextmanager
async def serving_peer(make: Callable[[str], Served]) -> AsyncIterator[Served]:
    """Serve the peer that `make` returns for the server's URL."""
    listeners = listen("--listen", ("127.0.0.1", 0))
    peer = make(f"http://127.0.0.1:{listeners[0].getsockname()[1]}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(peer.respond, raise_exception, limits=HTTP_LIMITS).serve, listeners)
        yield peer
        nursery.cancel_scope.cancel()
