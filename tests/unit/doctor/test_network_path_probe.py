"""Test the network path probe, through proxies and TLS."""

import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar.doctor.probes import network_path
from tests.support.exchanges import STS_HOST, Authority, Resolver, scripted
from tests.support.fakes.scripted_sts import Reply as RawReply
from tests.support.fakes.scripted_sts import ScriptedSts


async def test_http_proxy_receives_the_whole_url(monkeypatch: pytest.MonkeyPatch, no_proxies: None) -> None:
    async with scripted(RawReply(400, b"", {"Date": "Fri, 15 Jan 2027 08:00:00 GMT"})) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        path = await network_path.collect("http://sts.example/", None)
    assert path.failed_step == ""
    assert path.skew_seconds is not None
    assert proxy.requests[0].line == "GET http://sts.example/ HTTP/1.1"


async def test_proxy_receives_its_password_and_no_fact_contains_it(
    monkeypatch: pytest.MonkeyPatch, no_proxies: None
) -> None:
    async with scripted(RawReply(407, b"")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//us%40er:pass@"))
        path = await network_path.collect("https://sts.example/", None)
    assert (path.failed_step, path.reason, path.proxy) == (
        "proxy",
        "it returns 407",
        f"127.0.0.1:{proxy.port}",
    )
    assert proxy.requests[0].header("proxy-authorization") == "Basic dXNAZXI6cGFzcw=="
    assert "pass" not in str(path)


async def test_path_through_a_proxy_is_encrypted_end_to_end(
    monkeypatch: pytest.MonkeyPatch, no_proxies: None, tmp_path: Path
) -> None:
    """Use a proxy that tunnels to an STS with a certificate."""
    authority = Authority(tmp_path)
    async with (
        scripted(RawReply(400, b""), tls=authority.server(), host=STS_HOST) as sts,
        trio.open_nursery() as nursery,
    ):
        proxy_url = await nursery.start(_tunnel_to, sts)
        monkeypatch.setenv("HTTPS_PROXY", proxy_url)
        path = await network_path.collect(sts.url, authority.bundle)
        nursery.cancel_scope.cancel()
    assert (path.failed_step, path.reason) == ("", "")
    assert path.authority is not None
    assert [name for name, _ in path.seconds] == ["name", "connect", "proxy", "tls", "response"]


async def _tunnel_to(sts: ScriptedSts, *, task_status: trio.TaskStatus[str]) -> None:
    async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
        async for piece in source:
            await target.send_all(piece)

    async def tunnel(client: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await client.receive_some()
        server = await trio.open_tcp_stream("127.0.0.1", sts.port)
        await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(pump, client, server)
            await pump(server, client)
            nursery.cancel_scope.cancel()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    await trio.serve_listeners(tunnel, listeners)


class _TwoAddresses(Resolver):
    """A resolver that returns two addresses. No process listens on the first address."""

    async def getaddrinfo(self, _host: Any, port: Any, *_: int) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.9", port)), (*kind, ("127.0.0.1", port))]


async def test_all_addresses_of_a_name_are_tried(no_proxies: None) -> None:
    trio.socket.set_custom_hostname_resolver(_TwoAddresses())
    async with scripted(RawReply(400, b"")) as server:
        path = await network_path.collect(f"http://sts.example:{server.port}/", None)
    assert (path.failed_step, path.addresses) == ("", ("127.0.0.9", "127.0.0.1"))


async def test_invalid_ca_bundle_fails_the_tls_step(tmp_path: Path, no_proxies: None) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    async with scripted(RawReply(400, b""), tls=Authority(tmp_path).server(), host=STS_HOST) as sts:
        path = await network_path.collect(sts.url, "/nowhere")
    assert path.failed_step == "tls"
    assert "AWS_CA_BUNDLE is '/nowhere'" in path.reason
