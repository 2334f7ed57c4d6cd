"""
Read and cache the published keys of OIDC issuers for STS.

Rule: keys are cached for CACHE_SECONDS. A request with an unknown key id causes a new fetch. Clients can cause at most
one fetch per second from one issuer.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import trio

from sidecar.errors import ConfigurationError
from sidecar.files import read_regular_file
from sidecar.local.events import Emit
from sidecar.local.shown_value import shown
from sidecar.oidc import jwks as published_keys
from sidecar.oidc.jwks import IssuerError, Jwk, has_key, key_set
from sidecar.oidc.sts_rejection import StsRejection
from sidecar.oidc.verification import NO_KEY

CACHE_SECONDS = 300.0
"""Maximum time for which a key is accepted after its issuer withdraws it."""

REFETCH_SECONDS = 1.0
"""Minimum time between two fetches from one issuer."""

MAX_FILE_BYTES = 1024 * 1024
"""Maximum size of a file with keys. STS uses at most 100 keys, each smaller than 1 KiB."""

_UNREACHABLE = (
    "The request could not be fulfilled because the identity provider (IDP) "
    "that was asked to verify the incoming identity token could not be reached."  # language: quoted
)


class KeySource(Protocol):
    """A source of an issuer's keys."""

    async def keys_for(self, kid: str | None, /) -> list[Jwk]:
        """
        Return the issuer's keys. If `kid` is not among the cached keys, fetch them again.

        Raises StsRejection if no keys are available.
        """
        ...


class FileKeys:
    """The keys in a JWKS file, for an issuer that this machine cannot reach. The file is read for each token."""

    def __init__(self, path: Path) -> None:
        """
        Read the keys, so that an unusable file is found at the start.

        Raises ConfigurationError if the file at `path` has no key set.
        """
        self._path = path
        self._read()

    async def keys_for(self, _kid: str | None, /) -> list[Jwk]:
        try:
            return self._read()
        except ConfigurationError as exc:
            raise StsRejection("InvalidIdentityToken", NO_KEY, reason=str(exc)) from exc

    def _read(self) -> list[Jwk]:
        try:
            content = read_regular_file(str(self._path), MAX_FILE_BYTES + 1)
            if content is None or len(content) > MAX_FILE_BYTES:
                raise self._unusable(f"is not a file of at most {MAX_FILE_BYTES} bytes")
            return key_set(json.loads(content))
        except (OSError, ValueError, RecursionError) as exc:
            raise self._unusable(f"is not a JSON Web Key Set: {exc}") from exc

    def _unusable(self, problem: str) -> ConfigurationError:
        return ConfigurationError(
            f"jwks_file is {shown(str(self._path))}, which {problem}",
            fix="Set it to a file with the issuer's key set",
            setting="jwks_file",
        )


class _Fetched(NamedTuple):
    keys: list[Jwk]
    at: float


@dataclass(slots=True)
class IssuerKeys:
    """The keys from `address`, which serves the documents of `issuer`."""

    issuer: str
    address: str
    monotonic: Callable[[], float]
    emit: Emit
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
            if keys is None or self._fetches == fetches:  # no other task fetched the keys while this one waited
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
        self.emit("signing_keys_fetched", issuer=self.issuer, published_keys=len(keys))
        return keys


async def fetch_keys(issuer: str, address: str) -> list[Jwk]:
    """
    Fetch an issuer's key set.

    Raises StsRejection with InvalidIdentityToken if one of the issuer's documents is invalid, and with
    IDPCommunicationError if a document cannot be fetched.
    """
    try:
        return (await published_keys.fetch(issuer, address)).keys
    except IssuerError as exc:
        reason = f"the issuer at {address}: {exc.problem}"
        if exc.reason == "document":
            raise StsRejection("InvalidIdentityToken", NO_KEY, reason=reason) from exc
        raise StsRejection("IDPCommunicationError", _UNREACHABLE, reason=reason) from exc
