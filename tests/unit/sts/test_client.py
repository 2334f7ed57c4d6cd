"""Test one exchange against real servers on loopback: the request, the result, and every kind of failure."""

import gzip
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from sidecar import __version__
from sidecar.errors import NextStep
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
    Resolver,
    exchange,
    failure,
    failure_of,
    scripted,
)
from tests.support.fakes.scripted_sts import Reply, error_reply, good_reply

pytestmark = pytest.mark.usefixtures("no_proxies")


# The request on the wire


async def test_request_is_one_form_post() -> None:
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


async def test_request_has_each_header_once() -> None:
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


async def test_netrc_file_adds_no_authorization_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login me password hush\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with scripted() as sts:
        await exchange(sts.url)
    assert sts.requests[0].header("authorization") is None


async def test_exchange_closes_its_connection() -> None:
    async with scripted(good_reply("ASIAONE"), good_reply("ASIATWO")) as sts, StsClient(sts.url) as client:
        before = os.listdir("/proc/self/fd")
        for key in ("ASIAONE", "ASIATWO"):
            assert (await client.exchange(REQUEST, TOKEN)).credentials.access_key_id == key
            await wait_all_tasks_blocked()  # wait until the server has closed the connection
            assert os.listdir("/proc/self/fd") == before


# The response


async def test_exchanges_do_not_wait_for_each_other(autojump_clock: object) -> None:
    slow = good_reply()
    async with scripted(Reply(200, slow.body, delay_seconds=6)) as sts, StsClient(sts.url) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(client.exchange, REQUEST, TOKEN)
        assert len(sts.requests) == 50


async def test_exchange_returns_credentials_and_sts_date() -> None:
    async with scripted(good_reply("ASIAONE", date="Fri, 15 Jan 2027 08:00:00 GMT")) as sts:
        reply = await exchange(sts.url)
    assert reply.credentials.access_key_id == "ASIAONE"
    assert reply.credentials.role_arn == REQUEST.role_arn
    assert reply.credentials.expires_at == datetime(2027, 1, 15, 9, tzinfo=UTC)
    assert reply.sts_date == datetime(2027, 1, 15, 8, tzinfo=UTC)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Fri, 15 Jan 2027 08:00:00 -0000", "1, 1 Jan 99999999999 0:0"])
async def test_response_without_a_usable_date_is_accepted(date: str | None) -> None:
    async with scripted(good_reply(date=date)) as sts:
        assert (await exchange(sts.url)).sts_date is None


@given(st.text())
@example("Mon, 01 Jan 99999999999999 00:00:00 GMT")
@example("Mon, 01 Jan 2024 00:00:00 +99999999999")
@example("Mon, 31 Feb 2024 00:00:00 GMT")
@example("Mon, 01 Xyz 2024 00:00:00 GMT")
def test_date_header_is_an_aware_instant_or_none(header: str) -> None:
    found = _date(header)
    assert found is None or found.tzinfo is not None


async def test_response_in_single_bytes_is_read(autojump_clock: object) -> None:
    async with scripted(Reply(200, good_reply().body, drip_seconds=0.001), good_reply()) as sts:
        assert (await exchange(sts.url)).credentials == (await exchange(sts.url)).credentials


async def test_sts_error_has_code_status_and_retry_after() -> None:
    error = await failure_of(error_reply(400, "Throttling", "Rate exceeded", {"Retry-After": "7"}))
    assert (error.code, error.status, error.retry_after_seconds) == ("Throttling", 400, 7.0)
    assert error.next_step is NextStep.SLOW_DOWN


async def test_sts_error_has_the_time_from_x_amz_retry_after() -> None:
    headers = {"Retry-After": "2", "x-amz-retry-after": "2500"}
    error = await failure_of(error_reply(400, "Throttling", "Rate exceeded", headers))
    assert error.retry_after_seconds == 2.5


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_an_error_and_sends_no_token(status: int) -> None:
    async with scripted() as elsewhere, scripted(Reply(status, b"", {"Location": elsewhere.url})) as sts:
        error = await failure(sts.url)
    assert error.status == status
    assert len(sts.requests) == 1
    assert elsewhere.requests == []


