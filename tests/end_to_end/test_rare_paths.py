"""
Test rare cases in a real `irsa-sidecar run` with real servers.

Only a separate process has the stubs of lean_imports.py. The test's own interpreter imports every package completely,
so a test in this interpreter would not fail if a rare case needs a module that is a stub.
"""

import json
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.support.exchanges import Authority, scripted
from tests.support.fakes.connect_proxy import ConnectProxy
from tests.support.fakes.scripted_sts import Reply, ScriptedSts
from tests.support.processes import Running, hour_long_reply, our_program, pod_environment, run_daemon

pytestmark = pytest.mark.usefixtures("no_proxies")

NOT_LOOPBACK = "sts.rare-path.invalid"
"""A name that does not resolve here, so that the proxy must resolve it."""


@asynccontextmanager
async def daemon(tmp_path: Path, sts_url: str, **more: str) -> AsyncIterator[Running]:
    """Run a daemon, and check that it raised no unexpected error."""
    async with run_daemon(pod_environment(tmp_path / "token", sts_url, **more)) as running:
        yield running
        assert [entry for entry in running.log if entry["level"] == "critical"] == []


async def refused(tmp_path: Path, sts_url: str, **more: str) -> str:
    """Return the code and the reason of the first failure in the log."""
    async with daemon(tmp_path, sts_url, **more) as running:
        entry = await running.logged_one_of("refresh_failed", "refresher_failed")
    assert entry["event"] == "refresh_failed", entry
    return f"{entry['code']}: {entry['reason']}"


def whole(status_line: str, *headers: str, body: bytes = b"") -> Reply:
    return Reply(raw="\r\n".join([status_line, *headers, "", ""]).encode() + body)


FETCH = """
import os, urllib.request
request = urllib.request.Request(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
request.add_header("Authorization", os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read().decode())
"""
"""An application that gets its credentials from the endpoint."""

CREDENTIALS = hour_long_reply("ASIARARE").body
LENGTH = f"Content-Length: {len(CREDENTIALS)}"


