"""Serve a port that records requests: either in front of the endpoint, or as a proxy that rejects all requests."""

from contextlib import suppress

import trio

_REFUSAL = b"HTTP/1.1 502 Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Tap:
    """
    A port that stores the first line of each request in `lines`.

    The port forwards requests to `target` and returns the response. Without a target it rejects the request.
    """

    def __init__(self, target: tuple[str, int] | None = None) -> None:
        self.lines: list[str] = []
        self._more = trio.Event()
        self.url = ""
        self._target = target

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        task_status.started()
        await trio.serve_listeners(self._converse, [listener])

    async def wait_for_requests(self, count: int) -> None:
        """Wait until this number of requests has arrived."""
        while len(self.lines) < count:
            await self._more.wait()

    async def _converse(self, client: trio.SocketStream) -> None:
        # A client may close early.
        with suppress(trio.BrokenResourceError):
            async with client:
                request = await client.receive_some()
                self._note(request)
                if self._target is None:
                    await client.send_all(_REFUSAL)
                    return
                async with await trio.open_tcp_stream(*self._target) as endpoint:
                    await endpoint.send_all(request)
                    async for piece in endpoint:
                        await client.send_all(piece)

    def _note(self, request: bytes) -> None:
        self.lines.append(request.partition(b"\r\n")[0].decode("latin-1"))
        self._more.set()
        self._more = trio.Event()
