"""
Run the whole daemon inside a test: its real listeners on loopback, a fake exchange instead of STS, and virtual time.

Clients read until the server closes or resets the connection.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing
from trio.testing import MockClock

from sidecar.daemon.daemon import Daemon, Listeners, make_daemon
from sidecar.refresh.refresher import Sources
from sidecar.serving.listen import listen
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.support.users import socket_of
from tests.unit.daemon.test_daemon import make_config, make_log

SECRET = "endpoint-secret-of-the-pod"
GET = f"GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {SECRET}\r\n\r\n".encode()
"""The request of an SDK for credentials."""

PUT = b"PUT /latest/api/token HTTP/1.1\r\nHost: 127.0.0.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n"
"""The first request of an SDK to EC2's metadata service."""


@dataclass
class Served:
    """A daemon with both endpoints. `events` is its log, and `statuses` counts its responses by status."""

    daemon: Daemon
    sts: FakeExchange
    address: tuple[str, int]
    imds_address: tuple[str, int]
    events: list[Any]
    clients: list[trio.SocketStream] = field(default_factory=list)

    @property
    def statuses(self) -> dict[int, int]:
        return self.daemon.metrics.requests

    def logged(self, event: str) -> list[Any]:
        return [entry for entry in self.events if entry["event"] == event]

    async def connect(self, *, imds: bool = False) -> trio.SocketStream:
        """Open a connection, which closes with the daemon unless the test closes it earlier."""
        client = await trio.open_tcp_stream(*(self.imds_address if imds else self.address))
        self.clients.append(client)
        return client

    async def ask_as(self, uid: int, request: bytes = GET, *, imds: bool = False) -> bytes:
        """Send the request as this user, and return the response."""
        client = trio.socket.from_stdlib_socket(socket_of(uid))
        await client.connect(self.imds_address if imds else self.address)
        async with trio.SocketStream(client) as stream:
            await stream.send_all(request)
            return await read_to_the_end(stream)

    async def send(self, *pieces: bytes, ends: bool = False, imds: bool = False) -> bytes:
        """Send the pieces one by one, half-close if `ends` is set, and return all bytes received."""
        async with await self.connect(imds=imds) as client:
            with suppress(trio.BrokenResourceError):  # the server may close after enough bytes
                for piece in pieces:
                    await client.send_all(piece)
                    await trio.lowlevel.checkpoint()
                if ends:
                    await client.send_eof()
            return await read_to_the_end(client)


async def read_to_the_end(client: trio.SocketStream) -> bytes:
    received = b""
    with suppress(trio.BrokenResourceError):
        async for piece in client:
            received += piece
    return received


async def settle() -> None:
    """Wait until the daemon has processed all bytes."""
    await trio.testing.wait_all_tasks_blocked(0.01)


def status_of(response: bytes) -> int:
    """Return the status of the response, and check that the bytes are one complete response."""
    head, separator, body = response.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    assert separator, response
    assert headers["Connection"] == "close"
    status = int(line.split()[1])
    is_answer_to_head = status == 405 and not body
    assert is_answer_to_head or len(body) == int(headers["Content-Length"]), "not one complete response"
    return status


@asynccontextmanager
async def serving(
    clock: MockClock,
    wall: FakeWall,
    volume: FakeVolume,
    sts: FakeExchange | None = None,
    *,
    has_token: bool = True,
    **role: Any,
) -> AsyncIterator[Served]:
    """
    Run a daemon that requires SECRET, on free ports. If the test passes no `sts`, wait for the first credentials.

    `role` has further settings of the role.
    """
    clock.autojump_threshold = 0.02  # the kernel needs time to deliver the bytes
    if has_token:
        volume.write(service_account_token(wall.time()))
    secret_file = volume.directory / "authorization"
    secret_file.write_text(SECRET)
    config = make_config(volume.path)
    served_role = config.role._replace(authorization_token_file=str(secret_file), **role)
    config = config._replace(roles=(served_role,))
    events: list[Any] = []
    fake = sts or FakeExchange(wall.time)
    daemon = make_daemon(config, fake, sources=Sources(wall.clock, lambda: 0.5), log=make_log(events))
    credentials, imds = (listen("LISTEN", ("127.0.0.1", 0)) for _ in range(2))
    served = Served(daemon, fake, credentials[0].getsockname()[:2], imds[0].getsockname()[:2], events)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.serve, Listeners(credentials, imds=imds))
            if sts is None:
                await daemon.roles.first_credentials()
            yield served
            nursery.cancel_scope.cancel()
    finally:
        for client in served.clients:
            client.socket.close()
