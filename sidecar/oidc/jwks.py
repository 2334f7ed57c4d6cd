"""
Fetch the keys of an OIDC issuer as STS does: the discovery document, then the key set at the URL in it.

Rules. One deadline covers both documents. Each document is read up to a limit, and redirects are not followed. Every
network exception becomes an IssuerError with the reason. (OpenID Connect Discovery 1.0, sections 3 and 4; RFC 7517.)
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import trio

from sidecar.authorities import trust_in
from sidecar.errors import SidecarError
from sidecar.outbound import Failure, http_client, needs_trust, network_error

DISCOVERY_PATH = "/.well-known/openid-configuration"
"""The path of the discovery document below the issuer's URL."""

FETCH_SECONDS = 10.0
"""Deadline for both documents together."""

MAX_DOCUMENT_BYTES = 256 * 1024
"""Maximum size of one document."""

Jwk = Mapping[str, Any]


class Published(NamedTuple):
    """
    The keys that an issuer publishes, and the time for which they may be used.

    `max_age_seconds` is the time for which the response may be reused (RFC 9111): 0 if reuse is not allowed, and None
    if the response does not state a time. `may_store` is false for `no-store`. `algorithms` are the signing algorithms
    in the discovery document. `date` is the time on the issuer's clock in Unix seconds, or None.
    """

    keys: list[Jwk]
    max_age_seconds: float | None = None
    may_store: bool = True
    algorithms: tuple[str, ...] = ()
    date: float | None = None


class IssuerError(SidecarError):
    """
    An error in fetching the issuer's keys.

    `reason` is `dns`, `tls`, `timeout` or `unreachable` if there was no response, and `status` for a status other than
    200. It is `document` for an invalid document, and `scheme` for a URL that STS does not request. `address` is the
    URL that failed.
    """

    def __init__(self, reason: str, address: str, problem: str) -> None:
        super().__init__(f"{address}: {problem}")
        self.reason = reason
        self.address = address


def has_key(keys: Sequence[Jwk], kid: str | None) -> bool:
    """Return whether a key has this id."""
    return any(key.get("kid") == kid for key in keys)


