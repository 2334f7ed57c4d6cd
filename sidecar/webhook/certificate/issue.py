"""
Create and renew the webhook's authorities and certificate. The time is an argument. Pure, except for random keys.

Rules:

- An authority signs only after it has been in the bundle for a day. So the API server trusts the authority before it
  sees a certificate that the authority signed. Only the first authority signs at once.
- A certificate is renewed after two thirds of its lifetime, and an authority a year before it expires.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERTIFICATE_LIFETIME = timedelta(days=90)
AUTHORITY_LIFETIME = timedelta(days=3650)
AUTHORITY_RENEWAL = timedelta(days=365)
"""Time between an authority's renewal and its expiration. It is longer than a certificate's lifetime."""

TRUST_DELAY = timedelta(days=1)
"""Delay before a new authority signs."""

BACKDATED = timedelta(hours=1)
"""Time by which certificates are backdated, because the clocks of clients may be slow."""


class KeyPair(NamedTuple):
    """A certificate and its private key, both in PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "KeyPair(…)"


class Validity(NamedTuple):
    """The validity period of a certificate (RFC 5280, 4.1.2.5)."""

    begins_at: datetime
    expires_at: datetime


class CertificateBundle(NamedTuple):
    """The authorities, oldest first, and the certificate that one of them signed."""

    authorities: tuple[KeyPair, ...]
    serving: KeyPair

    @property
    def ca_bundle(self) -> bytes:
        """Return the certificates of all authorities, which the API server must trust."""
        return b"".join(authority.certificate for authority in self.authorities)

    @property
    def validity(self) -> Validity:
        return validity_of(self.serving)

    @property
    def expires_at(self) -> datetime:
        return self.validity.expires_at


def validity_of(pair: KeyPair) -> Validity:
    """
    Return the validity of the pair's certificate.

    Raises ValueError if it cannot be read.
    """
    certificate = _read(pair)
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def renewed(bundle: CertificateBundle | None, names: Sequence[str], now: datetime) -> CertificateBundle:
    """Return a bundle for these DNS names and addresses. Keep each part of `bundle` that exists and is not due."""
    authorities = tuple(a for a in (bundle.authorities if bundle else ()) if _read(a).not_valid_after_utc > now)
    if not authorities or _read(authorities[-1]).not_valid_after_utc - now < AUTHORITY_RENEWAL:
        authorities = (*authorities, _new_authority(now))
    if bundle is not None and authorities == bundle.authorities and not _is_due(bundle, names, now):
        return bundle
    if bundle is not None and not _is_due(bundle._replace(authorities=authorities), names, now):
        return CertificateBundle(authorities, bundle.serving)
    return CertificateBundle(authorities, _signed(_signer(authorities, now), names, now))


def signer_of(bundle: CertificateBundle) -> KeyPair | None:
    """Return the authority that signed the certificate, or None if the bundle does not contain this authority."""
    serving = _read(bundle.serving)
    return next((each for each in bundle.authorities if _has_signed(_read(each), serving)), None)


def is_usable(bundle: CertificateBundle, names: Iterable[str], now: datetime) -> bool:
    """Return whether the certificate may be served for these names, even if it is due for renewal."""
    certificate = _read(bundle.serving)
    is_now = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
    return is_now and _names_of(certificate) == set(names) and signer_of(bundle) is not None


def _signer(authorities: Sequence[KeyPair], now: datetime) -> KeyPair:
    known = [a for a in authorities if _read(a).not_valid_before_utc + BACKDATED + TRUST_DELAY <= now]
    return known[-1] if known else authorities[0]


def _is_due(bundle: CertificateBundle, names: Iterable[str], now: datetime) -> bool:
    certificate = _read(bundle.serving)
    renew_at = certificate.not_valid_before_utc + BACKDATED + CERTIFICATE_LIFETIME * 2 / 3
    return (
        now >= renew_at
        or now < certificate.not_valid_before_utc
        or _names_of(certificate) != set(names)
        or signer_of(bundle) is None
    )


def _new_authority(now: datetime) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"irsa-sidecar webhook {now:%Y-%m-%dT%H:%M:%SZ}")])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def _signed(authority: KeyPair, names: Sequence[str], now: datetime) -> KeyPair:
    issuer = _read(authority)
    issuer_key = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "irsa-sidecar webhook")])
    builder = (
        _builder(subject, issuer.subject, key.public_key(), now, CERTIFICATE_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return _pair(builder.sign(issuer_key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), private)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each.value) for each in found}


def _has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _read(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate)


# The form in a Secret


def to_secret(bundle: CertificateBundle) -> dict[str, bytes]:
    """Return the data for a Secret of type kubernetes.io/tls."""
    return {
        "tls.crt": bundle.serving.certificate,
        "tls.key": bundle.serving.key,
        "ca.crt": bundle.ca_bundle,
        "ca.key": b"".join(authority.key for authority in bundle.authorities),
    }


def from_secret(data: dict[str, bytes]) -> CertificateBundle | None:
    """Return the bundle in the data of a Secret that `to_secret` wrote, or None for other data."""
    try:
        certificates = [_pem(each) for each in x509.load_pem_x509_certificates(data["ca.crt"])]
        keys = [key + _END for key in data["ca.key"].split(_END)[:-1]]
        authorities = tuple(KeyPair(*each) for each in zip(certificates, keys, strict=True))
        bundle = CertificateBundle(authorities, KeyPair(data["tls.crt"], data["tls.key"]))
        for pair in (*authorities, bundle.serving):
            _check_pair(pair)
    except (KeyError, ValueError, TypeError, x509.ExtensionNotFound):
        return None
    return bundle


_END = b"-----END PRIVATE KEY-----\n"


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _check_pair(pair: KeyPair) -> None:
    """Raise ValueError if the key does not belong to the certificate."""
    key = serialization.load_pem_private_key(pair.key, None)
    if key.public_key() != _read(pair).public_key():
        raise ValueError("the key does not belong to the certificate")


def now_utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
