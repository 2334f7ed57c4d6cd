"""One exchange against real servers on loopback: what goes out, and what comes of every way to fail."""

import gzip
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trio
from botocore.httpsession import ProxyConfiguration
from botocore.utils import get_environ_proxies
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from sidecar import __version__
from sidecar.errors import ConfigurationError, NextStep
from sidecar.outbound import proxy_for
from sidecar.sts.client import (
    ATTEMPT_SECONDS,
    CONNECT_SECONDS,
    MAX_REPLY_BYTES,
    StsClient,
    _date,
)
from tests.support.exchanges import (
    REQUEST,
    STS_HOST,
    TOKEN,
    Authority,
    Resolver,
    exchange,
    failure,
    failure_of,
    scripted,
)
from tests.support.fakes.connect_proxy import ConnectProxy
from tests.support.fakes.scripted_sts import Reply, ScriptedSts, error_reply, good_reply

pytestmark = pytest.mark.usefixtures("no_proxies")


# The request on the wire


async def test_the_request_is_one_plain_form_post() -> None:
    async with scripted() as sts:
        await exchange(sts.url)
    (request,) = sts.requests
    assert request.line == "POST / HTTP/1.1"
    assert parse_qs(request.body.decode(), strict_parsing=True) == {
        "Action": ["AssumeRoleWithWebIdentity"],
        "Version": ["2011-06-15"],
        "RoleArn": [REQUEST.role_arn],
        "RoleSessionName": [REQUEST.session_name],
        "WebIdentityToken": [TOKEN.raw],
        "DurationSeconds": ["3600"],
    }


async def test_the_headers_are_those_of_a_form_and_each_is_there_once() -> None:
    async with scripted() as sts:
        await exchange(sts.url)
    (request,) = sts.requests
    names = [name for name, _ in request.headers]
    assert len(set(names)) == len(names)
    assert set(names) - {"accept", "connection"} == {
        "host",
        "content-type",
        "content-length",
        "accept-encoding",
        "user-agent",
    }
    assert request.header("host") == f"127.0.0.1:{sts.port}"
    assert request.header("content-type") == "application/x-www-form-urlencoded; charset=utf-8"
    assert request.header("accept-encoding") == "identity"
    assert request.header("user-agent") == f"irsa-sidecar/{__version__}"


async def test_a_password_file_for_the_host_adds_no_authorization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password hush\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with scripted() as sts:
        await exchange(sts.url)
    assert sts.requests[0].header("authorization") is None


async def test_no_connection_is_kept_from_one_exchange_to_the_next() -> None:
    async with scripted(good_reply("ASIAONE"), good_reply("ASIATWO")) as sts, StsClient(sts.url) as client:
        before = os.listdir("/proc/self/fd")
        for key in ("ASIAONE", "ASIATWO"):
            assert (await client.exchange(REQUEST, TOKEN)).credentials.access_key_id == key
            await wait_all_tasks_blocked()  # until the server has closed its end
            assert os.listdir("/proc/self/fd") == before


# The reply


async def test_the_exchanges_of_many_roles_do_not_wait_for_each_other(autojump_clock: object) -> None:
    slow = good_reply()
    async with scripted(Reply(200, slow.body, delay_seconds=6)) as sts, StsClient(sts.url) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(client.exchange, REQUEST, TOKEN)
        assert len(sts.requests) == 50


async def test_a_good_reply_is_credentials_and_what_stss_clock_showed() -> None:
    async with scripted(good_reply("ASIAONE", date="Fri, 15 Jan 2027 08:00:00 GMT")) as sts:
        reply = await exchange(sts.url)
    assert reply.credentials.access_key_id == "ASIAONE"
    assert reply.credentials.role_arn == REQUEST.role_arn
    assert reply.credentials.expires_at == datetime(2027, 1, 15, 9, tzinfo=UTC)
    assert reply.sts_date == datetime(2027, 1, 15, 8, tzinfo=UTC)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Fri, 15 Jan 2027 08:00:00 -0000", "1, 1 Jan 99999999999 0:0"])
async def test_a_reply_without_a_usable_date_is_still_credentials(date: str | None) -> None:
    async with scripted(good_reply(date=date)) as sts:
        assert (await exchange(sts.url)).sts_date is None


@given(st.text())
@example("Mon, 01 Jan 99999999999999 00:00:00 GMT")
@example("Mon, 01 Jan 2024 00:00:00 +99999999999")
def test_any_date_header_is_an_aware_instant_or_none(header: str) -> None:
    found = _date(header)
    assert found is None or found.tzinfo is not None


async def test_a_reply_byte_by_byte_is_the_same_reply(autojump_clock: object) -> None:
    async with scripted(Reply(200, good_reply().body, drip_seconds=0.001), good_reply()) as sts:
        assert (await exchange(sts.url)).credentials == (await exchange(sts.url)).credentials


