"""Test `irsa-sidecar token`: the claims, and the verification with the issuer's published keys."""

import dataclasses
import json
import sys
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import jwt
import pytest

from sidecar.clock import Clock
from sidecar.commands.token import _verify
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.local.issuer import Issuer, generate_key
from sidecar.local.service_account import PodIdentity, TokenRequest
from sidecar.local.signing_keys import KeySet, signing_key
from sidecar.oidc.verified_token import announce_request
from sidecar.serving.http_message import Request, Response, text_response
from sidecar.token import decode_token
from tests.support.fakes.tokens import jwt_of, service_account_token
from tests.support.served_peer import serving_peer
from tests.unit.commands.test_commands import command

KEYS = [generate_key() for _ in range(2)]
POD = PodIdentity("shop", "cart", "cart-0", "node")
REAL = Clock(time.time, time.monotonic)


class Site:
    """An issuer on an HTTP server. A test sets the server's Cache-Control header, or stops the issuer with `is_up`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.issuer = Issuer(url, KeySet((signing_key(KEYS[0]),)), clock=REAL)
        self.cache_control = "max-age=3600"
        self.is_up = True
        self.requested_paths: list[str] = []

    async def respond(self, request: Request) -> Response:
        self.requested_paths.append(request.path)
        if not self.is_up:
            return text_response(503, "down")
        response = await self.issuer.respond(request)
        return dataclasses.replace(response, headers=(("Cache-Control", self.cache_control),))

    def token(self, audience: str = "sts.amazonaws.com") -> str:
        return self.issuer.issue(POD, TokenRequest(audience, 3600)).raw


def site() -> AbstractAsyncContextManager[Site]:
    return serving_peer(Site)


async def verify(raw: str, cache: Path) -> list[str]:
    token = decode_token(raw.encode(), "/token")
    return await _verify(token, {"XDG_CACHE_HOME": str(cache)}, allow_http=True)


async def test_claims_go_to_stdout_and_the_key_goes_to_stderr(tmp_path: Path) -> None:
    async with site() as served:
        file = tmp_path / "token"
        file.write_text(served.token())
        done = await command({"AWS_WEB_IDENTITY_TOKEN_FILE": str(file)}, "token", "--verify", "--allow-http")
    assert done.returncode == 0
    assert json.loads(done.stdout)["sub"] == "system:serviceaccount:shop:cart"
    kid = signing_key(KEYS[0]).kid
    assert done.stderr.decode().splitlines()[:4] == [
        f"irsa-sidecar: requesting {served.url}/.well-known/openid-configuration",
        f"irsa-sidecar: requesting {served.url}/keys",
        f"irsa-sidecar: the keys of {served.url} are fetched now",
        f"irsa-sidecar: verified with key {kid} that {served.url} publishes",
    ]
    assert "irsa-sidecar: its audience is sts.amazonaws.com (aud), which" in done.stderr.decode()
    assert b"does not publish when it will remove key" in done.stderr


async def test_new_key_id_causes_another_key_fetch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with site() as served:
        old = served.token()
        for _ in range(2):
            await verify(old, tmp_path)
        assert served.requested_paths == ["/.well-known/openid-configuration", "/keys"]
        assert "stored at" in capsys.readouterr().err
        served.issuer.rotate(KEYS[1])
        (verified, _, outlook) = await verify(served.token(), tmp_path)
        assert len(served.requested_paths) == 4
        assert signing_key(KEYS[1]).kid in verified
        assert "does not publish when" in outlook
        (_, _, outlook) = await verify(old, tmp_path)
        assert "has rotated its keys: it has published key " in outlook


async def test_cached_keys_verify_while_the_issuer_is_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with site() as served:
        served.cache_control = "no-cache"
        token = served.token()
        await verify(token, tmp_path)
        served.is_up = False
        capsys.readouterr()
        assert "verified with key" in (await verify(token, tmp_path))[0]
        assert "because they are not available now" in capsys.readouterr().err
        with pytest.raises(SidecarError, match=r"not verified: the issuer's keys are not available: .*HTTP 503"):
            await verify(token, tmp_path / "other")


async def test_error_of_an_invalid_token_includes_the_error_of_sts(tmp_path: Path) -> None:
    async with site() as served:
        head, claims, signature = served.token().split(".")
        wrong = {
            f"{head}.{claims}.{'A' * len(signature)}": "does not verify the signature",
            jwt_of({"iss": served.url, "sub": "a", "aud": "b", "iat": 1, "exp": 2}): "the token's kid is k1",
            service_account_token(time.time(), exp=None): "Missing a required claim: exp",
        }
        for raw, words in wrong.items():
            with pytest.raises(SidecarError, match=f"not verified: .*{words}.*STS would .* InvalidIdentityToken"):
                await verify(raw, tmp_path)


# Requested and rejected URLs


async def test_http_issuer_is_requested_only_with_allow_http(tmp_path: Path) -> None:
    async with site() as served:
        file = tmp_path / "token"
        file.write_text(served.token())
        environ = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(file), "XDG_CACHE_HOME": str(tmp_path)}
        done = await command(environ, "token", "--verify")
        assert served.requested_paths == []
        assert done.returncode == 1
        assert f"not verified: {served.url} is not https".encode() in done.stderr
        assert b"--allow-http" in done.stderr
        assert (await command(environ, "token", "--verify", "--allow-http")).returncode == 0
        done = await command(environ, "token", "--verify")
        assert done.returncode == 1, "stored keys do not make the URL acceptable"


@pytest.mark.parametrize(
    "issuer",
    [
        "HTTP://127.0.0.1:1",
        "http://169.254.169.254",
        "file:///etc/passwd",
        "ftp://x.example",
        "//x.example",
        "x.example",
        "https://",
        "https://user:word@x.example",
        "https://[",
        "ldap://x.example",
        "",
    ],
)
@pytest.mark.parametrize("allow_http", [False, True])
async def test_url_that_sts_never_requests_is_rejected(issuer: str, allow_http: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Skip URLs with http if `allow_http` is true, because the flag --allow-http permits them."""
    if allow_http and issuer.lower().startswith("http://"):
        return
    raw = service_account_token(time.time(), iss=issuer)
    with pytest.raises(SidecarError, match="not verified"):
        await _verify(decode_token(raw.encode(), "/t"), {"XDG_CACHE_HOME": str(tmp_path)}, allow_http=allow_http)


