"""
Connect to servers outside: choose the proxy, create the HTTP client, and classify failures.

Rule: every httpx client for another machine is created here, with a TLS context of authorities.py. So all connections
(to STS, to the issuer, from `setup` and `doctor`) trust the same authorities and use the same proxy.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpcore  # noqa: F401  httpx would import it with the first client, outside of lean_imports.py
import httpx

from sidecar.addresses import is_loopback_host
from sidecar.errors import Explanation

# The proxy


def no_proxy_warning_for(url: str) -> Explanation | None:
    """Return a warning about NO_PROXY entries without effect, or None. Without a proxy for this URL, return None."""
    parts = urlsplit(url)
    if not _may_have_proxy(parts.hostname):
        return None
    from urllib.request import getproxies  # noqa: PLC0415  1 MiB, only with a proxy

    from sidecar.proxy_settings import no_proxy_warning  # noqa: PLC0415  only with a proxy

    proxies = getproxies()
    return no_proxy_warning(proxies.get("no", ""), parts.netloc) if parts.scheme in proxies else None


def _may_have_proxy(host: str | None) -> bool:
    """Return whether a proxy is possible: the host is another machine, and the environment names a proxy."""
    return not is_loopback_host(host or "") and any(name.lower().endswith("_proxy") for name in os.environ)


def proxy_for(url: str) -> str | None:
    """
    Return the proxy for this URL by botocore's rules, or None if no proxy is set or NO_PROXY has the host.

    HTTPS_PROXY or HTTP_PROXY names the proxy. httpx's own parser of NO_PROXY fails on entries that are common in
    clusters, such as fe80::/10.

    Raises ConfigurationError if the proxy's URL has no host, or if its user or password is not percent-encoded.
    """
    parts = urlsplit(url)
    if not _may_have_proxy(parts.hostname):
        return None
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415  1 MiB, only with a proxy

    from sidecar.proxy_settings import checked_proxy  # noqa: PLC0415  only with a proxy

    proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    return checked_proxy(f"{parts.scheme.upper()}_PROXY", proxy) if proxy else None


# The HTTP client


def http_transport(url: str, trust: ssl.SSLContext | None) -> httpx.AsyncHTTPTransport:
    """
    Return a transport to the server of `url`, through its proxy if it has one.

    The transport keeps no idle connections or cookies, follows no redirects and decodes no body. A connection never
    waits for another one. `trust` verifies the server and a proxy over TLS. It may be None if neither uses TLS.
    Raises ConfigurationError if the proxy setting cannot be used.
    """
    proxy = proxy_for(url)
    try:
        return httpx.AsyncHTTPTransport(
            verify=trust or False,
            proxy=proxy and httpx.Proxy(proxy, ssl_context=trust if is_over_tls(proxy) else None),
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )
    except (ValueError, ImportError, httpx.InvalidURL) as exc:
        from sidecar.proxy_settings import unusable_proxy  # noqa: PLC0415  only with a proxy

        raise unusable_proxy(f"{urlsplit(url).scheme.upper()}_PROXY") from exc


def http_client(url: str, trust: ssl.SSLContext | None, **options: Any) -> httpx.AsyncClient:
    """
    Return an httpx client over `http_transport`. `options` are those of httpx.

    Raises ConfigurationError if the proxy setting cannot be used.
    """
    return httpx.AsyncClient(transport=http_transport(url, trust), trust_env=False, **options)


def is_over_tls(url: str | None) -> bool:
    """Return whether connections to this URL begin with TLS."""
    return (url or "").lower().startswith("https:")


def needs_trust(url: str) -> bool:
    """
    Return whether the server of `url`, or the proxy to it, uses TLS.

    Raises ConfigurationError if the proxy setting cannot be used.
    """
    return is_over_tls(url) or is_over_tls(proxy_for(url))


# The meaning of failures


class Failure(StrEnum):
    """The kind of a failed request without a response."""

    TIMEOUT = "timeout"
    PROXY = "proxy"
    PROTOCOL = "protocol"
    NAME = "name"
    UNKNOWN_AUTHORITY = "unknown_authority"
    WRONG_NAME = "wrong_name"
    WRONG_DATE = "wrong_date"
    CERTIFICATE = "certificate"
    TLS = "tls"
    CONNECTION = "connection"


class NetworkError(NamedTuple):
    """A failed request. `reason` is the text of the proxy, OpenSSL, the resolver or the kernel, and may be empty."""

    failure: Failure
    reason: str = ""


_OF_HTTPX = (
    (httpx.TimeoutException, Failure.TIMEOUT),
    (httpx.ProxyError, Failure.PROXY),
    # The exception's text may quote the received bytes. If a server echoes the request, they contain the token.
    (httpx.RemoteProtocolError, Failure.PROTOCOL),
)

_OF_CERTIFICATES = {
    **dict.fromkeys((2, 18, 19, 20, 21), Failure.UNKNOWN_AUTHORITY),
    **dict.fromkeys((9, 10), Failure.WRONG_DATE),
    **dict.fromkeys((62, 64), Failure.WRONG_NAME),
}
"""The failure for each verification code of OpenSSL (x509_vfy.h). Other codes concern the certificate's form."""


