"""
What an issuer publishes, fetched as STS fetches it: the discovery document, then the key set that it names.

Rule: AWS trusts the public authorities, and beyond them only what a thumbprint names. So a server counts as public
only by certifi's list, never by what this machine trusts besides; and a thumbprint is taken of no server but one that
an authority verifies which the person named.
"""

import hashlib
import json
import socket
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
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.published_keys import MAX_DOCUMENT_BYTES, document_in
from sidecar.setup.issuer_checks import DISCOVERY_PATH, discovery_concerns, fatal
from sidecar.sts_client import causes, proxy_for

FETCH_SECONDS = 15.0
"""For both documents together."""

CONNECT_SECONDS = 5.0

PUBLIC_AUTHORITIES = certifi.where()

_UNKNOWN_AUTHORITY = {18, 19, 20, 21}
"""OpenSSL's verify codes for a chain that ends at nobody known (x509_vfy.h); others are the certificate's fault."""


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
    named = None if ca_file is None else _authority(ca_file)
    with _deadline(issuer):
        discovery = await fetch_document(issuer.rstrip("/") + DISCOVERY_PATH, named)
        if fatal(discovery_concerns(discovery.content, issuer)):
            return Published(discovery.content, None, None)
        keys = await fetch_document(discovery.content["jwks_uri"], named)
    return Published(discovery.content, keys.content, keys.thumbprint)


async def fetch_document(url: str, named: ssl.SSLContext | None) -> Document:
    """One JSON document over https, from a server that public authorities verify, or else `named` does."""
    try:
        return Document((await _get(url, ssl.create_default_context(cafile=PUBLIC_AUTHORITIES)))[0], None)
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
    return httpx.AsyncClient(
        headers={"User-Agent": f"irsa-sidecar/{__version__}"},
        verify=trust,
        proxy=proxy_for(url),
        trust_env=False,
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
    )


def _json(url: str, body: bytes | None) -> Any:
    if body is None:
        raise SidecarError(f"{url} is longer than {MAX_DOCUMENT_BYTES} bytes: no issuer needs that.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise SidecarError(f"{url} is no JSON ({exc}): publish the document itself there.") from exc


def _authority(path: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(path))
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigurationError(
            f"--ca-file is {str(path)!r}, which cannot be read as PEM certificates ({exc}): name a file that holds the "
            "issuer's authority."
        ) from exc


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
    except httpx.TimeoutException as exc:
        raise UnreachableError(f"{host} could not be reached in time") from exc
    except httpx.ProxyError as exc:
        raise UnreachableError(f"{host}: the proxy refused ({exc})") from exc
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
        raise _by_cause(host, exc) from exc


def _by_cause(host: str, exc: Exception) -> SidecarError:
    for cause in causes(exc):
        if isinstance(cause, ssl.SSLCertVerificationError):
            said = f"The certificate of {host} does not verify ({cause.verify_message})"
            if cause.verify_code in _UNKNOWN_AUTHORITY:
                return _UnknownAuthorityError(said)
            return SidecarError(f"{said}, so STS would not take it either: mend it.")
        if isinstance(cause, socket.gaierror):
            return UnreachableError(f"{host} does not resolve here ({cause.strerror})")
    return UnreachableError(f"{host} cannot be reached from here ({str(exc) or type(exc).__name__})")