async def test_compressed_response_is_rejected() -> None:
    packed = Reply(200, gzip.compress(good_reply().body), {"Content-Encoding": "gzip"})
    error = await failure_of(packed)
    assert error.code == "MalformedReply"
    assert "gzip" in error.message


async def test_limit_for_the_size_of_a_response_is_exact() -> None:
    body = good_reply().body
    async with scripted(Reply(200, body + b" " * (MAX_REPLY_BYTES - len(body)))) as sts:
        await exchange(sts.url)
    error = await failure_of(Reply(200, body + b" " * (MAX_REPLY_BYTES + 1 - len(body))))
    assert error.code == "MalformedReply"
    assert "longer than" in error.message


async def test_endless_response_is_read_up_to_the_limit() -> None:
    endless = Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_REPLY_BYTES * 8))
    assert "longer than" in (await failure_of(endless)).message


# Failing connections


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("cut_after", [0, 10, 100, 500, -1])
async def test_broken_connection_returns_no_credentials(cut_after: int, reset: object) -> None:
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
async def test_response_that_is_not_http_is_not_quoted(raw: bytes) -> None:
    error = await failure_of(Reply(raw=raw))
    assert error.code == "Unreachable"
    assert "does not speak HTTP" in error.message


async def test_refused_connection_is_reported_with_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = await failure(f"http://127.0.0.1:{port}/")
    fix = "Check HTTPS_PROXY, network policies and firewalls"
    assert (error.code, error.message) == ("Unreachable", f"127.0.0.1:{port}: Connection refused. {fix}")


async def test_unresolvable_name_error_points_to_region_and_dns() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    error = await failure("https://nonexistent.invalid/")
    assert error.code == "Unreachable"
    assert "nonexistent.invalid" in error.message
    assert "AWS_REGION" in error.message


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", "xn--"])
async def test_invalid_host_name_is_an_exchange_error(host: str) -> None:
    error = await failure(f"https://{host}/")
    assert error.code == "Unreachable"
    assert host in error.message


# Deadlines


async def test_one_deadline_covers_a_slow_body(autojump_clock: object) -> None:
    error = await failure_of(Reply(200, good_reply().body, drip_seconds=0.5))
    assert error.code == "Timeout"
    assert trio.current_time() == pytest.approx(ATTEMPT_SECONDS)


async def test_silent_server_is_abandoned_at_the_deadline(autojump_clock: object) -> None:
    error = await failure_of(Reply(delay_seconds=3600))
    assert (error.code, error.next_step) == ("Timeout", NextStep.RETRY)
    assert trio.current_time() == pytest.approx(ATTEMPT_SECONDS)


async def test_informational_responses_do_not_move_the_deadline(autojump_clock: object) -> None:
    error = await failure_of(Reply(raw=b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, drip_seconds=0.1))
    assert error.code == "Timeout"
    assert trio.current_time() == pytest.approx(ATTEMPT_SECONDS)


async def test_name_resolution_has_the_connect_timeout(autojump_clock: object) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(is_silent=True))
    error = await failure(f"https://{STS_HOST}/")
    assert error.code == "Timeout"
    assert trio.current_time() == pytest.approx(CONNECT_SECONDS)


async def test_tls_handshake_has_the_connect_timeout(autojump_clock: object) -> None:
    async with scripted() as sts:  # the server waits for a request in plain text
        error = await failure(sts.url.replace("http:", "https:"))
    assert error.code == "Timeout"
    assert trio.current_time() == pytest.approx(CONNECT_SECONDS)


async def test_cancelled_exchange_closes_its_connection() -> None:
    async with scripted(Reply(delay_seconds=3600)) as sts, StsClient(sts.url) as client:
        before = len(os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.exchange, REQUEST, TOKEN)
            await sts.called.wait()
            assert len(os.listdir("/proc/self/fd")) == before + 2
            nursery.cancel_scope.cancel()
        assert len(os.listdir("/proc/self/fd")) == before + 1  # the server's end of the connection
