"""Test the renewal of authorities and certificates over years."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from sidecar.errors import ConfigurationError
from sidecar.webhook.certificate.issue import (
    AUTHORITY_LIFETIME,
    CERTIFICATE_LIFETIME,
    CertificateBundle,
    KeyPair,
    from_secret,
    renewed,
    to_secret,
)
from sidecar.webhook.tls import Tls

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("webhook.irsa-sidecar.svc", "127.0.0.1")


def signer_of(bundle: CertificateBundle) -> int:
    """Return the index of the authority that signed the certificate."""
    serving = x509.load_pem_x509_certificate(bundle.serving.certificate)
    for index, authority in enumerate(bundle.authorities):
        if x509.load_pem_x509_certificate(authority.certificate).subject == serving.issuer:
            return index
    raise AssertionError("no authority of the bundle signed the certificate")


def test_first_authority_signs_at_once_for_every_name() -> None:
    bundle = renewed(None, NAMES, START)
    serving = x509.load_pem_x509_certificate(bundle.serving.certificate)
    names = serving.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(each.value) for each in names} == set(NAMES)
    assert bundle.expires_at == START + CERTIFICATE_LIFETIME
    context = ssl.create_default_context(cadata=bundle.ca_bundle.decode())
    assert len(context.get_ca_certs()) == 1


def test_renewal_is_due_after_two_thirds_of_the_lifetime() -> None:
    first = renewed(None, NAMES, START)
    assert renewed(first, NAMES, START + timedelta(days=59)) is first
    second = renewed(first, NAMES, START + timedelta(days=61))
    assert second.authorities == first.authorities
    assert second.serving != first.serving


def test_changed_names_need_a_new_certificate() -> None:
    first = renewed(None, NAMES, START)
    assert renewed(first, NAMES[:1], START).serving != first.serving


def test_new_authority_is_added_before_it_signs() -> None:
    bundle = renewed(None, NAMES, START)
    changed_at: list[int] = []
    for day in range(0, AUTHORITY_LIFETIME.days + 400, 5):
        now = START + timedelta(days=day)
        following = renewed(bundle, NAMES, now)
        assert following.expires_at > now
        if following.authorities != bundle.authorities:
            changed_at.append(day)
            if len(following.authorities) > len(bundle.authorities):
                # If the certificate changes at the same time, the old authority still signs it.
                assert following.serving == bundle.serving or signer_of(following) == 0
        if following.serving != bundle.serving:
            signer = following.authorities[signer_of(following)]
            end = x509.load_pem_x509_certificate(signer.certificate).not_valid_after_utc
            assert end > following.expires_at
        bundle = following
    added, removed = changed_at
    assert added == AUTHORITY_LIFETIME.days - 365 + 5
    assert removed == AUTHORITY_LIFETIME.days
    assert signer_of(bundle) == 0


def test_old_authority_signs_on_the_first_day_of_the_new_one() -> None:
    began_at = START + AUTHORITY_LIFETIME - timedelta(days=364)
    bundle = renewed(renewed(None, NAMES, START), NAMES, began_at)
    assert (len(bundle.authorities), signer_of(bundle)) == (2, 0)
    assert signer_of(renewed(bundle, NAMES[:1], began_at + timedelta(hours=23))) == 0
    assert signer_of(renewed(bundle, NAMES[:1], began_at + timedelta(hours=25))) == 1


def test_certificate_is_valid_after_the_clock_goes_back() -> None:
    bundle = renewed(None, NAMES, START)
    earlier = renewed(bundle, NAMES, START - timedelta(days=1))
    assert x509.load_pem_x509_certificate(earlier.serving.certificate).not_valid_before_utc < START - timedelta(days=1)


def test_secret_contains_the_whole_bundle() -> None:
    bundle = renewed(None, NAMES, START)
    two = renewed(bundle, NAMES, START + AUTHORITY_LIFETIME - timedelta(days=300))
    for each in (bundle, two):
        assert from_secret(to_secret(each)) == each
    assert "PRIVATE" not in repr(bundle)


def test_malformed_secret_has_no_bundle() -> None:
    one, other = renewed(None, NAMES, START), renewed(None, NAMES, START)
    data = to_secret(one)
    for broken in (
        {},
        {**data, "tls.key": to_secret(other)["tls.key"]},
        {**data, "ca.key": b""},
        {**data, "tls.crt": b"x"},
        {name: data[name] for name in ("tls.crt", "tls.key")},
    ):
        assert from_secret(broken) is None


def test_certificate_with_a_wrong_key_is_not_activated() -> None:
    one, other = renewed(None, NAMES, START), renewed(None, NAMES, START)
    tls = Tls()
    tls.use(one.serving)
    in_use = tls.context
    with pytest.raises(ConfigurationError, match="certificate and key cannot be used"):
        tls.use(KeyPair(one.serving.certificate, other.serving.key))
    assert tls.context is in_use
