"""Test that the endpoint probe calls the endpoint and reads the secret as an SDK does."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar.doctor.checks.endpoint import EndpointFacts
from sidecar.doctor.probes import endpoint
from sidecar.doctor.probes.endpoint import Endpoint, Keys
from sidecar.serving.http_message import Request, Response
from tests.support.exchanges import Resolver, scripted
from tests.support.fakes.scripted_sts import Reply as RawReply
from tests.support.served_peer import serving

SECRET = "s3cret-of-the-endpoint-that-must-not-be-shown"


@asynccontextmanager
async def listening(*replies: Response) -> AsyncIterator[tuple[str, list[Request]]]:
    requests: list[Request] = []
    remaining = list(replies)

    async def respond(request: Request) -> Response:
        requests.append(request)
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    async with serving(respond) as url:
        yield f"{url}/v1/credentials", requests


def _json(status: int, body: Any) -> Response:
    return Response(status, json.dumps(body).encode(), "application/json")


async def collect(url: str, secret: str | None = SECRET, file: str | None = None) -> tuple[EndpointFacts, Keys | None]:
    return await endpoint.collect(Endpoint("SETTING", url, file, secret, is_expected=True, role_arn=None))


async def test_endpoint_probe_sends_the_same_request_as_an_sdk() -> None:
    async with listening(_json(404, {})) as (url, requests):
        await collect(f"{url}?a=1&b=%2F")
    (request,) = requests
    assert (request.method, request.target) == ("GET", "/v1/credentials?a=1&b=%2F")
    assert request.header("host") == url.split("/")[2]
    assert request.header("authorization") == SECRET


async def test_unready_endpoint_is_called_again(autojump_clock: object) -> None:
    body = {
        "AccessKeyId": "ASIAFAKEFAKEFAKE",
        "SecretAccessKey": "s",
        "Token": "t",
        "Expiration": "2027-01-15T09:00:00Z",
    }
    autojump_clock.autojump_threshold = 0.02  # type: ignore[attr-defined]  # loopback is real
    async with listening(_json(503, {"message": "not yet"}), _json(200, body)) as (url, requests):
        facts, keys = await collect(url)
    assert len(requests) == 2
    assert facts.response is not None
    assert (facts.response.status, keys) == (200, Keys("ASIAFAKEFAKEFAKE", "s", "t"))


@pytest.mark.parametrize("piece", [SECRET, SECRET[3:20], f"Authorization: {SECRET}"])
async def test_message_that_quotes_the_secret_is_not_shown(piece: str) -> None:
    async with listening(_json(403, {"message": f"I was sent {piece}"})) as (url, _):
        facts, _ = await collect(url)
    assert facts.response is not None
    assert facts.response.message == "(its message is not shown, because it quotes the secret)"


async def test_endpoint_facts_contain_no_credentials() -> None:
    body = {"AccessKeyId": SECRET, "SecretAccessKey": SECRET, "Token": SECRET, "Expiration": SECRET, SECRET * 2: 1}
    async with listening(_json(200, body | {"RoleArn": SECRET})) as (url, _):
        facts, _ = await collect(url, secret=None)
    assert SECRET not in str(facts)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"[" * 60_000, b"\xff", json.dumps({"Expiration": "2027-99-99T09:00:00Z"}).encode()]
)
async def test_invalid_body_yields_no_credentials(body: bytes) -> None:
    async with listening(Response(200, body, "application/json")) as (url, _):
        facts, keys = await collect(url)
    assert keys is None
    assert facts.response is not None
    assert facts.response.expires_at is None


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/", "http://sts.example/", "http://[::1", "", "http://\0/"])
async def test_secret_is_sent_only_to_loopback(url: str) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    facts, keys = await collect(url)
    assert (facts.response, keys) == (None, None)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n" + b"x" * 1_048_577, ""),
    ],
)
async def test_invalid_or_oversized_http_counts_as_no_response(raw: bytes, words: str) -> None:
    async with scripted(RawReply(raw=raw)) as server:
        facts, _ = await collect(server.url)
    assert facts.response is not None
    assert facts.response.error
    assert words in facts.response.error


async def test_silent_endpoint_times_out(autojump_clock: object) -> None:
    async with scripted(RawReply(delay_seconds=999.0)) as server:
        facts, _ = await collect(server.url)
    assert facts.response is not None
    assert facts.response.error == "no response within 5 s"


@pytest.mark.parametrize(
    ("content", "problem", "newline"),
    [
        (b"secret", "", False),
        (b"secret\n", "", True),
        (b"secret\r\n", "", True),
        (b"", "it is empty", False),
        (b"two\nlines", "it holds more than one line of visible ASCII", False),
        (b"\xff", "it holds more than one line of visible ASCII", False),
        (b"x" * 5000, "it is over 4096 bytes", False),
    ],
)
async def test_secret_file_is_read_as_in_sdks(
    tmp_path: Path,
    content: bytes,
    problem: str,
    newline: bool,  # noqa: FBT001  a column of the table
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    facts, _ = await collect("http://127.0.0.1:1", "secret", str(path))
    assert (facts.secret.problem, facts.secret.ends_in_newline) == (problem, newline)
    assert facts.secret.are_equal
    assert (await collect("http://127.0.0.1:1", "secret", str(tmp_path)))[
        0
    ].secret.problem == "it is not a regular file"
