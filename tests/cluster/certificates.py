"""Create the keys and certificates of a cluster, as `kubeadm` does, and a kubeconfig for each client."""

import base64
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ADMINISTRATORS = "system:masters"

CLIENTS = {
    "admin": ("admin", ADMINISTRATORS),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "node": ("system:node:node", "system:nodes"),
    "apiserver-to-kubelet": ("apiserver-to-kubelet", ADMINISTRATORS),
}
"""The user and group of each client, by the name of the client's files."""

_LIFETIME = timedelta(days=30)

_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Certificates:
    """A certificate authority in `folder`, and the certificates that it signs, as PEM files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("irsa-sidecar-test-ca")
        authority = self._certificate(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self._write("ca", self._key, authority)

    def make_client(self, name: str, user: str, group: str) -> None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        self._make(name, _name(user, group), usage)

    def make_server(self, name: str, names: Iterable[str], addresses: Iterable[str]) -> None:
        alternatives = [*map(x509.DNSName, names), *(x509.IPAddress(ip_address(address)) for address in addresses)]
        self._make(name, _name(name), x509.SubjectAlternativeName(alternatives))

    def make_token_key(self, name: str = "service-accounts") -> None:
        """Create a key that signs service account tokens. It is an RSA key, as in EKS."""
        key = rsa.generate_private_key(65537, 2048)
        self._write(name, key)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.folder / f"{name}.pub").write_bytes(public)

    def write_kubeconfig(self, path: Path, client: str, server: str) -> None:
        cluster = {"server": server, "certificate-authority-data": self._embedded("ca.crt")}
        user = {
            "client-certificate-data": self._embedded(f"{client}.crt"),
            "client-key-data": self._embedded(f"{client}.key"),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": client, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": client}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(document))

    def _make(self, name: str, subject: x509.Name, extension: x509.ExtensionType) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(name, key, self._certificate(subject, key, extension))

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + _LIFETIME)
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        )
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, key: _PrivateKey, certificate: x509.Certificate | None = None) -> None:
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
        (self.folder / f"{name}.key").touch(mode=0o600)
        (self.folder / f"{name}.key").write_bytes(private)
        if certificate is not None:
            (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(pem))

    def _embedded(self, file: str) -> str:
        return base64.b64encode((self.folder / file).read_bytes()).decode()


def _name(common_name: str, organization: str = "") -> x509.Name:
    attributes: list[x509.NameAttribute[Any]] = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)
