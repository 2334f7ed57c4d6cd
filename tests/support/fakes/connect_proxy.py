"""Fake a proxy that forwards every CONNECT and plain request to one local port, or rejects them with a status."""

import ssl

import trio


class ConnectProxy:
    """A proxy, which uses TLS if `tls` is set. `heads` has the head of each request that the proxy received."""

    def __init__(self, leads_to: int, status: str = "200 OK", *, tls: ssl.SSLContext | None = None) -> None:
        self._leads_to = leads_to
        self._status = status
        self._tls = tls
        self.heads: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return self.url_with("")

    def url_with(self, user_info: str) -> str:
        """Return the proxy's URL with this `user_info`, which ends with the @."""
        return f"{'https' if self._tls else 'http'}://{user_info}127.0.0.1:{self.port}"

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._converse, listeners)

    async def _converse(self, connection: trio.SocketStream) -> None:
        client: trio.abc.Stream = connection
        if self._tls is not None:
            client = trio.SSLStream(connection, self._tls, server_side=True, https_compatible=True)
        try:
            async with client:
                await self._answer(client)
        except trio.BrokenResourceError:
            pass  # a client that does not trust the proxy closes the connection during the handshake

    async def _answer(self, client: trio.abc.Stream) -> None:
        request = bytes(await client.receive_some())
        if not request[:1].isalpha():  # the client sent no bytes, or a TLS handshake
            await client.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return
        self.heads.append(request.decode())
        is_tunnel, is_allowed = request.startswith(b"CONNECT "), self._status.startswith("200")
        if is_tunnel or not is_allowed:
            await client.send_all(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
        if is_allowed:
            async with await trio.open_tcp_stream("127.0.0.1", self._leads_to) as server:
                if not is_tunnel:
                    await server.send_all(request)
                await _join(client, server)


async def _join(one: trio.abc.Stream, other: trio.abc.Stream) -> None:
    """Copy bytes until either side closes."""

    async def copy(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        try:
            while data := await source.receive_some():
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(copy, one, other)
        nursery.start_soon(copy, other, one)