def network_error(exc: BaseException) -> NetworkError:
    """Classify an exception of httpx, trio, ssl or the kernel. httpx has one class for DNS, TLS and connect errors."""
    for kind, failure in _OF_HTTPX:
        if isinstance(exc, kind):
            return NetworkError(failure, str(exc) if failure is Failure.PROXY else "")
    found = [error for cause in causes(exc) if (error := _of_cause(cause))]
    for error in found:
        if error.failure is not Failure.CONNECTION:
            return error
    return NetworkError(Failure.CONNECTION, ", ".join(dict.fromkeys(error.reason for error in found)))


def _of_cause(cause: BaseException) -> NetworkError | None:
    if isinstance(cause, ssl.SSLCertVerificationError):
        failure = _OF_CERTIFICATES.get(cause.verify_code, Failure.CERTIFICATE)
        return NetworkError(failure, cause.verify_message.removesuffix("."))
    if isinstance(cause, ssl.SSLError):
        return NetworkError(Failure.TLS, cause.reason or "TLS failed")
    if isinstance(cause, socket.gaierror):
        return NetworkError(Failure.NAME, cause.strerror or "")
    if isinstance(cause, httpx.TimeoutException):
        return NetworkError(Failure.TIMEOUT)
    if isinstance(cause, OSError) and cause.errno:
        return NetworkError(Failure.CONNECTION, os.strerror(cause.errno))  # the text of trio repeats the address
    return None


def causes(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield the exception and all its causes. Trio groups the connect errors of all addresses of a name."""
    while exc is not None:
        yield exc
        if isinstance(exc, BaseExceptionGroup):
            for member in exc.exceptions:
                yield from causes(member)
        exc = exc.__cause__ or exc.__context__


# Advice on certificates


def certificate_advice(failure: Failure, ca_bundle: str | None) -> str:
    """Return the next step after a certificate was rejected, as an imperative sentence without a full stop."""
    if failure is Failure.WRONG_NAME:
        return (
            "Set AWS_ENDPOINT_URL_STS to a name that is in the certificate, or for an interface endpoint turn on "
            "private DNS"
        )
    if failure is Failure.WRONG_DATE:
        return "Check this machine's clock; if it is right, the server's certificate must be renewed"
    if failure is not Failure.UNKNOWN_AUTHORITY:
        return "Replace the certificate, or the authority that issued it: OpenSSL does not accept its form"
    if ca_bundle:
        return f"Add the authority that signed it to {ca_bundle}, the file of AWS_CA_BUNDLE, if you trust it"
    return (
        "No public authority signed it: if a proxy of your own does, set AWS_CA_BUNDLE to a file with its authority; "
        "if not, somebody may be intercepting the connection"
    )
