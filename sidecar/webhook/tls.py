"""
Keep the TLS context for new connections.

Rule: a new certificate replaces the whole context without a restart. An unusable certificate changes nothing.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.errors import ConfigurationError
from sidecar.webhook.certificate.issue import KeyPair


class Tls:
    """The active TLS context, which is None until there is a certificate."""

    def __init__(self) -> None:
        self.context: ssl.SSLContext | None = None

    def use(self, pair: KeyPair) -> None:
        """
        Use this certificate for new connections.

        Raises ConfigurationError if it cannot be used.
        """
        self.context = context_with(pair)


def context_with(pair: KeyPair) -> ssl.SSLContext:
    """
    Return a context with this certificate.

    Raises ConfigurationError if OpenSSL rejects the certificate or the key, for example a short key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        with _as_file(pair.certificate) as certificate, _as_file(pair.key) as key:
            context.load_cert_chain(certificate, key)
    except (ssl.SSLError, ValueError) as exc:
        raise ConfigurationError(
            f"The webhook's certificate and key cannot be used ({exc})",
            fix="Use a PEM certificate and its PEM key",
        ) from exc
    return context


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Yield the path of a file in memory, because a key must not be on a disk, and the Pod's disk may be read-only."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
