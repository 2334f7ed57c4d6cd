"""Test the configured authorities, on each version of Python and for each outgoing connection."""

import ssl
from pathlib import Path

import pytest
import trio

from sidecar.authorities import named_authorities, trust_in, unverified
from sidecar.doctor.probes.network_path import collect
from sidecar.errors import ConfigurationError
from sidecar.oidc import jwks as published_keys
from sidecar.outbound import Failure, certificate_advice, network_error
from sidecar.setup.issuer_fetch import fetch_document
from tests.support.exchanges import STS_HOST, Resolver, exchange, failure, scripted
from tests.support.fakes.scripted_sts import Reply
from tests.support.lax_authorities import LAX, LaxAuthority, Shape, handshake, strict_as_in_python_3_13

pytestmark = pytest.mark.usefixtures("no_proxies", "strict")


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create contexts with the flags of Python 3.13, also on older versions."""
    monkeypatch.setattr(ssl, "create_default_context", strict_as_in_python_3_13())


@pytest.fixture(params=LAX)
def lax(request: pytest.FixtureRequest, tmp_path: Path) -> LaxAuthority:
    return LaxAuthority(tmp_path, LAX[request.param])


@pytest.fixture
async def resolver() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))


def test_strict_check_rejects_each_lax_authority(lax: LaxAuthority) -> None:
    """Check that every handshake fails without `accept_named`. The other tests in this file rely on these failures."""
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ssl.create_default_context(cafile=lax.bundle), lax.server(STS_HOST), STS_HOST)


async def test_sts_with_a_lax_authority_in_the_bundle_is_trusted(resolver: None, lax: LaxAuthority) -> None:
    async with scripted(tls=lax.server(STS_HOST), host=STS_HOST) as sts:
        reply = await exchange(sts.url, ca_bundle=lax.bundle)
    assert reply.credentials.access_key_id == "ASIAFAKE0001"


async def test_issuer_with_a_lax_authority_in_the_bundle_is_trusted(resolver: None, lax: LaxAuthority) -> None:
    async with scripted(Reply(404, b"{}"), tls=lax.server(STS_HOST), host=STS_HOST) as server:
        with pytest.raises(published_keys.IssuerError) as caught:
            await published_keys.fetch(server.url, ca_bundle=lax.bundle)
    assert caught.value.reason == "status"  # the handshake succeeded, so the error is the HTTP status


async def test_doctor_trusts_a_lax_authority_in_the_bundle(resolver: None, lax: LaxAuthority) -> None:
    async with scripted(Reply(302, b""), tls=lax.server(STS_HOST), host=STS_HOST) as server:
        path = await collect(server.url, lax.bundle)
    assert (path.failed_step, path.reason) == ("", "")


async def test_issuer_with_a_lax_authority_gets_a_thumbprint(resolver: None, lax: LaxAuthority) -> None:
    async with scripted(Reply(200, b"{}"), tls=lax.server(STS_HOST), host=STS_HOST) as server:
        document = await fetch_document(server.url, named_authorities("--ca-file", lax.bundle))
    assert (document.content, len(document.thumbprint or "")) == ({}, 40)


async def test_intermediate_in_the_bundle_is_trusted_on_any_python(resolver: None, tmp_path: Path) -> None:
    """Use an intermediate authority as the anchor. Python before 3.13 would require the root."""
    server, intermediate = LaxAuthority(tmp_path).server_of_an_intermediate(STS_HOST)
    async with scripted(tls=server, host=STS_HOST) as sts:
        await exchange(sts.url, ca_bundle=intermediate)


def test_strict_check_stays_on_for_public_authorities() -> None:
    assert trust_in(None).verify_flags & ssl.VERIFY_X509_STRICT


def test_every_context_except_unverified_checks_the_chain(tmp_path: Path) -> None:
    for context in (trust_in(None), trust_in(LaxAuthority(tmp_path).bundle)):
        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED
    assert unverified().verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize("path", ["/nowhere", "/", "/dev/null", "nul\0byte"])
def test_unreadable_bundle_is_named_with_its_setting(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--ca-file is .* cannot be read as PEM"):
        named_authorities("--ca-file", path)


async def test_missing_authority_is_reported_with_the_bundle(resolver: None, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    theirs, ours = LaxAuthority(tmp_path), LaxAuthority(tmp_path / "other")
    async with scripted(tls=theirs.server(STS_HOST), host=STS_HOST) as sts:
        named = await failure(sts.url, ca_bundle=ours.bundle)
        public = await failure(sts.url)
    assert f"Add the authority that signed it to {ours.bundle}" in named.message
    assert "set AWS_CA_BUNDLE to a file with its authority" in public.message


async def test_error_about_a_wrong_name_does_not_mention_the_bundle(resolver: None, tmp_path: Path) -> None:
    authority = LaxAuthority(tmp_path)
    async with scripted(tls=authority.server("sts.example.com"), host=STS_HOST) as sts:
        error = await failure(sts.url, ca_bundle=authority.bundle)
    assert "Hostname mismatch" in error.message
    assert "AWS_ENDPOINT_URL_STS" in error.message
    assert "AWS_CA_BUNDLE" not in error.message


@pytest.mark.parametrize("failure_kind", [Failure.WRONG_DATE, Failure.WRONG_NAME, Failure.CERTIFICATE])
def test_advice_names_the_bundle_only_for_an_unknown_authority(failure_kind: Failure) -> None:
    for bundle in (None, "/ca.pem"):
        assert "AWS_CA_BUNDLE" not in certificate_advice(failure_kind, bundle)


def test_error_about_a_lax_certificate_has_openssls_message(tmp_path: Path) -> None:
    authority = LaxAuthority(tmp_path, Shape(leaf_has_authority_key_id=False))
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(ssl.create_default_context(cafile=authority.bundle), authority.server(STS_HOST), STS_HOST)
    assert network_error(caught.value) == (Failure.CERTIFICATE, "Missing Authority Key Identifier")
