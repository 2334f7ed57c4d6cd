"""
The webhook's authorities and its certificate: made, and renewed by the clock that is passed. Pure, but for the chance
that keys are made of.

Rule: an authority signs only once it has been in the bundle for a day, so that the API server knows it before it meets
a certificate of it; the very first one signs at once. Renewal is early by far: a certificate at two thirds of its life,
an authority a year before its end.
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

CERTIFICATE_LIFE = timedelta(days=90)
AUTHORITY_LIFE = timedelta(days=3650)
AUTHORITY_RENEWAL = timedelta(days=365)
"""Before its end: more than a certificate's life, which it must outlast."""

TRUST_DELAY = timedelta(days=1)
"""Until a new authority signs."""

BACKDATED = timedelta(hours=1)
"""For clocks that are behind."""


class KeyPair(NamedTuple):
    """A certificate and its private key, PEM both."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "KeyPair(…)"


class Validity(NamedTuple):
    """When a certificate begins to be good, and when it ends (RFC 5280, 4.1.2.5)."""

    begins_at: datetime
    expires_at: datetime


class Identity(NamedTuple):
    """The authorities, oldest first, and the certificate that one of them signed."""

    authorities: tuple[KeyPair, ...]
    serving: KeyPair

    @property
    def bundle(self) -> bytes:
        """What the API server is to trust: all authorities' certificates."""
        return b"".join(authority.certificate for authority in self.authorities)

    @property
    def validity(self) -> Validity:
        return validity_of(self.serving)

    @property
    def expires_at(self) -> datetime:
        return self.validity.expires_at


def validity_of(pair: KeyPair) -> Validity:
    """Of its certificate. Raises ValueError where there is none that can be read."""
    certificate = _read(pair)
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def renewed(identity: Identity | None, names: Sequence[str], now: datetime) -> Identity:
    """The identity for these DNS names and addresses as it shall be now; itself, where nothing is due."""
    authorities = tuple(a for a in (identity.authorities if identity else ()) if _read(a).not_valid_after_utc > now)
    if not authorities or _read(authorities[-1]).not_valid_after_utc - now < AUTHORITY_RENEWAL:
        authorities = (*authorities, _new_authority(now))
    if identity is not None and authorities == identity.authorities and not _is_due(identity, names, now):
        return identity
    if identity is not None and not _is_due(identity._replace(authorities=authorities), names, now):
        return Identity(authorities, identity.serving)
    return Identity(authorities, _signed(_signer(authorities, now), names, now))


def signer_of(identity: Identity) -> KeyPair | None:
    """The authority that signed its certificate; None where none of them did."""
    serving = _read(identity.serving)
    return next((each for each in identity.authorities if _has_signed(_read(each), serving)), None)


def is_usable(identity: Identity, names: Iterable[str], now: datetime) -> bool:
    """Whether it may be served for these names, due or not."""
    certificate = _read(identity.serving)
    is_now = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
    return is_now and _names_of(certificate) == set(names) and signer_of(identity) is not None


def _signer(authorities: Sequence[KeyPair], now: datetime) -> KeyPair:
    known = [a for a in authorities if _read(a).not_valid_before_utc + BACKDATED + TRUST_DELAY <= now]
    return known[-1] if known else authorities[0]


def _is_due(identity: Identity, names: Iterable[str], now: datetime) -> bool:
    certificate = _read(identity.serving)
    renew_at = certificate.not_valid_before_utc + BACKDATED + CERTIFICATE_LIFE * 2 / 3
    return (
        now >= renew_at
        or now < certificate.not_valid_before_utc
        or _names_of(certificate) != set(names)
        or signer_of(identity) is None
    )


def _new_authority(now: datetime) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"irsa-sidecar webhook {now:%Y-%m-%dT%H:%M:%SZ}")])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
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
        _builder(subject, issuer.subject, key.public_key(), now, CERTIFICATE_LIFE)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return _pair(builder.sign(issuer_key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
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


# In a Secret


def to_secret(identity: Identity) -> dict[str, bytes]:
    """As data of a Secret of type kubernetes.io/tls."""
    return {
        "tls.crt": identity.serving.certificate,
        "tls.key": identity.serving.key,
        "ca.crt": identity.bundle,
        "ca.key": b"".join(authority.key for authority in identity.authorities),
    }


def from_secret(data: dict[str, bytes]) -> Identity | None:
    """What to_secret wrote; None for what it did not."""
    try:
        certificates = [_pem(each) for each in x509.load_pem_x509_certificates(data["ca.crt"])]
        keys = [key + _END for key in data["ca.key"].split(_END)[:-1]]
        authorities = tuple(KeyPair(*each) for each in zip(certificates, keys, strict=True))
        identity = Identity(authorities, KeyPair(data["tls.crt"], data["tls.key"]))
        for pair in (*authorities, identity.serving):
            _check_pair(pair)
    except (KeyError, ValueError, TypeError, x509.ExtensionNotFound):
        return None
    return identity


_END = b"-----END PRIVATE KEY-----\n"


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _check_pair(pair: KeyPair) -> None:
    """Raises ValueError where key and certificate do not belong together."""
    key = serialization.load_pem_private_key(pair.key, None)
    if key.public_key() != _read(pair).public_key():
        raise ValueError("the key is another's")


def now_utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
