"""Test which certificate authorities and proxies the STS client uses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from botocore.httpsession import ProxyConfiguration
from botocore.utils import get_environ_proxies

from sidecar.errors import ConfigurationError, NextStep
from sidecar.outbound import proxy_for
from sidecar.sts.client import (
    StsClient,
)
from tests.support.exchanges import (
    STS_HOST,
    TOKEN,
    Authority,
    Resolver,
    exchange,
    failure,
    scripted,
)
from tests.support.fakes.connect_proxy import ConnectProxy
from tests.support.fakes.scripted_sts import ScriptedSts

pytestmark = pytest.mark.usefixtures("no_proxies")


# TLS


async def test_client_trusts_an_authority_of_the_bundle(authority: Authority) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    async with scripted(tls=authority.server(), host=STS_HOST) as sts:
        reply = await exchange(sts.url, ca_bundle=authority.bundle)
    assert reply.credentials.access_key_id == "ASIAFAKE0001"


@pytest.mark.parametrize(
    ("name", "days_left", "is_known", "reason", "advice"),
    [
        ("sts.eu-west-2.amazonaws.com", 1, True, "Hostname mismatch", "Set AWS_ENDPOINT_URL_STS to a name"),
        (STS_HOST, -1, True, "certificate has expired", "Check this machine's clock"),
        (STS_HOST, 1, False, "unable to get local issuer certificate", "set AWS_CA_BUNDLE to a file"),
    ],
)
async def test_server_with_a_wrong_certificate_gets_no_token(  # noqa: PLR0917
    authority: Authority, name: str, days_left: int, is_known: object, reason: str, advice: str
) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    server = authority.server(name, datetime.now(UTC) + timedelta(days=days_left))
    async with scripted(tls=server, host=STS_HOST) as sts:
        error = await failure(sts.url, ca_bundle=authority.bundle if is_known else None)
    assert (error.code, error.next_step) == ("Tls", NextStep.RETRY)
    assert reason in error.message
    assert advice in error.message
    assert sts.requests == []


async def test_port_without_tls_is_reported() -> None:
    async def answer_in_plain_text(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer_in_plain_text, 0)
        port = listeners[0].socket.getsockname()[1]
        assert (await failure(f"https://127.0.0.1:{port}/")).code == "Tls"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_unreadable_bundle_is_reported_with_the_fix(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"AWS_CA_BUNDLE is .*ca\.pem.*\. Use a PEM file"):
        StsClient(f"https://{STS_HOST}/", ca_bundle=str(path))


# Proxies


@asynccontextmanager
async def proxied(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, status: str = "200 OK"
) -> AsyncIterator[tuple[ScriptedSts, ConnectProxy]]:
    """Run a fake STS over TLS, and set HTTPS_PROXY to a proxy."""
    async with scripted(tls=authority.server(), host=STS_HOST) as sts, trio.open_nursery() as nursery:
        proxy = ConnectProxy(sts.port, status)
        await nursery.start(proxy.serve)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url_with("me:hush@"))
        yield sts, proxy
        nursery.cancel_scope.cancel()


async def test_https_proxy_opens_a_tunnel_and_gets_no_token(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxied(authority, monkeypatch) as (sts, proxy):
        await exchange(sts.url, ca_bundle=authority.bundle)  # the proxy resolves the name
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT {STS_HOST}:{sts.port} HTTP/1.1\r\n")
    assert TOKEN.raw not in head
    assert len(sts.requests) == 1
    assert sts.requests[0].header("proxy-authorization") is None


async def test_host_in_no_proxy_is_called_directly(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8, fe80::/10, .amazonaws.com")
    async with proxied(authority, monkeypatch) as (sts, proxy):
        await exchange(sts.url, ca_bundle=authority.bundle)
    assert len(sts.requests) == 1
    assert proxy.heads == []


async def test_loopback_uses_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with scripted() as sts:
        await exchange(sts.url)
    assert len(sts.requests) == 1


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_rejection_by_the_proxy_has_the_code_proxy(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    async with proxied(authority, monkeypatch, status) as (sts, _):
        error = await failure(sts.url, ca_bundle=authority.bundle)
    assert (error.code, error.status, error.next_step) == ("Proxy", None, NextStep.RETRY)
    assert status in error.message
    assert "HTTPS_PROXY" in error.message
    assert "hush" not in str(error)


async def test_unreachable_proxy_is_reported_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hush@127.0.0.1:1")
    error = await failure(f"https://{STS_HOST}/")
    fix = "Check HTTPS_PROXY, network policies and firewalls"
    assert error.message == f"{STS_HOST} (through HTTPS_PROXY): Connection refused. {fix}"


@pytest.mark.parametrize("value", ["ftp://me:hush@proxy:1", "http://me:hush/@proxy:1", "socks5://me:hush@proxy:1"])
def test_unusable_proxy_is_reported_without_its_value(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
        StsClient(f"https://{STS_HOST}/")
    assert "hush" not in str(caught.value)


@pytest.fixture
def proxies_of_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set one proxy per scheme, and also ALL_PROXY, which AWS's SDKs ignore."""
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example:8080")
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")


@pytest.mark.parametrize(
    "no_proxy",
    [
        "",
        "*",
        "amazonaws.com",
        ".amazonaws.com",
        "sts.eu-west-1.amazonaws.com",
        "eu-west-2.amazonaws.com, .svc",
        "10.0.0.0/8,172.20.0.1,.svc,.cluster.local,169.254.169.254,fd00:ec2::254",
        "fe80::/10",
        "[::1]",
        "10.0.0.7",
        "sts.eu-west-1.amazonaws.com:443",
        "*.amazonaws.com",
    ],
)
@pytest.mark.parametrize("url", [f"https://{STS_HOST}/", "http://10.0.0.7:8080/", "https://[fd00::7]/"])
def test_client_uses_the_same_proxy_as_botocore(
    proxies_of_every_name: None, monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str
) -> None:
    monkeypatch.setenv("NO_PROXY", no_proxy)
    botocores = ProxyConfiguration(get_environ_proxies(url)).proxy_url_for(url)
    assert proxy_for(url) == botocores
    StsClient(url)  # no value of NO_PROXY causes an exception