async def test_an_error_of_stss_comes_with_code_status_and_retry_after() -> None:
    error = await failure_of(error_reply(400, "Throttling", "Rate exceeded", {"Retry-After": "7"}))
    assert (error.code, error.status, error.retry_after_seconds) == ("Throttling", 400, 7.0)
    assert error.next_step is NextStep.SLOW_DOWN


async def test_amazons_retry_after_is_read_too() -> None:
    headers = {"Retry-After": "2", "x-amz-retry-after": "2500"}
    error = await failure_of(error_reply(400, "Throttling", "Rate exceeded", headers))
    assert error.retry_after_seconds == 2.5


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_error_and_the_token_goes_nowhere_else(status: int) -> None:
    async with scripted() as elsewhere, scripted(Reply(status, b"", {"Location": elsewhere.url})) as sts:
        error = await failure(sts.url)
    assert error.status == status
    assert len(sts.requests) == 1
    assert elsewhere.requests == []


async def test_a_packed_reply_is_refused_as_nobody_asked_for_one() -> None:
    packed = Reply(200, gzip.compress(good_reply().body), {"Content-Encoding": "gzip"})
    error = await failure_of(packed)
    assert error.code == "MalformedReply"
    assert "gzip" in error.message


async def test_the_largest_reply_is_read_and_one_byte_more_is_not() -> None:
    body = good_reply().body
    async with scripted(Reply(200, body + b" " * (MAX_REPLY_BYTES - len(body)))) as sts:
        await exchange(sts.url)
    error = await failure_of(Reply(200, body + b" " * (MAX_REPLY_BYTES + 1 - len(body))))
    assert error.code == "MalformedReply"
    assert "longer than" in error.message


async def test_a_reply_without_end_is_read_to_the_limit_only() -> None:
    endless = Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_REPLY_BYTES * 8))
    assert "longer than" in (await failure_of(endless)).message


# Connections that fail


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("cut_after", [0, 10, 100, 500, -1])
async def test_a_connection_that_breaks_off_gives_no_credentials(cut_after: int, reset: object) -> None:
    error = await failure_of(Reply(200, good_reply().body, cut_after=cut_after, reset=bool(reset)))
    assert error.code == "Unreachable"
    assert error.next_step is NextStep.RETRY


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + TOKEN.raw.encode() + b"\r\n\r\n",
        TOKEN.raw.encode() + b"\r\n\r\n",
    ],
    ids=["ssh", "tls alert", "huge header", "echo in a header", "echo"],
)
async def test_what_speaks_no_http_is_told_without_quoting_it(raw: bytes) -> None:
    error = await failure_of(Reply(raw=raw))
    assert error.code == "Unreachable"
    assert "does not speak HTTP" in error.message


async def test_a_refusal_names_the_address_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = await failure(f"http://127.0.0.1:{port}/")
    assert (error.code, error.message) == ("Unreachable", f"127.0.0.1:{port}: Connection refused")


async def test_a_name_that_does_not_resolve_points_at_the_region_and_dns() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    error = await failure("https://nonexistent.invalid/")
    assert error.code == "Unreachable"
    assert "nonexistent.invalid" in error.message
    assert "AWS_REGION" in error.message


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", "xn--"])
async def test_a_host_that_is_no_name_is_an_error_of_ours(host: str) -> None:
    error = await failure(f"https://{host}/")
    assert error.code == "Unreachable"
    assert host in error.message


# Deadlines


async def test_one_deadline_bounds_the_whole_attempt_however_the_body_drips(autojump_clock: object) -> None:
    error = await failure_of(Reply(200, good_reply().body, drip_seconds=0.5))
    assert error.code == "Timeout"
    assert trio.current_time() == pytest.approx(ATTEMPT_SECONDS)


async def test_a_server_that_says_nothing_is_left_at_the_deadline(autojump_clock: object) -> None:
    error = await failure_of(Reply(delay_seconds=3600))
    assert (error.code, error.next_step) == ("Timeout", NextStep.RETRY)
    assert trio.current_time() == pytest.approx(ATTEMPT_SECONDS)


async def test_informational_replies_without_end_do_not_move_the_deadline(autojump_clock: object) -> None:
    error = await failure_of(Reply(raw=b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, drip_seconds=0.1))
    assert error.code == "Timeout"
    assert trio.current_time() == pytest.approx(ATTEMPT_SECONDS)


async def test_a_resolver_that_says_nothing_is_left_as_early_as_a_connection(autojump_clock: object) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(is_silent=True))
    error = await failure(f"https://{STS_HOST}/")
    assert error.code == "Timeout"
    assert trio.current_time() == pytest.approx(CONNECT_SECONDS)


async def test_a_tls_handshake_that_hangs_is_left_as_early_as_a_connection(autojump_clock: object) -> None:
    async with scripted() as sts:  # which waits for a request in plain text
        error = await failure(sts.url.replace("http:", "https:"))
    assert error.code == "Timeout"
    assert trio.current_time() == pytest.approx(CONNECT_SECONDS)


