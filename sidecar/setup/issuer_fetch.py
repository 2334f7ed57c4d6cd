"""
Fetch an issuer's documents as STS does: the discovery document, then the key set that it names.

Rule: AWS trusts the public authorities, and otherwise only servers with a registered thumbprint. Therefore only
certifi's list decides whether a server is public. Other authorities that this machine trusts do not count. Only a
server that the person's own authority (--ca-file) verifies gets a thumbprint in the result.
"""

import hashlib
import json
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import certifi
import httpx
import trio

from sidecar import __version__
from sidecar.authorities import accept_named, named_authorities, public_authorities
from sidecar.errors import SidecarError
from sidecar.oidc.jwks import MAX_DOCUMENT_BYTES, document_in
from sidecar.outbound import Failure, http_client, network_error
from sidecar.setup.issuer_checks import DISCOVERY_PATH, discovery_concerns, fatal

FETCH_SECONDS = 15.0
"""Deadline for both documents together."""

CONNECT_SECONDS = 5.0

PUBLIC_AUTHORITIES = certifi.where()


class UnreachableError(SidecarError):
    """An error because this machine cannot reach the issuer. STS may still reach it."""


class _UnknownAuthorityError(SidecarError):
    """An error because the authority of a server's certificate is not in the list."""


class Document(NamedTuple):
    """A JSON document. `thumbprint` is set if only the authority in --ca-file verifies the server."""

    content: Any
    thumbprint: str | None


class Published(NamedTuple):
    """
    An issuer's documents, and the thumbprint of the server that publishes the keys.

    The thumbprint is None if AWS trusts the server, or if the keys were not fetched.
    """

    discovery: Any
    keys: Any
    thumbprint: str | None


async def fetch_issuer(issuer: str, ca_file: Path | None = None) -> Published:
    """
    Return both documents. The keys are None if the discovery document has a fatal problem.

    Raises UnreachableError if this machine cannot reach the issuer, another SidecarError if a document is published
    incorrectly, and ConfigurationError if `ca_file` is invalid.
    """
    named = None if ca_file is None else named_authorities("--ca-file", str(ca_file))
    with _deadline(issuer):
        discovery = await fetch_document(issuer.rstrip("/") + DISCOVERY_PATH, named)
        if fatal(discovery_concerns(discovery.content, issuer)):
            return Published(discovery.content, None, None)
        keys = await fetch_document(discovery.content["jwks_uri"], named)
    return Published(discovery.content, keys.content, keys.thumbprint)


async def fetch_document(url: str, named: ssl.SSLContext | None) -> Document:
    """
    Return one JSON document from an https server that the public authorities or `named` verify.

    Raises SidecarError if the document cannot be fetched.
    """
    try:
        # Like STS, this context checks certificates less strictly than Python does by default. Otherwise the
        # certificate of a private authority could fail for another reason than its unknown authority.
        public = accept_named(public_authorities(PUBLIC_AUTHORITIES))
        return Document((await _get(url, public))[0], None)
    except _UnknownAuthorityError as exc:
        if named is None:
            raise SidecarError(
                exc.problem,
                fix="If the issuer uses your own authority, set --ca-file to that authority's certificate, so that AWS "
                "gets a thumbprint. If only a proxy here issues its own certificates, run this on another network",
            ) from exc
    try:
        return Document(*await _get(url, named))
    except _UnknownAuthorityError as exc:
        raise SidecarError(
            f"{exc.problem}, and --ca-file does not hold its authority",
            fix="Set --ca-file to the certificate of the right authority",
            setting="--ca-file",
        ) from exc


def thumbprint(chain: list[bytes]) -> str:
    """
    Return IAM's thumbprint of a server. It is the SHA-1, in hex, of the last certificate (DER) that the server sends.

    Source: IAM User Guide, "Obtain the thumbprint for an OpenID Connect identity provider".
    """
    return hashlib.sha1(chain[-1]).hexdigest()  # noqa: S324  (AWS's choice)


async def _get(url: str, trust: ssl.SSLContext) -> tuple[Any, str]:
    host = urlsplit(url).netloc
    with _foreign_errors_mapped(host):
        async with (
            _client(url, trust) as client,
            client.stream("GET", url, headers={"Accept": "application/json"}) as response,
        ):
            stream = response.extensions["network_stream"].get_extra_info("ssl_object")
            chain = presented_chain(stream)
            body = await document_in(response)
    if response.status_code != 200:
        raise SidecarError(
            f"{url} returns the status {response.status_code}",
            fix="Publish the document at this URL for everybody, because STS sends no credentials",
        )
    return _json(url, body), thumbprint(chain)


def presented_chain(connection: Any) -> list[bytes]:
    """Return the certificates (DER) in the order in which the server sent them. The server's own is the first."""
    if sys.version_info >= (3, 13):
        chain: list[bytes] = connection.get_unverified_chain()
        return chain
    # The method is private since Python 3.10 and public since 3.13.
    certificates = connection._sslobj.get_unverified_chain()  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in certificates]


def _client(url: str, trust: ssl.SSLContext) -> httpx.AsyncClient:
    headers = {"User-Agent": f"irsa-sidecar/{__version__}"}
    return http_client(url, trust, headers=headers, timeout=httpx.Timeout(None, connect=CONNECT_SECONDS))


def _json(url: str, body: bytes | None) -> Any:
    if body is None:
        problem = f"{url} is longer than {MAX_DOCUMENT_BYTES} bytes"
        raise SidecarError(problem, fix="Publish only the issuer's document at this URL. It is much smaller")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise SidecarError(
            f"{url} is not JSON ({exc})",
            fix="Publish the document itself at this URL",
        ) from exc


@contextmanager
def _deadline(issuer: str) -> Iterator[None]:
    try:
        with trio.fail_after(FETCH_SECONDS):
            yield
    except trio.TooSlowError as exc:
        raise UnreachableError(f"{issuer} sent no complete response within {FETCH_SECONDS:.0f} s") from exc


@contextmanager
def _foreign_errors_mapped(host: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
        raise _as_our_error(host, exc) from exc


def _as_our_error(host: str, exc: Exception) -> SidecarError:
    failure, reason = network_error(exc)
    match failure:
        case Failure.TIMEOUT:
            return UnreachableError(f"{host} could not be reached in time")
        case Failure.PROXY:
            return UnreachableError(f"{host}: the proxy rejected the request ({reason})")
        case Failure.NAME:
            return UnreachableError(f"{host} does not resolve here ({reason})")
        case Failure.PROTOCOL | Failure.CONNECTION | Failure.TLS:
            details = str(exc) or reason or type(exc).__name__
            return UnreachableError(f"{host} cannot be reached from here ({details})")
        case Failure.UNKNOWN_AUTHORITY:
            return _UnknownAuthorityError(f"The certificate of {host} does not verify ({reason})")
    return SidecarError(
        f"The certificate of {host} does not verify here ({reason})",
        fix="Replace the certificate, because STS may reject it",
    )
