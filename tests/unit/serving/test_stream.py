"""Test that a TLS connection whose client disconnects does not affect another TLS connection of the process."""

import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import pytest
import trio

from sidecar.serving.stream import Stream
from sidecar.webhook.certificate.issue import renewed
from sidecar.webhook.tls import context_with

ROUNDS = 20


def reset(client: socket.socket) -> None:
    """Close the connection so that the kernel sends a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def end(client: socket.socket) -> None:
    client.close()


class Other:
    """Another TLS connection in memory, such as that to the API server. Its client waits for a response."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        self._to_client, self._to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._server = server.wrap_bio(self._to_server, self._to_client, server_side=True)
        self._client = client.wrap_bio(self._to_client, self._to_server)
        for _ in range(2):
            for side in (self._client, self._server):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()

    def check(self) -> None:
        """Check that the client still waits: nothing else happened on this connection."""
        with pytest.raises(ssl.SSLWantReadError):
            self._client.read()


def handshake(client: ssl.SSLSocket, leave: Callable[[socket.socket], None] | None) -> None:
    with suppress(OSError):  # the client may reject the certificate
        client.do_handshake()
    if leave:
        leave(client)


async def connected(
    client_context: ssl.SSLContext,
    server_context: ssl.SSLContext,
    leave: Callable[[socket.socket], None] | None = None,
) -> tuple[Stream, ssl.SSLSocket]:
    """Return the server's stream and the client's socket after the handshake. With `leave`, the client disconnects."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    accepted.settimeout(0)
    stream = Stream(accepted)
    secured = client_context.wrap_socket(plain, do_handshake_on_connect=False, server_hostname="127.0.0.1")
    async with trio.open_nursery() as nursery:

        async def shake() -> None:
            with suppress(OSError):
                await stream.handshake(server_context)

        nursery.start_soon(shake)
        await trio.to_thread.run_sync(handshake, secured, leave)
    return stream, secured


def contexts(*, trusts: bool) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server and of a client. With `trusts`, the client trusts the server's certificate."""
    client = ssl.create_default_context()
    if trusts:
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return context_with(renewed(None, ["127.0.0.1"], datetime.now(UTC)).serving), client


async def use(stream: Stream, other: Other, size: int) -> None:
    """Send, receive and close on the stream, and check the other connection after each operation."""
    for attempt in (partial(stream.send_now, b"a" * size), partial(stream.send_now, b"b")):
        with suppress(OSError):
            attempt()
        other.check()
    with suppress(OSError), trio.fail_after(5):
        while await stream.receive():
            pass
    other.check()
    stream.close()
    other.check()


@pytest.mark.parametrize("leave", [reset, end])
@pytest.mark.parametrize("size", [0, 100, 4 * 1024 * 1024])
async def test_lost_client_does_not_affect_another_connection(
    leave: Callable[[socket.socket], None], size: int
) -> None:
    server, client = contexts(trusts=True)
    other = Other(server, client)
    for _ in range(ROUNDS):
        stream, secured = await connected(client, server)
        leave(secured)
        await use(stream, other, size)


@pytest.mark.parametrize("leave", [reset, end])
@pytest.mark.parametrize("trusts", [True, False])
async def test_client_lost_in_the_handshake_affects_no_other(
    leave: Callable[[socket.socket], None],
    trusts: bool,  # noqa: FBT001
) -> None:
    server, client = contexts(trusts=trusts)
    other = Other(server, contexts(trusts=True)[1])
    for _ in range(ROUNDS):
        stream, _ = await connected(client, server, leave)
        other.check()
        await use(stream, other, 0)
