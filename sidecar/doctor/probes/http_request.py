"""
Send one HTTP/1.1 request over a stream, and read the response up to a size limit.

h11 is available because httpx requires it.
"""

from typing import NamedTuple

import h11
import trio

MAX_BODY_BYTES = 1024 * 1024
"""
Maximum size of a response body. Credentials may exceed 256 KiB, because STS documents no maximum for session tokens.
"""

_READ_BYTES = 16 * 1024


class Response(NamedTuple):
    """A response, with header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Return a text without the body, because the body may hold credentials."""
        return f"Response(status={self.status})"


async def send_request(stream: trio.abc.Stream, method: str, target: str, headers: dict[str, str]) -> Response:
    """
    Send the request, and return the response.

    Raises trio's errors of the stream.
    Raises h11.ProtocolError if the response is not HTTP or is too large.
    """
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method=method, target=target, headers=list(headers.items()))
    sent = connection.send(request) or b""
    await stream.send_all(sent + (connection.send(h11.EndOfMessage()) or b""))
    head = await _next(stream, connection)
    while isinstance(head, h11.InformationalResponse):
        head = await _next(stream, connection)
    if not isinstance(head, h11.Response):
        raise h11.RemoteProtocolError("the connection closed before the response")
    body = b""
    # After the response to CONNECT, the stream continues with the tunnel and not with a body.
    while method != "CONNECT" and isinstance(event := await _next(stream, connection), h11.Data):
        body += event.data
        if len(body) > MAX_BODY_BYTES:
            raise h11.RemoteProtocolError(f"the response is larger than {MAX_BODY_BYTES} bytes")
    texts = {name.decode("ascii").lower(): value.decode("latin-1") for name, value in head.headers}
    return Response(head.status_code, texts, body)


async def _next(stream: trio.abc.Stream, connection: h11.Connection) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
    return event
