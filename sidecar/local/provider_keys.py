"""
The published keys of OIDC issuers, fetched as STS fetches them: discovery document, then the key set it names.

Rule: keys are cached for a while, a key id that is not among them is looked for once more, and no caller can make
this fetch more than once a second from an issuer.
"""

import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import httpx
import trio

from sidecar.errors import ConfigurationError
from sidecar.local.issuer import DISCOVERY_PATH
from sidecar.local.refusal import StsRefusal
from sidecar.local.web_identity import NO_KEY, Jwk, has_key

FETCH_SECONDS = 10.0
"""For both documents together."""

CACHE_SECONDS = 300.0
"""How long a key that its issuer withdrew may still be accepted."""

REFETCH_SECONDS = 1.0
MAX_DOCUMENT_BYTES = 256 * 1024

_UNREACHABLE = (
    "The request could not be fulfilled because the identity provider (IDP) that was asked to verify the incoming "
    "identity token could not be reached."
)


class KeySource(Protocol):
    """Where an issuer's keys come from."""

    async def keys_for(self, kid: str | None, /) -> list[Jwk]:
        """The issuer's keys, as fresh as it takes to have `kid` among them. Raises StsRefusal."""
        ...


class FileKeys:
    """Keys from a JWKS file, for issuers that cannot be reached from here. Read anew for every token."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError when there is no key set at `path`."""
        self._path = path
        self._read()

    async def keys_for(self, _kid: str | None, /) -> list[Jwk]:
        try:
            return self._read()
        except ConfigurationError as exc:
            raise StsRefusal("InvalidIdentityToken", NO_KEY, why=str(exc)) from exc

    def _read(self) -> list[Jwk]:
        try:
            return _keys(json.loads(self._path.read_bytes()))
        except (OSError, ValueError) as exc:
            raise ConfigurationError(f"jwks_file is {str(self._path)!r}, and no JSON Web Key Set: {exc}.") from exc


class _Fetched(NamedTuple):
    keys: list[Jwk]
    at: float


@dataclass(slots=True)
class IssuerKeys:
    """Keys fetched from `address`, where the documents of the issuer called `issuer` are."""

    issuer: str
    address: str
    monotonic: Callable[[], float]
    _fetched: _Fetched | None = None
    _fetches: int = 0
    _lock: trio.Lock = field(default_factory=trio.Lock)

    async def keys_for(self, kid: str | None, /) -> list[Jwk]:
        fetches = self._fetches
        async with self._lock:  # many tokens with one new key wait for one fetch
            if self._fetches == fetches and not self._has_fresh(kid):
                await self._pause()
                self._fetched = _Fetched(await fetch_keys(self.issuer, self.address), self.monotonic())
                self._fetches += 1
        assert self._fetched is not None
        return self._fetched.keys

    def _has_fresh(self, kid: str | None) -> bool:
        if self._fetched is None or self.monotonic() - self._fetched.at > CACHE_SECONDS:
            return False
        return has_key(self._fetched.keys, kid)

    async def _pause(self) -> None:
        if self._fetched is not None:
            await trio.sleep(max(0.0, self._fetched.at + REFETCH_SECONDS - self.monotonic()))


async def fetch_keys(issuer: str, address: str) -> list[Jwk]:
    """
    Fetch an issuer's key set (OpenID Connect Discovery 1.0, section 4).

    Raises StsRefusal: IDPCommunicationError while it cannot be reached, InvalidIdentityToken when what it publishes
    is of no use.
    """
    try:
        with trio.fail_after(FETCH_SECONDS):
            async with httpx.AsyncClient(timeout=FETCH_SECONDS, trust_env=not _is_loopback(address)) as client:
                document = await _get_json(client, address.rstrip("/") + DISCOVERY_PATH)
                return _keys(await _get_json(client, _jwks_uri(document, issuer)))
    except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError) as exc:
        raise StsRefusal(
            "IDPCommunicationError", _UNREACHABLE, why=f"{address}: {str(exc) or type(exc).__name__}"
        ) from exc
    except ValueError as exc:
        raise StsRefusal("InvalidIdentityToken", NO_KEY, why=f"{address}: {exc}") from exc


async def _get_json(client: httpx.AsyncClient, url: str) -> Any:
    async with client.stream("GET", url) as response:
        response.raise_for_status()
        body = bytearray()
        async for chunk in response.aiter_bytes():  # to its end, since httpx's iterators may not be left half-way
            body += chunk if len(body) <= MAX_DOCUMENT_BYTES else b""
    if len(body) > MAX_DOCUMENT_BYTES:
        raise ValueError(f"{url} is over {MAX_DOCUMENT_BYTES} bytes")
    return json.loads(body)


def _jwks_uri(document: Any, issuer: str) -> str:
    found = document.get("issuer") if isinstance(document, dict) else None
    if found != issuer:
        raise ValueError(f"the discovery document is of {found!r}, not of {issuer!r}")
    uri = document.get("jwks_uri")
    if not isinstance(uri, str):
        raise ValueError("the discovery document has no jwks_uri")  # noqa: TRY004  (wrong content, not a wrong call)
    return uri


def _keys(document: Any) -> list[Jwk]:
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ValueError('the key set has no list of "keys"')
    return keys


def _is_loopback(url: str) -> bool:
    """Loopback is never behind the environment's proxy."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
