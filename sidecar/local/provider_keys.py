"""
The published keys of OIDC issuers, fetched as STS fetches them: discovery document, then the key set it names.

Rule: keys are cached for a while, a key id that is not among them is looked for once more, and no caller can make
this fetch more than once a second from an issuer.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import httpx
import trio

from sidecar.errors import ConfigurationError
from sidecar.listen import is_loopback
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
        except (OSError, ValueError, RecursionError) as exc:
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
    _tried_at: float | None = None
    _lock: trio.Lock = field(default_factory=trio.Lock)

    async def keys_for(self, kid: str | None, /) -> list[Jwk]:
        keys, fetches = self._cached(), self._fetches
        if keys is not None and has_key(keys, kid):
            return keys
        async with self._lock:
            keys = self._cached()
            if keys is None or self._fetches == fetches:  # nobody fetched while this one waited
                keys = await self._fetch()
            return keys

    def _cached(self) -> list[Jwk] | None:
        if self._fetched is None or self.monotonic() - self._fetched.at > CACHE_SECONDS:
            return None
        return self._fetched.keys

    async def _fetch(self) -> list[Jwk]:
        if self._tried_at is not None:
            await trio.sleep(max(0.0, self._tried_at + REFETCH_SECONDS - self.monotonic()))
        self._tried_at = self.monotonic()
        keys = await fetch_keys(self.issuer, self.address)
        self._fetched = _Fetched(keys, self.monotonic())
        self._fetches += 1
        return keys


async def fetch_keys(issuer: str, address: str) -> list[Jwk]:
    """
    Fetch an issuer's key set (OpenID Connect Discovery 1.0, section 4).

    Raises StsRefusal: IDPCommunicationError while it cannot be reached, InvalidIdentityToken when what it publishes
    is of no use.
    """
    try:
        use_proxy = not is_loopback(urlsplit(address).hostname or "")
        with trio.fail_after(FETCH_SECONDS):
            async with httpx.AsyncClient(timeout=FETCH_SECONDS, trust_env=use_proxy) as client:
                document = await _get_json(client, address.rstrip("/") + DISCOVERY_PATH)
                return _keys(await _get_json(client, _jwks_uri(document, issuer)))
    except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError) as exc:
        raise StsRefusal(
            "IDPCommunicationError", _UNREACHABLE, why=f"{address}: {str(exc) or type(exc).__name__}"
        ) from exc
    except (ValueError, RecursionError) as exc:
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
