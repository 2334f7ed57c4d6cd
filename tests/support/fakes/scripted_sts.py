"""
Fake an STS with a script: each connection gets the next `Reply`, and the last reply repeats.

The fake is a real server on a loopback port. It writes HTTP/1.1 itself, so that it can also send a response late, byte
by byte or only in part, or reset the connection. It reads one request per connection, and stores each request in
`requests`.
"""

import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

import trio

GOOD_BODY = """\
<{operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <{operation}Result>
    <AssumedRoleUser>
      <AssumedRoleId>AROA3XFRBF535PLBIFPI4:shop.cart</AssumedRoleId>
      <Arn>arn:aws:sts::{account_id}:assumed-role/cart/shop.cart</Arn>
    </AssumedRoleUser>
    <Credentials>
      <AccessKeyId>{access_key_id}</AccessKeyId>
      <SecretAccessKey>{access_key_id}/secret</SecretAccessKey>
      <SessionToken>{access_key_id}/session</SessionToken>
      <Expiration>{expiration}</Expiration>
    </Credentials>
  </{operation}Result>
</{operation}Response>"""

ERROR_BODY = "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reply:
    """
    One response and its faults.

    After `delay_seconds` the server sends all bytes at once, or one byte every `drip_seconds`. `raw` replaces all
    bytes. If `cut_after` is not None, the server sends only that many bytes. Then it closes the connection, or resets
    it if `reset` is true.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    delay_seconds: float = 0.0
    drip_seconds: float = 0.0
    cut_after: int | None = None
    reset: bool = False

    @property
    def wire(self) -> bytes:
        """Return the bytes that the server sends."""
        return (self._whole() if self.raw is None else self.raw)[: self.cut_after]

    def _whole(self) -> bytes:
        headers = {"Content-Type": "text/xml", "Content-Length": str(len(self.body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request. `headers` has lower-case names and includes repeated headers."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


def good_body(
    access_key_id: str,
    expiration: str,
    *,
    operation: str = "AssumeRoleWithWebIdentity",
    account_id: str = "111122223333",
) -> bytes:
    """Return a response body of STS with credentials, in XML."""
    return GOOD_BODY.format(
        access_key_id=access_key_id, expiration=expiration, operation=operation, account_id=account_id
    ).encode()


def good_reply(
    access_key_id: str = "ASIAFAKE0001",
    *,
    expiration: str = "2027-01-15T09:00:00Z",
    date: str | None = None,
    operation: str = "AssumeRoleWithWebIdentity",
    account_id: str = "111122223333",
) -> Reply:
    """Return a response with credentials. `date` is its `Date` header, such as `Fri, 15 Jan 2027 08:00:00 GMT`."""
    body = good_body(access_key_id, expiration, operation=operation, account_id=account_id)
    return Reply(200, body, {"Date": date} if date is not None else NO_HEADERS)


def error_reply(status: int, code: str, message: str = "scripted", headers: Mapping[str, str] = NO_HEADERS) -> Reply:
    return Reply(status, ERROR_BODY.format(code=code, message=message).encode(), headers)


class ScriptedSts:
    """
    An STS that returns scripted responses. It records each request in `requests`, and the first request sets `called`.

    Use `await nursery.start(sts.serve)`, then `sts.url`. With `tls` the URL is HTTPS. `host` is the host name in the
    URL, which must resolve to 127.0.0.1.
    """

    def __init__(
        self, replies: Sequence[Reply] = (), *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.replies = list(replies) or [good_reply()]
        self.requests: list[Recorded] = []
        self.by_role: dict[str, Reply] = {}
        """The fixed responses by role ARN, which replace the script."""
        self.called = trio.Event()
        self.port = 0
        self._tls = tls
        self._host = host

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}/"

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._converse, listeners)

    async def _converse(self, connection: trio.SocketStream) -> None:
        # A client may close the connection early, or reject our certificate.
        with suppress(trio.BrokenResourceError):
            async with connection:
                await self._answer(connection)

    async def _answer(self, connection: trio.SocketStream) -> None:
        stream: trio.abc.Stream = connection
        if self._tls is not None:
            stream = trio.SSLStream(connection, self._tls, server_side=True, https_compatible=True)
        request = await _read_request(stream)
        if request is None:
            return
        self.requests.append(request)
        self.called.set()
        reply = self._reply_to(request)
        await _send(reply, stream)
        if reply.reset:
            # A close with a linger time of zero makes the kernel send RST (socket(7), SO_LINGER).
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _reply_to(self, request: Recorded) -> Reply:
        for role_arn, reply in self.by_role.items():
            if role_arn.encode() in unquote_to_bytes(request.body):
                return reply
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


async def _send(reply: Reply, stream: trio.abc.Stream) -> None:
    await trio.sleep(reply.delay_seconds)
    wire = reply.wire
    step = 1 if reply.drip_seconds else max(len(wire), 1)
    for start in range(0, len(wire), step):
        await stream.send_all(wire[start : start + step])
        await trio.sleep(reply.drip_seconds)


async def _read_request(stream: trio.abc.Stream) -> Recorded | None:
    """Return the whole request, or None if the client closes the connection before the request is complete."""
    received = b""
    while True:
        head, found, body = received.partition(b"\r\n\r\n")
        if found:
            line, *fields = head.decode().split("\r\n")
            pairs = (field.partition(":") for field in fields)
            headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
            if len(body) >= int(dict(headers).get("content-length", "0")):
                return Recorded(line, headers, body)
        more = await stream.receive_some()
        if not more:
            return None
        received += more
