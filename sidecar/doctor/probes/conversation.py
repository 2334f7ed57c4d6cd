"""One HTTP/1.1 request over a stream and its answer, read up to a cap. h11 comes with httpx."""

from typing import NamedTuple

import h11
import trio

MAX_BODY_BYTES = 1024 * 1024
"""Credentials may be 256 KiB and more: STS states no maximum for session tokens that clients may rely on."""

_READ_BYTES = 16 * 1024


class Answer(NamedTuple):
    """Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Without the body, which may hold credentials."""
        return f"Answer(status={self.status})"


async def ask(stream: trio.abc.Stream, method: str, target: str, headers: dict[str, str]) -> Answer:
    """Raises trio's errors of the stream, and h11.ProtocolError for what is no HTTP or too much of it."""
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method=method, target=target, headers=list(headers.items()))
    sent = connection.send(request) or b""
    await stream.send_all(sent + (connection.send(h11.EndOfMessage()) or b""))
    head = await _next(stream, connection)
    while isinstance(head, h11.InformationalResponse):
        head = await _next(stream, connection)
    if not isinstance(head, h11.Response):
        raise h11.RemoteProtocolError("the connection ended before an answer came")
    body = b""
    # After CONNECT what follows is no body but the tunnel.
    while method != "CONNECT" and isinstance(event := await _next(stream, connection), h11.Data):
        body += event.data
        if len(body) > MAX_BODY_BYTES:
            raise h11.RemoteProtocolError(f"the answer is over {MAX_BODY_BYTES} bytes")
    texts = {name.decode("ascii").lower(): value.decode("latin-1") for name, value in head.headers}
    return Answer(head.status_code, texts, body)


async def _next(stream: trio.abc.Stream, connection: h11.Connection) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
    return event
