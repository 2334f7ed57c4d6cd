"""Test the page's server on a real socket, with the requests of the page, of other pages and of other users."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from sidecar.local.control_panel import ControlPanel, Effect
from sidecar.local.controls import CONTROLS
from sidecar.local.feed import Feed
from sidecar.local.page import server as page_server
from sidecar.local.page.access import Address
from sidecar.local.page.live import LiveState
from sidecar.local.page.server import MAX_CONNECTIONS, MAX_STREAMS, PageServer
from sidecar.local.page.state import PageState
from sidecar.serving.listen import listen
from tests.support.fakes.clock import EPOCH

SECRET = "s3cret-path"


class Site:
    """A page on loopback. `started` lists the controls that began, and `events` lists the names of the log events."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.started: list[str] = []
        self.events: list[str] = []
        self.reported: list[Exception] = []
        self.feed = Feed(lambda: EPOCH)
        effects = {name: Effect(self._begin(name)) for name in CONTROLS}
        self.panel = ControlPanel(effects, monotonic=trio.current_time, emit=self._emit)
        self.live = LiveState(self.feed, PageState(), lambda: {"active": list(self.panel.active)}, lambda: EPOCH)
        self.server = PageServer(Address(port, SECRET), self.live, self.panel, self._emit)

    def _emit(self, event: str, /, **_fields: Any) -> None:
        self.events.append(event)

    def _begin(self, name: str) -> Any:
        async def begin() -> None:
            if name == "rotate-key":
                raise OSError("no")
            self.started.append(name)

        return begin

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        """Return status, head and body of the response."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(self.request(path, method, **headers))
            received = b""
            async for piece in stream:
                received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        return int(head[9:12]), head.decode(), body.decode()

    def request(self, path: str, method: str = "GET", **headers: str) -> bytes:
        lines = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        fields = "\r\n".join(f"{name}: {value}" for name, value in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def press(self, name: str, action: str = "start", **headers: str) -> int:
        given = {"Origin": self.origin} | headers
        return (await self.get(f"/{SECRET}/controls/{name}/{action}", "POST", **given))[0]


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    listeners = listen("--page-port", ("127.0.0.1", 0))
    site = Site(listeners[0].getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.live.run)
        await nursery.start(site.server.http_server(site.reported.append).serve, listeners)
        yield site
        assert site.reported == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["", "page.css", "page.js", "icon.svg"])
async def test_files_of_the_page_have_protective_headers(path: str) -> None:
    async with serving() as site:
        status, head, body = await site.get(f"/{SECRET}/{path}")
    assert status == 200
    assert body
    assert "default-src 'none'" in head
    assert "unsafe" not in head
    assert "frame-ancestors 'none'" in head
    assert "Referrer-Policy: no-referrer" in head


@pytest.mark.parametrize(
    "path",
    ["/", "/page.js", "/events", "/wrong/", f"/{SECRET}", f"/{SECRET}x/", f"/{SECRET}/../page.js", f"/{SECRET}/nothing",
     f"//{SECRET}/", f"/{SECRET}/%2e%2e/", f"http://127.0.0.1/{SECRET}/"],
)  # fmt: skip
async def test_path_without_the_secret_or_file_is_not_found(path: str) -> None:
    async with serving() as site:
        status, _, body = await site.get(path)
    assert status == 404
    assert SECRET not in body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost", "127.0.0.1:1", "[::1]:80", "", "127.1"])
async def test_foreign_host_is_rejected(host: str) -> None:
    """DNS rebinding makes the name of another site resolve to loopback."""
    async with serving() as site:
        assert (await site.get(f"/{SECRET}/", Host=host))[0] == 403
        assert (await site.get(f"/{SECRET}/", Host=f"LOCALHOST:{site.port}"))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Host": "evil.example"},
    ],
)
async def test_control_of_a_foreign_page_is_rejected(headers: dict[str, str]) -> None:
    async with serving() as site:
        assert await site.press("refresh", **headers) == 403
        assert site.started == []


async def test_control_without_an_origin_is_rejected() -> None:
    async with serving() as site:
        assert (await site.get(f"/{SECRET}/controls/refresh/start", "POST"))[0] == 403
        assert site.started == []


async def test_stream_and_script_of_a_foreign_page_are_rejected() -> None:
    async with serving() as site:
        for path in ("events", "page.js"):
            status, _, _ = await site.get(f"/{SECRET}/{path}", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")
            assert status == 403
        assert (await site.get(f"/{SECRET}/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate"))[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_control_needs_a_post(method: str) -> None:
    async with serving() as site:
        status, head, _ = await site.get(f"/{SECRET}/controls/refresh/start", method)
        assert (status, site.started) == (405, [])
        assert "Allow: POST" in head


async def test_file_allows_only_get_and_head() -> None:
    async with serving() as site:
        assert (await site.get(f"/{SECRET}/", "POST", Origin=site.origin))[0] == 405
        assert (await site.get(f"/{SECRET}/", "HEAD"))[2] == ""


async def test_control_starts_and_ends() -> None:
    async with serving() as site:
        assert await site.press("sts-unavailable") == 200
        assert list(site.panel.active) == ["sts"]
        assert await site.press("sts-unavailable", "end") == 200
        assert list(site.panel.active) == []
        assert site.started == ["sts-unavailable"]


@pytest.mark.parametrize("name", ["nothing", "refresh/start", "../controls/refresh", "<script>"])
async def test_unknown_control_is_not_found(name: str) -> None:
    async with serving() as site:
        assert await site.press(name) == 404
        assert await site.press("refresh", "explode") == 404


async def test_control_that_fails_returns_an_error() -> None:
    async with serving() as site:
        assert await site.press("rotate-key") == 500


async def test_stream_sends_the_state_at_once_and_after_changes() -> None:
    async with serving() as site, await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
        await stream.send_all(site.request(f"/{SECRET}/events"))
        received = b""
        while b"token_renewed" not in received and b"wrote a new token" not in received:
            received += await stream.receive_some()
            if received.endswith(b"\n\n") and b'"lines": []' in received:
                site.feed.publish("kubelet", "token_renewed")
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"text/event-stream" in head
        states = [json.loads(line.removeprefix("data: ")) for line in body.decode().split("\n\n") if line]
        assert states[0]["lines"] == []
        assert states[-1]["boxes"]["kubelet"]["mark"] == "good"


async def test_number_of_streams_is_limited_and_freed() -> None:
    async with serving() as site:
        async with AsyncExitStack() as stack:
            for _ in range(MAX_STREAMS):
                stream = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", site.port))
                await stream.send_all(site.request(f"/{SECRET}/events"))
                assert b"200 OK" in await stream.receive_some()
            assert (await site.get(f"/{SECRET}/events"))[0] == 503
            assert (await site.get(f"/{SECRET}/"))[0] == 200
        while site.server.streams:
            await trio.testing.wait_all_tasks_blocked(0.001)
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        async with stream:
            await stream.send_all(site.request(f"/{SECRET}/events"))
            assert b"200 OK" in await stream.receive_some()


async def test_connections_above_the_limit_leave_the_page_usable() -> None:
    """Let the connections send nothing, or half of a request. tests/website opens a thousand connections."""
    async with serving() as site, AsyncExitStack() as stack:
        for number in range(2 * MAX_CONNECTIONS):
            stream = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", site.port))
            if number % 2:
                await stream.send_all(b"GET / HTTP/1.1\r\n")
        assert (await site.get(f"/{SECRET}/"))[0] == 200
        assert await site.press("refresh") == 200


async def test_one_time_link_works_once() -> None:
    async with serving() as site:
        path = site.server.one_time_url().partition(str(site.port))[2]
        assert SECRET not in path
        status, head, _ = await site.get(path)
        assert (status, f"Location: /{SECRET}/" in head) == (303, True)
        assert (await site.get(path))[0] == 410
        assert (await site.get("/open/guess"))[0] == 410
        assert site.events == ["page_link_rejected", "page_link_rejected"]


async def test_wrong_guess_of_a_link_reveals_nothing() -> None:
    async with serving() as site:
        site.server.one_time_url()
        status, head, body = await site.get("/open/guess")
        assert status == 410
        assert SECRET not in head + body


def test_page_refers_only_to_its_own_files() -> None:
    html = page_server._read_files()[""].body.decode()
    script = page_server._read_files()["page.js"].body.decode()
    assert "://" not in html
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"):
        assert word not in script
