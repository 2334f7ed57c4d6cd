"""Test the fetch of an issuer's keys from a real server, and the errors of the fetch."""

from collections.abc import Mapping

import pytest
import trio

from sidecar.errors import ConfigurationError
from sidecar.oidc.jwks import IssuerError, fetch
from tests.support.exchanges import Authority, Resolver, scripted
from tests.support.fakes.scripted_sts import NO_HEADERS, Reply, ScriptedSts

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")

HOST = "oidc.example.com"


def documents(sts: ScriptedSts, headers: Mapping[str, str] = NO_HEADERS) -> None:
    """Let the scripted server return its discovery document first, and then the keys."""
    issuer = sts.url.rstrip("/")
    discovery = (
        f'{{"issuer": "{issuer}", "jwks_uri": "{issuer}/keys", "id_token_signing_alg_values_supported": ["RS256"]}}'
    )
    sts.replies = [Reply(200, discovery.encode()), Reply(200, b'{"keys": [{"kid": "a"}]}', headers)]


@pytest.mark.parametrize(
    ("headers", "max_age", "may_store"),
    [
        ({}, None, True),
        ({"Cache-Control": "public, max-age=3600"}, 3600.0, True),
        ({"Cache-Control": 'MAX-AGE="60"', "Age": "20"}, 40.0, True),
        ({"Cache-Control": "max-age=60", "Age": "999"}, 0.0, True),
        ({"Cache-Control": "max-age=60, max-age=5", "Age": "x"}, 5.0, True),
        ({"Cache-Control": "max-age=-1"}, None, True),
        ({"Cache-Control": "no-cache, max-age=60"}, 0.0, True),
        ({"Cache-Control": "no-store"}, 0.0, False),
    ],
)
async def test_cache_control_limits_the_use_of_keys(
    headers: dict[str, str],
    max_age: float | None,
    may_store: bool,  # noqa: FBT001  a column of the table
) -> None:
    async with scripted(Reply()) as server:
        documents(server, headers)
        published = await fetch(server.url.rstrip("/"))
    assert (published.max_age_seconds, published.may_store) == (max_age, may_store)
    assert published.keys == [{"kid": "a"}]
    assert published.algorithms == ("RS256",)


async def test_fetch_returns_the_date_of_the_issuer() -> None:
    for header, date in (("Fri, 15 Jan 2027 08:00:00 GMT", 1_800_000_000.0), ("yesterday", None)):
        async with scripted(Reply()) as server:
            documents(server, {"Date": header})
            assert (await fetch(server.url.rstrip("/"))).date == date


async def test_issuer_is_trusted_through_the_ca_bundle(authority: Authority) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(HOST))
    async with scripted(Reply(), tls=authority.server(HOST), host=HOST) as server:
        documents(server)
        assert (await fetch(server.url.rstrip("/"), ca_bundle=authority.bundle)).keys
        documents(server)
        with pytest.raises(IssuerError) as caught:
            await fetch(server.url.rstrip("/"))
    assert caught.value.reason == "tls"


async def test_unresolvable_issuer_has_the_reason_dns() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    with pytest.raises(IssuerError) as caught:
        await fetch(f"https://{HOST}/id/A")
    assert caught.value.reason == "dns"
    assert f"{HOST} does not resolve here" in str(caught.value)


async def test_silent_issuer_is_abandoned_at_the_deadline(autojump_clock: object) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(is_silent=True))
    with pytest.raises(IssuerError) as caught:
        await fetch(f"https://{HOST}/id/A")
    assert caught.value.reason == "timeout"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(403, b"{}"), "status"),
        (Reply(302, b"", {"Location": "https://elsewhere.example"}), "status"),
        (Reply(200, b"<html>"), "document"),
        (Reply(200, b"\xff\xfe"), "document"),
        (Reply(raw=b"no http\r\n\r\n"), "unreachable"),
    ],
)
async def test_invalid_response_has_its_own_reason(reply: Reply, reason: str) -> None:
    async with scripted(reply) as server:
        with pytest.raises(IssuerError) as caught:
            await fetch(server.url.rstrip("/"))
    assert caught.value.reason == reason
    assert server.url in str(caught.value)


@pytest.mark.parametrize("issuer", ["", "nowhere", "gopher://x", "http://127.0.0.1:1", "http://[::1", "http://x\0y"])
async def test_unusable_issuer_url_is_an_issuer_error(issuer: str) -> None:
    with pytest.raises(IssuerError):
        await fetch(issuer)


async def test_invalid_bundle_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="AWS_CA_BUNDLE"):
        await fetch(f"https://{HOST}", ca_bundle="/nowhere")