async def test_a_cancelled_exchange_leaves_nothing_open() -> None:
    async with scripted(Reply(delay_seconds=3600)) as sts, StsClient(sts.url) as client:
        before = len(os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.exchange, REQUEST, TOKEN)
            await sts.asked.wait()
            assert len(os.listdir("/proc/self/fd")) == before + 2
            nursery.cancel_scope.cancel()
        assert len(os.listdir("/proc/self/fd")) == before + 1  # the server's end


# TLS


async def test_a_certificate_of_an_authority_in_the_bundle_is_trusted(authority: Authority) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    async with scripted(tls=authority.server(), host=STS_HOST) as sts:
        reply = await exchange(sts.url, ca_bundle=authority.bundle)
    assert reply.credentials.access_key_id == "ASIAFAKE0001"


@pytest.mark.parametrize(
    ("name", "days_left", "is_known", "why", "advice"),
    [
        ("sts.eu-west-2.amazonaws.com", 1, True, "Hostname mismatch", "Set AWS_ENDPOINT_URL_STS to a name"),
        (STS_HOST, -1, True, "certificate has expired", "Check this machine's clock"),
        (STS_HOST, 1, False, "unable to get local issuer certificate", "set AWS_CA_BUNDLE to a file"),
    ],
)
async def test_wrong_certificate_gets_no_token_and_its_own_advice(  # noqa: PLR0917
    authority: Authority, name: str, days_left: int, is_known: object, why: str, advice: str
) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    server = authority.server(name, datetime.now(UTC) + timedelta(days=days_left))
    async with scripted(tls=server, host=STS_HOST) as sts:
        error = await failure(sts.url, ca_bundle=authority.bundle if is_known else None)
    assert (error.code, error.next_step) == ("Tls", NextStep.RETRY)
    assert why in error.message
    assert advice in error.message
    assert sts.requests == []


async def test_a_port_without_tls_is_told_as_such() -> None:
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
def test_a_bundle_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"AWS_CA_BUNDLE is .*ca\.pem.*: name a file"):
        StsClient(f"https://{STS_HOST}/", ca_bundle=str(path))


# Proxies


@asynccontextmanager
async def proxied(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, status: str = "200 OK"
) -> AsyncIterator[tuple[ScriptedSts, ConnectProxy]]:
    """An STS over TLS, and HTTPS_PROXY set to a proxy that leads to it."""
    async with scripted(tls=authority.server(), host=STS_HOST) as sts, trio.open_nursery() as nursery:
        proxy = ConnectProxy(sts.port, status)
        await nursery.start(proxy.serve)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url_with("me:hush@"))
        yield sts, proxy
        nursery.cancel_scope.cancel()


async def test_https_proxy_is_asked_for_a_tunnel_and_sees_no_token(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxied(authority, monkeypatch) as (sts, proxy):
        await exchange(sts.url, ca_bundle=authority.bundle)  # the proxy resolves the name, not we
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT {STS_HOST}:{sts.port} HTTP/1.1\r\n")
    assert TOKEN.raw not in head
    assert len(sts.requests) == 1
    assert sts.requests[0].header("proxy-authorization") is None


async def test_no_proxy_goes_straight(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8, fe80::/10, .amazonaws.com")
    async with proxied(authority, monkeypatch) as (sts, proxy):
        await exchange(sts.url, ca_bundle=authority.bundle)
    assert len(sts.requests) == 1
    assert proxy.heads == []


async def test_loopback_is_never_asked_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with scripted() as sts:
        await exchange(sts.url)
    assert len(sts.requests) == 1


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_a_proxy_that_refuses_is_told_from_an_sts_that_does(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    async with proxied(authority, monkeypatch, status) as (sts, _):
        error = await failure(sts.url, ca_bundle=authority.bundle)
    assert (error.code, error.status, error.next_step) == ("Proxy", None, NextStep.RETRY)
    assert status in error.message
    assert "HTTPS_PROXY" in error.message
    assert "hush" not in str(error)


async def test_a_proxy_that_is_not_there_is_named_by_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hush@127.0.0.1:1")
    error = await failure(f"https://{STS_HOST}/")
    assert error.message == f"{STS_HOST} (through HTTPS_PROXY): Connection refused"


@pytest.mark.parametrize("value", ["ftp://me:hush@proxy:1", "http://me:hush/@proxy:1", "socks5://me:hush@proxy:1"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
        StsClient(f"https://{STS_HOST}/")
    assert "hush" not in str(caught.value)


@pytest.fixture
def proxies_of_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each scheme, and the one for all schemes that AWS's SDKs pass over."""
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
def test_the_proxy_is_found_as_botocore_finds_it(
    proxies_of_every_name: None, monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str
) -> None:
    monkeypatch.setenv("NO_PROXY", no_proxy)
    theirs = ProxyConfiguration(get_environ_proxies(url)).proxy_url_for(url)
    assert proxy_for(url) == theirs
    StsClient(url)  # and nothing in NO_PROXY is too odd
