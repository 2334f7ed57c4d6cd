"""
HTTP for the local services: one request a connection, read and written by h11 over trio.

Rule: a connection costs a bounded time and a bounded memory, and whatever goes wrong in it ends only itself.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus

import h11
import trio

MAX_BODY_BYTES = 256 * 1024
"""STS requests are a few KiB: a token of at most 20,000 characters and a policy of 2,048."""

MAX_HEAD_BYTES = 64 * 1024
"""A presigned GET carries a whole request, session token included, in its target."""

CONNECTION_SECONDS = 30.0
"""Everything in one connection, a slow issuer's keys included. SDKs give up after 60."""

_READ_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request. Header names are lower case, in order, and may repeat. All but the method may hold secrets."""

    method: str
    target: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False, default=())
    body: bytes = field(repr=False, default=b"")

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """The first value of the header called `name` (lower case)."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole response. Its body may hold credentials, so it is not in `repr`."""

    status: int
    body: bytes = field(repr=False)
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


Answer = Callable[[Request], Awaitable[Reply]]


async def serve(listener: trio.SocketListener, answer: Answer, *, report: Callable[[Exception], None]) -> None:
    """Answer every connection until cancelled. `report` hears of faults of ours; the client gets a 500."""
    await trio.serve_listeners(partial(_converse, answer=answer, report=report), [listener])


def plain(status: int, message: str) -> Reply:
    """A sentence for a person."""
    return Reply(status, message.encode() + b"\n", "text/plain; charset=utf-8")


async def _converse(stream: trio.SocketStream, *, answer: Answer, report: Callable[[Exception], None]) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    try:
        with trio.move_on_after(CONNECTION_SECONDS):
            async with stream:
                await stream.send_all(await _exchange(stream, connection, answer, report))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client left, and there is nobody to tell
    except Exception as exc:  # noqa: BLE001  (one connection's fault must not end the server)
        report(exc)


async def _exchange(
    stream: trio.SocketStream, connection: h11.Connection, answer: Answer, report: Callable[[Exception], None]
) -> bytes:
    """Read one request; the bytes of its answer."""
    try:
        request = await _read_request(stream, connection)
    except h11.RemoteProtocolError as exc:
        return _encode(connection, plain(exc.error_status_hint, f"{exc}."))
    try:
        reply = await answer(request)
    except Exception as exc:  # noqa: BLE001  (whatever it is, the client is owed an answer)
        report(exc)
        reply = plain(500, "A fault of irsa-sidecar itself.")
    return _encode(connection, reply, has_body=request.method != "HEAD")


async def _read_request(stream: trio.SocketStream, connection: h11.Connection) -> Request:
    """Raises h11.RemoteProtocolError, whose `error_status_hint` is the status to answer with."""
    head = await _next_event(stream, connection)
    if not isinstance(head, h11.Request):
        raise h11.RemoteProtocolError("the connection ended before a request came")
    body = bytearray()
    while isinstance(event := await _next_event(stream, connection), h11.Data):
        body += event.data
        if len(body) > MAX_BODY_BYTES:
            raise h11.RemoteProtocolError(f"the body is over {MAX_BODY_BYTES} bytes", error_status_hint=413)
    return Request(
        method=head.method.decode("ascii"),
        target=head.target.decode("ascii"),
        headers=tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers),
        body=bytes(body),
    )


async def _next_event(stream: trio.SocketStream, connection: h11.Connection) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        if connection.they_are_waiting_for_100_continue:
            go_on = connection.send(h11.InformationalResponse(status_code=100, headers=[]))
            await stream.send_all(go_on or b"")
        connection.receive_data(await stream.receive_some(_READ_BYTES))
    return event


def _encode(connection: h11.Connection, reply: Reply, *, has_body: bool = True) -> bytes:
    """The bytes of the response; none when the client is in no state to get one, having said nothing and left."""
    if connection.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return b""
    headers = [
        ("Content-Type", reply.content_type),
        ("Content-Length", str(len(reply.body))),
        ("Connection", "close"),
        *reply.headers,
    ]
    reason = HTTPStatus(reply.status).phrase.encode("ascii")
    head = connection.send(h11.Response(status_code=reply.status, headers=headers, reason=reason)) or b""
    return head + reply.body if has_body else head