def key_set(document: Any) -> list[Jwk]:
    """
    Return the keys of a JSON Web Key Set.

    Raises ValueError if the document is not a key set.
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ValueError('the key set has no list of "keys"')
    return keys


def require_https(url: str) -> None:
    """Raise IssuerError for a URL that is not https or has a user name, because STS never requests such a URL."""
    try:
        parts = urlsplit(url)
        is_plain = parts.scheme == "https" and parts.hostname and "@" not in parts.netloc
    except ValueError:
        is_plain = False
    if not is_plain:
        raise IssuerError(
            "scheme", url, "STS requests only https:// URLs without a user name, so this URL is not requested"
        )


def allow_any_url(_url: str) -> None:
    """Allow `fetch` to request every URL."""


async def fetch(
    issuer: str,
    address: str | None = None,
    *,
    ca_bundle: str | None = None,
    before_request: Callable[[str], None] = allow_any_url,
) -> Published:
    """
    Fetch the key set of `issuer`. The discovery document is below `address`, or else below the issuer's URL.

    `before_request` is called with each URL before the request, and may raise IssuerError to prevent it.

    Raises IssuerError if the keys cannot be fetched, and ConfigurationError if the CA bundle or proxy cannot be used.
    """
    url = (address or issuer).rstrip("/") + DISCOVERY_PATH
    with trio.move_on_after(FETCH_SECONDS) as scope:
        before_request(url)
        discovery = await _get(url, ca_bundle)
        jwks_uri = _jwks_uri(discovery, issuer)
        before_request(jwks_uri)
        response = await _get(jwks_uri, ca_bundle)
        try:
            keys = key_set(response.document)
        except ValueError as exc:
            raise IssuerError("document", jwks_uri, str(exc)) from exc
        return Published(keys, *_freshness(response.headers), _algorithms(discovery.document), _date(response.headers))
    assert scope.cancelled_caught
    raise IssuerError("timeout", url, f"no complete response within {FETCH_SECONDS:.0f} s")


class _Response(NamedTuple):
    url: str
    document: Any
    headers: httpx.Headers


async def _get(url: str, ca_bundle: str | None) -> _Response:
    try:
        trust = trust_in(ca_bundle) if needs_trust(url) else None
        async with http_client(url, trust, timeout=httpx.Timeout(FETCH_SECONDS)) as client:
            return await _get_json(client, url)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
        raise _by_cause(url, exc) from exc
    except (ValueError, RecursionError) as exc:
        raise IssuerError("document", url, f"the document is not JSON ({exc})") from exc


async def _get_json(client: httpx.AsyncClient, url: str) -> _Response:
    async with client.stream("GET", url) as response:
        body = await document_in(response)
    if response.status_code != 200:
        raise IssuerError("status", url, f"HTTP {response.status_code} instead of the document")
    if body is None:
        raise IssuerError("document", url, f"the document is larger than {MAX_DOCUMENT_BYTES} bytes")
    return _Response(url, json.loads(body), response.headers)


async def document_in(response: httpx.Response) -> bytes | None:
    """Return the body of a streamed response, or None if the body is longer than MAX_DOCUMENT_BYTES."""
    body = bytearray()
    async for piece in response.aiter_bytes():  # until the end, because httpx's iterators must not be abandoned
        body += piece if len(body) <= MAX_DOCUMENT_BYTES else b""
    return bytes(body) if len(body) <= MAX_DOCUMENT_BYTES else None


def _jwks_uri(discovery: _Response, issuer: str) -> str:
    document = discovery.document
    found = document.get("issuer") if isinstance(document, dict) else None
    if found != issuer:
        raise IssuerError(
            "document", discovery.url, f"the issuer in the discovery document is {found!r}, not {issuer!r}"
        )
    uri = document.get("jwks_uri")
    if not isinstance(uri, str):
        raise IssuerError("document", discovery.url, "the discovery document has no jwks_uri")
    return uri


def _algorithms(document: Any) -> tuple[str, ...]:
    named = document.get("id_token_signing_alg_values_supported")
    return tuple(name for name in named if isinstance(name, str)) if isinstance(named, list) else ()


def _freshness(headers: httpx.Headers) -> tuple[float | None, bool]:
    """
    Return the seconds for which the response is fresh, or None if they are unknown, and whether it may be stored.

    RFC 9111, 5.2.2 and 4.2.3.
    """
    directives = {item.strip().lower() for item in headers.get("cache-control", "").split(",")}
    may_store = "no-store" not in directives
    if not may_store or "no-cache" in directives:
        return 0.0, may_store
    ages = [match[1] for item in directives if (match := re.fullmatch(r'max-age="?([0-9]{1,9})"?', item))]
    if not ages:
        return None, may_store
    age = headers.get("age", "0")
    return max(0.0, min(map(float, ages)) - (float(age) if re.fullmatch(r"[0-9]{1,9}", age) else 0.0)), may_store


def _date(headers: httpx.Headers) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _by_cause(url: str, exc: Exception) -> IssuerError:
    host = urlsplit(url).netloc.rpartition("@")[2]
    failure, reason = network_error(exc)
    match failure:
        case Failure.NAME:
            return IssuerError("dns", url, f"{host} does not resolve here ({reason})")
        case Failure.TIMEOUT:
            return IssuerError("timeout", url, f"{host} did not respond in time")
        case Failure.PROXY | Failure.PROTOCOL | Failure.CONNECTION:
            details = reason or str(exc) or type(exc).__name__
            return IssuerError("unreachable", url, f"{host} cannot be reached from here ({details})")
    return IssuerError("tls", url, f"its certificate or TLS version is not accepted ({reason})")