def chunks(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nX-Trailer: a\r\n\r\n"


TAKEN = {
    "HTTP/1.0": whole("HTTP/1.0 200 OK", body=CREDENTIALS),
    "without a length": whole("HTTP/1.1 200 OK", "Connection: close", body=CREDENTIALS),
    "in chunks": whole("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=chunks(CREDENTIALS, 7)),
    "after 100 and 103": whole(
        "HTTP/1.1 100 Continue", "", "HTTP/1.1 103 Early Hints", "Link: <a>", "", "HTTP/1.1 200 OK", LENGTH,
        body=CREDENTIALS,
    ),
    "with cookies": whole(
        "HTTP/1.1 200 OK", "Set-Cookie: a=b; Domain=.example", "Set-Cookie: c", LENGTH,
        body=CREDENTIALS,
    ),
    "with a type and its charset": whole(
        "HTTP/1.1 200 OK", "Content-Type: text/xml; charset=klingon", LENGTH, body=CREDENTIALS
    ),
    "without a reason phrase": whole("HTTP/1.1 200", LENGTH, body=CREDENTIALS),
}  # fmt: skip


REFUSED = {
    "redirect": (whole("HTTP/1.1 302 Found", "Location: https://elsewhere.example/"), "Http302"),
    "redirect to itself": (whole("HTTP/1.1 307 Temporary Redirect", "Location: /"), "Http307"),
    "redirect to an IDN": (whole("HTTP/1.1 301 Moved", "Location: https://b\u00fccher.example/"), "Http301"),
    "redirect to an IPv6 zone": (whole("HTTP/1.1 301 Moved", "Location: https://[fe80::1%25eth0]/"), "Http301"),
    "redirect to nowhere": (whole("HTTP/1.1 302 Found", "Location: http://[::::"), "Http302"),
    "permanent redirect with a cookie": (
        whole("HTTP/1.1 308 Permanent Redirect", "Location: http://a/", "Set-Cookie: a=b"), "Http308",
    ),
    "basic authentication": (whole("HTTP/1.1 401 Unauthorized", 'WWW-Authenticate: Basic realm="a"'), "Http401"),
    "digest authentication": (
        whole("HTTP/1.1 401 Unauthorized", 'WWW-Authenticate: Digest realm="a", nonce="b", qop="auth"'), "Http401",
    ),
    "gzip": (whole("HTTP/1.1 200 OK", "Content-Encoding: gzip", LENGTH, body=CREDENTIALS), "MalformedReply"),
    "brotli": (whole("HTTP/1.1 200 OK", "Content-Encoding: br", LENGTH, body=CREDENTIALS), "MalformedReply"),
    "zstandard": (whole("HTTP/1.1 200 OK", "Content-Encoding: zstd", LENGTH, body=CREDENTIALS), "MalformedReply"),
    "no content": (whole("HTTP/1.1 204 No Content"), "MalformedReply"),
    "not modified": (whole("HTTP/1.1 304 Not Modified"), "Http304"),
    "switching protocols": (
        whole("HTTP/1.1 101 Switching Protocols", "Upgrade: h2c", "Connection: upgrade"),
        "Unreachable",
    ),
    "HTTP/2 preface": (Reply(raw=b"\0\0\0\4\0\0\0\0\0"), "Unreachable"),
    "HTTP/0.9": (Reply(raw=b"<html>"), "Unreachable"),
    "nothing": (Reply(raw=b""), "Unreachable"),
    "reset": (Reply(raw=b"", reset=True), "Unreachable"),
    "cut in the body": (Reply(200, CREDENTIALS, cut_after=300), "Unreachable"),
    "invalid chunks": (whole("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=b"zz\r\n"), "Unreachable"),
    "two lengths": (whole("HTTP/1.1 200 OK", LENGTH, "Content-Length: 3", body=CREDENTIALS), "Unreachable"),
    "retry after a date": (
        whole("HTTP/1.1 503 Busy", "Retry-After: Wed, 21 Oct 2099 07:28:00 GMT", "Content-Length: 0"), "Http503",
    ),
}  # fmt: skip


async def test_run_classifies_each_unusual_sts_response(tmp_path: Path) -> None:
    """Use one daemon, with one role for each response."""
    replies = {**TAKEN, **{name: reply for name, (reply, _) in REFUSED.items()}}
    arns = {name: f"arn:aws:iam::111122223333:role/reply-{number:03d}" for number, name in enumerate(replies)}
    roles = [{"name": arn.rpartition("/")[2], "role_arn": arn} for arn in arns.values()]
    (tmp_path / "roles.yaml").write_text(json.dumps({"roles": roles}))
    async with scripted() as sts:
        sts.by_role = {arns[name]: reply for name, reply in replies.items()}
        async with daemon(tmp_path, sts.url, IRSA_SIDECAR_CONFIG=str(tmp_path / "roles.yaml")) as running:
            found = {}
            for name, arn in arns.items():
                role = arn.rpartition("/")[2]
                entry = await running.logged_one_of(
                    "credentials_refreshed", "refresh_failed", "refresher_failed", role_name=role
                )
                found[name] = entry.get("code") or entry.get("access_key_id") or entry["event"]
    expected = {**dict.fromkeys(TAKEN, "ASIARARE"), **{name: code for name, (_, code) in REFUSED.items()}}
    assert found == expected


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://[fe80::1%25nowhere0]:9/", "Unreachable"),
        ("http://[::1%25lo]:9/", "Unreachable"),
        ("http://xn--bcher-kva.invalid/", "Unreachable"),
        ("http://127.0.0.1:1/", "Unreachable"),
        ("https://127.0.0.1:1/", "Unreachable"),
    ],
)
async def test_run_reports_an_sts_address_that_does_not_respond(tmp_path: Path, url: str, code: str) -> None:
    assert (await refused(tmp_path, url)).startswith(f"{code}: ")


@pytest.mark.parametrize("wrong", ["name", "authority"])
async def test_run_reports_an_invalid_certificate(tmp_path: Path, authority: Authority, wrong: str) -> None:
    server = authority.server("other.example" if wrong == "name" else "127.0.0.1")
    bundle = {} if wrong == "authority" else {"AWS_CA_BUNDLE": authority.bundle}
    async with scripted(tls=server) as sts:
        assert (await refused(tmp_path, sts.url, **bundle)).startswith("Tls: ")


async def test_run_reports_a_server_without_tls(tmp_path: Path, authority: Authority) -> None:
    async with proxied(authority) as (_, server):  # the server responds to a TLS handshake with 400, as web servers do
        assert (await refused(tmp_path, f"https://127.0.0.1:{server.port}/")).startswith("Tls: ")


# Tests with a proxy


@asynccontextmanager
async def proxied(
    authority: Authority, *, proxy_tls: ssl.SSLContext | None = None, sts_tls: bool = True, **script: str
) -> AsyncIterator[tuple[ScriptedSts, ConnectProxy]]:
    async with AsyncExitStack() as stack:
        tls = authority.server(NOT_LOOPBACK) if sts_tls else None
        sts = await stack.enter_async_context(scripted(hour_long_reply(), tls=tls, host=NOT_LOOPBACK))
        nursery = await stack.enter_async_context(trio.open_nursery())
        proxy = ConnectProxy(sts.port, tls=proxy_tls, **script)
        await nursery.start(proxy.serve)
        yield sts, proxy
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
async def test_run_gets_credentials_through_a_proxy(
    tmp_path: Path, authority: Authority, *, is_encrypted: bool
) -> None:
    tls = authority.server("127.0.0.1") if is_encrypted else None
    async with proxied(authority, proxy_tls=tls) as (sts, proxy):
        settings = {"HTTPS_PROXY": proxy.url_with("me:h%23sh@"), "AWS_CA_BUNDLE": authority.bundle}
        async with daemon(tmp_path, sts.url, **settings) as running:
            entry = await running.logged_one_of("credentials_refreshed", "refresh_failed", "refresher_failed")
    assert entry["event"] == "credentials_refreshed", entry
    assert "proxy-authorization: basic bwu6acnzaa==" in proxy.heads[0].lower()  # the user me with the password h#sh


async def test_run_connects_to_an_http_sts_through_an_https_proxy(tmp_path: Path, authority: Authority) -> None:
    async with proxied(authority, proxy_tls=authority.server("127.0.0.1"), sts_tls=False) as (sts, proxy):
        settings = {"HTTP_PROXY": proxy.url, "AWS_CA_BUNDLE": authority.bundle}
        async with daemon(tmp_path, sts.url, **settings) as running:
            await running.logged("credentials_refreshed")
    assert proxy.heads[0].startswith("POST http://")


async def test_run_verifies_the_certificate_of_a_proxy(tmp_path: Path, authority: Authority) -> None:
    async with proxied(authority, proxy_tls=authority.server("127.0.0.1")) as (sts, proxy):
        reason = await refused(
            tmp_path, sts.url, HTTPS_PROXY=proxy.url
        )  # this client trusts only the public authorities
    assert reason.startswith("Tls: ")
    assert proxy.heads == []


async def test_run_reports_a_wrong_name_in_the_proxys_certificate(tmp_path: Path, authority: Authority) -> None:
    """Check that the advice is about the proxy's name, because advice about STS's name would mislead the reader."""
    async with proxied(authority, proxy_tls=authority.server("proxy.example")) as (sts, proxy):
        reason = await refused(tmp_path, sts.url, HTTPS_PROXY=proxy.url, AWS_CA_BUNDLE=authority.bundle)
    assert reason.startswith("Tls: ")
    assert "set HTTPS_PROXY to a name that is in the proxy's certificate" in reason
    assert "AWS_ENDPOINT_URL_STS" not in reason


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
async def test_run_reports_a_wrong_name_in_the_certificate_of_sts(
    tmp_path: Path, authority: Authority, *, is_encrypted: bool
) -> None:
    tls = authority.server("127.0.0.1") if is_encrypted else None
    async with proxied(authority, proxy_tls=tls) as (sts, proxy):
        url = sts.url.replace(NOT_LOOPBACK, "sts.example")
        reason = await refused(tmp_path, url, HTTPS_PROXY=proxy.url, AWS_CA_BUNDLE=authority.bundle)
    assert "Set AWS_ENDPOINT_URL_STS to a name that is in the certificate" in reason


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
async def test_run_reports_a_proxy_that_rejects_requests(
    tmp_path: Path, authority: Authority, status: str, *, is_encrypted: bool
) -> None:
    tls = authority.server("127.0.0.1") if is_encrypted else None
    async with proxied(authority, proxy_tls=tls, status=status) as (sts, proxy):
        settings = {"HTTPS_PROXY": proxy.url, "AWS_CA_BUNDLE": authority.bundle}
        reason = await refused(tmp_path, sts.url, **settings)
    assert reason.startswith("Proxy: ")
    assert status in reason


PROXIES: dict[str, Callable[[int], str]] = {
    "not listening": lambda _: "http://127.0.0.1:1",
    "not listening, over TLS": lambda _: "https://127.0.0.1:1",
    "over TLS to a plain port": lambda port: f"https://127.0.0.1:{port}",
    "an IDN": lambda _: "http://b\u00fccher.invalid:1",
    "an IPv6 zone": lambda _: "http://[fe80::1%25nowhere0]:1",
    "an unknown name": lambda _: "http://a..b:1",
}


@pytest.mark.parametrize("name", PROXIES)
async def test_run_reports_a_proxy_that_does_not_respond(tmp_path: Path, authority: Authority, name: str) -> None:
    async with proxied(authority) as (sts, proxy):
        reason = await refused(tmp_path, sts.url, HTTPS_PROXY=PROXIES[name](proxy.port))
    assert reason.startswith(("Unreachable: ", "Tls: "))


@pytest.mark.parametrize(
    ("command", "status", "shown"),
    [
        (["credentials", "--no-daemon"], 0, b'"AccessKeyId":'),
        (["exec", "--", sys.executable, "-c", FETCH], 0, b"AccessKeyId"),
        (["doctor", "--no-imds"], None, b"through the proxy 127.0.0.1:"),
    ],
    ids=["credentials", "exec", "doctor"],
)
async def test_commands_use_an_https_proxy(
    tmp_path: Path, authority: Authority, command: list[str], status: int | None, shown: bytes
) -> None:
    async with proxied(authority, proxy_tls=authority.server("127.0.0.1")) as (sts, proxy):
        settings = {"HTTPS_PROXY": proxy.url, "AWS_CA_BUNDLE": authority.bundle}
        environment = pod_environment(tmp_path / "token", sts.url, **settings)
        done = await trio.run_process(
            [*our_program(), *command],
            env=environment,
            stdin=b"",
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert status in {None, done.returncode}, done
    assert shown in done.stdout, done
    assert len(sts.requests) >= 1
    assert proxy.heads
