"""Create typical private certificate authorities, which deviate from RFC 5280, and their servers."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Shape(NamedTuple):
    """The deviations of a chain. Without a deviation, the strict check of Python 3.13 accepts the chain."""

    basic_constraints_are_critical: bool = True
    path_length: int | None = None
    has_key_usage: bool = True
    ca_has_key_id: bool = True
    leaf_has_authority_key_id: bool = True
    leaf_has_subject: bool = True


LAX = {
    "basic constraints not critical": Shape(basic_constraints_are_critical=False),
    "no key usage": Shape(has_key_usage=False),
    "no key usage, and a path length": Shape(has_key_usage=False, path_length=1),
    "authority without a subject key id": Shape(ca_has_key_id=False),
    "no key ids at all": Shape(ca_has_key_id=False, leaf_has_authority_key_id=False),
    "leaf without an authority key id": Shape(leaf_has_authority_key_id=False),
    "all of these": Shape(
        basic_constraints_are_critical=False,
        has_key_usage=False,
        ca_has_key_id=False,
        leaf_has_authority_key_id=False,
        leaf_has_subject=False,
    ),
    "leaf without a subject": Shape(leaf_has_subject=False),
}
"""The deviations that are common in private CAs, and that the strict check of Python 3.13 rejects."""


class LaxAuthority:
    """A root CA, an optional intermediate CA, and the TLS contexts of their servers."""

    def __init__(self, directory: Path, shape: Shape = Shape()) -> None:  # noqa: B008  immutable
        self._directory = directory
        self._shape = shape
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.root = _authority("root", self._key, shape, None)
        self.bundle = self.write("ca.pem", self.root)

    def write(self, name: str, certificate: x509.Certificate) -> str:
        path = self._directory / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return str(path)

    def server(self, host: str) -> ssl.SSLContext:
        """Return the context of a server whose certificate the root issued. The server sends only that certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._context(key, [_leaf(host, key, self.root, self._key, self._shape)])

    def server_of_an_intermediate(self, host: str) -> tuple[ssl.SSLContext, str]:
        """Return the context of a server that does not send its intermediate CA, and the file with that CA."""
        between, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        authority = _authority("intermediate", between, self._shape, (self.root, self._key))
        context = self._context(key, [_leaf(host, key, authority, between, self._shape)])
        return context, self.write("intermediate.pem", authority)

    def _context(self, key: ec.EllipticCurvePrivateKey, chain: list[x509.Certificate]) -> ssl.SSLContext:
        path = self._directory / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context


def _authority(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    shape: Shape,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"lax {name}")])
    signed_by = key if issuer is None else issuer[1]
    builder = _builder(subject, subject if issuer is None else issuer[0].subject, key)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=shape.path_length), critical=shape.basic_constraints_are_critical
    )
    if shape.has_key_usage:
        builder = builder.add_extension(_signs_certificates(), critical=True)
    if shape.ca_has_key_id:
        key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(key_id, critical=False)
    if issuer is not None:
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key())
        builder = builder.add_extension(authority_id, critical=False)
    return builder.sign(signed_by, hashes.SHA256())


def _leaf(
    host: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    shape: Shape,
) -> x509.Certificate:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, host)] if shape.leaf_has_subject else []
    builder = _builder(x509.Name(names), issuer.subject, key)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    if shape.leaf_has_authority_key_id:
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = builder.add_extension(authority_id, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=1),
        not_valid_after=now + timedelta(days=30),
    )


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def strict_as_in_python_3_13() -> Callable[..., ssl.SSLContext]:
    """Return `ssl.create_default_context`, but with the verification flags of Python 3.13 on every version."""
    real = ssl.create_default_context

    def make(*args: object, **options: object) -> ssl.SSLContext:
        context = real(*args, **options)  # type: ignore[arg-type]
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    return make


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> None:
    """
    Do a handshake in memory.

    Raises ssl.SSLCertVerificationError if `client` rejects the certificate.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done: set[int] = set()
    while len(done) < 2:
        for number, side in enumerate(sides):
            try:
                side.do_handshake()
                done.add(number)
            except ssl.SSLWantReadError:
                continue
