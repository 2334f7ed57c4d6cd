"""
What an issuer publishes, fetched as STS fetches it: the discovery document, then the key set that it names.

Rule: AWS trusts the public authorities, and beyond them only what a thumbprint names. So a server counts as public
only by certifi's list, never by what this machine trusts besides; and a thumbprint is taken of no server but one that
an authority verifies which the person named.
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
from sidecar.errors import SidecarError
from sidecar.oidc.jwks import MAX_DOCUMENT_BYTES, document_in
from sidecar.outbound import (
    Failure,
    accept_named,
    http_client,
    named_authorities,
    network_error,
    public_authorities,
)
from sidecar.setup.issuer_checks import DISCOVERY_PATH, discovery_concerns, fatal

FETCH_SECONDS = 15.0
"""For both documents together."""

CONNECT_SECONDS = 5.0

PUBLIC_AUTHORITIES = certifi.where()


class UnreachableError(SidecarError):
    """Nothing answers under the issuer's name from here, which says little about how STS sees it."""


class _UnknownAuthorityError(SidecarError):
    """The server's certificate is of no authority in the list."""


class Document(NamedTuple):
    """`thumbprint` is of the topmost certificate that the server showed, if only the named authority verifies it."""

    content: Any
    thumbprint: str | None


class Published(NamedTuple):
    """`thumbprint` is what IAM must know of the server of the keys; None where AWS trusts it anyway."""

    discovery: Any
    keys: Any
    thumbprint: str | None


async def fetch_issuer(issuer: str, ca_file: Path | None = None) -> Published:
    """
    Both documents. The keys are None where the discovery document is such that nobody would go on to them.

    Raises UnreachableError, SidecarError for what is published wrongly, and ConfigurationError for `ca_file`.
    """
    named = None if ca_file is None else named_authorities("--ca-file", str(ca_file))
    with _deadline(issuer):
        discovery = await fetch_document(issuer.rstrip("/") + DISCOVERY_PATH, named)
        if fatal(discovery_concerns(discovery.content, issuer)):
            return Published(discovery.content, None, None)
        keys = await fetch_document(discovery.content["jwks_uri"], named)
    return Published(discovery.content, keys.content, keys.thumbprint)


async def fetch_document(url: str, named: ssl.SSLContext | None) -> Document:
    """One JSON document over https, from a server that public authorities verify, or else `named` does."""
    try:
        # Python's strict check is not STS's, and an authority of one's own must be found out to be unknown.
        public = accept_named(public_authorities(PUBLIC_AUTHORITIES))
        return Document((await _get(url, public))[0], None)
    except _UnknownAuthorityError as exc:
        if named is None:
            raise SidecarError(
                f"{exc}: if the issuer uses an authority of your own, name its certificate with --ca-file, so that AWS "
                "can be given a thumbprint; if only a proxy here signs anew what it passes on, run this elsewhere."
            ) from exc
    try:
        return Document(*await _get(url, named))
    except _UnknownAuthorityError as exc:
        raise SidecarError(f"{exc}, and --ca-file does not hold its authority: name the right one.") from exc


def thumbprint(chain: list[bytes]) -> str:
    """
    What IAM calls a thumbprint: SHA-1, in hex, of the last certificate (DER) that a server shows.

    IAM User Guide, "Obtain the thumbprint for an OpenID Connect identity provider".
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
            f"{url} answers {response.status_code}: publish it there, readable by everybody: STS sends no credentials."
        )
    return _json(url, body), thumbprint(chain)


def presented_chain(connection: Any) -> list[bytes]:
    """The certificates (DER) in the order in which the server sent them, its own first."""
    if sys.version_info >= (3, 13):
        chain: list[bytes] = connection.get_unverified_chain()
        return chain
    # In Python since 3.10, by a public name since 3.13.
    certificates = connection._sslobj.get_unverified_chain()  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in certificates]


def _client(url: str, trust: ssl.SSLContext) -> httpx.AsyncClient:
    headers = {"User-Agent": f"irsa-sidecar/{__version__}"}
    return http_client(url, trust, headers=headers, timeout=httpx.Timeout(None, connect=CONNECT_SECONDS))


def _json(url: str, body: bytes | None) -> Any:
    if body is None:
        raise SidecarError(f"{url} is longer than {MAX_DOCUMENT_BYTES} bytes: no issuer needs that.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise SidecarError(f"{url} is no JSON ({exc}): publish the document itself there.") from exc


@contextmanager
def _deadline(issuer: str) -> Iterator[None]:
    try:
        with trio.fail_after(FETCH_SECONDS):
            yield
    except trio.TooSlowError as exc:
        raise UnreachableError(f"{issuer} gave no whole answer within {FETCH_SECONDS:.0f} s") from exc


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
            return UnreachableError(f"{host}: the proxy refused ({reason})")
        case Failure.NAME:
            return UnreachableError(f"{host} does not resolve here ({reason})")
        case Failure.PROTOCOL | Failure.CONNECTION | Failure.TLS:
            why = str(exc) or reason or type(exc).__name__
            return UnreachableError(f"{host} cannot be reached from here ({why})")
        case Failure.UNKNOWN_AUTHORITY:
            return _UnknownAuthorityError(f"The certificate of {host} does not verify ({reason})")
    return SidecarError(
        f"The certificate of {host} does not verify here ({reason}): replace it. Whether STS accepts it is not known."
    )