@pytest.mark.parametrize("url", ["https://x.example", "https://x.example:8443/id/A", "https://127.0.0.1"])
def test_https_url_is_requested(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    announce_request(url, f"{url}/keys", allow_http=False)
    assert capsys.readouterr().err == f"irsa-sidecar: requesting {url}/keys\n"


def test_key_set_url_on_another_host_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    announce_request("https://issuer.example", "https://10.0.0.1/admin", allow_http=False)
    assert "on another host than the issuer's, issuer.example" in capsys.readouterr().err


async def test_http_key_set_of_an_https_issuer_is_rejected() -> None:
    with pytest.raises(SidecarError, match=r"http://10\.0\.0\.1/keys is not https"):
        announce_request("https://issuer.example", "http://10.0.0.1/keys", allow_http=False)


# The audience is shown but not checked


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"azp": "party-1"}, "its audience is party-1 (azp)"),
        ({"aud": ["account"], "azp": "aws-cli"}, "its audience is aws-cli (azp)"),
        ({"aud": ["a", "b"]}, "several audiences (a, b) and no azp"),
        ({"azp": ""}, "azp is empty or is not a string"),
        ({"azp": 5}, "azp is empty or is not a string"),
    ],
)
async def test_valid_signature_verifies_with_any_audience(
    claims: dict[str, object], words: str, tmp_path: Path
) -> None:
    async with site() as served:
        unsigned = jwt.decode(served.token(), options={"verify_signature": False})
        header = {"kid": signing_key(KEYS[0]).kid}
        raw = jwt.encode({**unsigned, **claims}, KEYS[0], algorithm="RS256", headers=header)
        verified, audience, _ = await verify(raw, tmp_path)
    assert "verified with key" in verified
    assert words in audience


async def test_expired_token_with_a_valid_signature_is_rejected(tmp_path: Path) -> None:
    async with site() as served:
        unsigned = jwt.decode(served.token(), options={"verify_signature": False})
        header = {"kid": signing_key(KEYS[0]).kid}
        raw = jwt.encode({**unsigned, "exp": 1000}, KEYS[0], algorithm="RS256", headers=header)
        with pytest.raises(SidecarError, match="STS would reject it with ExpiredTokenException"):
            await verify(raw, tmp_path)


async def test_missing_cryptography_package_is_named_in_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(
        ConfigurationError, match=r"needs the package cryptography, of the extra local. Run `make tools`"
    ):
        await verify(service_account_token(time.time()), tmp_path)
