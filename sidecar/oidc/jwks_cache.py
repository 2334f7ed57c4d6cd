"""
An issuer's keys, kept on disk between one command and the next.

Rules. Keys are used as long as the issuer's Cache-Control lets them be; a key id that is not among them is looked for
at the issuer once more; and when the issuer does not answer, what is kept goes on being used, and that is said. A cache
that cannot be read or written is none: nothing fails for its sake.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

from sidecar.files import read_regular_file
from sidecar.oidc.jwks import IssuerError, Jwk, Published, has_key, key_set

DEFAULT_FRESH_SECONDS = 300.0
"""For an issuer that does not say."""

LONGEST_FRESH_SECONDS = timedelta(days=1).total_seconds()
"""Whatever the issuer says: a key that it withdrew should not be believed in for long."""

MAX_FILE_BYTES = 1024 * 1024

Fetch = Callable[[str], Awaitable[Published]]
"""Asks the issuer. Raises IssuerError."""


class Kept(NamedTuple):
    """Keys and what is known of them, in Unix seconds. `first_seen` has an instant for each of the keys' ids."""

    issuer: str
    keys: list[Jwk]
    fetched_at: float
    fresh_until: float
    first_seen: Mapping[str, float]

    def is_fresh(self, now: float) -> bool:
        """Not if it was fetched in the future either: the clock was set back."""
        return self.fetched_at <= now < self.fresh_until


class Found(NamedTuple):
    """The keys to use, whether the issuer was asked for them just now, and why it gave none if it was in vain."""

    kept: Kept
    is_new: bool
    trouble: IssuerError | None = None


class KeyCache:
    """The cache in `directory`; none, if that is None."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory

    def load(self, issuer: str) -> Kept | None:
        """What is kept of the issuer's keys; None if that is nothing, or nothing that makes sense."""
        try:
            content = read_regular_file(self._path(issuer), MAX_FILE_BYTES)
            kept = _from_json(json.loads(content or b""))
        except (OSError, ValueError, RecursionError, TypeError, AttributeError, LookupError):
            return None
        return kept if kept.issuer == issuer else None

    def keep(self, kept: Kept) -> None:
        """Write it down, whole or not at all, where that can be."""
        with suppress(OSError):
            path = self._path(kept.issuer)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            descriptor, draft = tempfile.mkstemp(dir=os.path.dirname(path))
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(kept._asdict(), file)
                os.replace(draft, path)
            except OSError:
                os.unlink(draft)
                raise

    def _path(self, issuer: str) -> str:
        """Raises OSError where there is no cache."""
        if self._directory is None:
            raise FileNotFoundError
        return os.path.join(self._directory, f"{hashlib.sha256(issuer.encode()).hexdigest()[:32]}.json")


def user_cache(environ: Mapping[str, str], name: str = "keys") -> KeyCache:
    """Return the cache called `name` where the user's caches are. XDG has relative paths ignored."""
    base = environ.get("XDG_CACHE_HOME", "")
    home = environ.get("HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(home, ".cache") if os.path.isabs(home) else ""
    return KeyCache(os.path.join(base, "irsa-sidecar", name) if base else None)


async def find_keys(issuer: str, kid: str | None, cache: KeyCache, fetch: Fetch, now: float) -> Found:
    """The issuer's keys, as fresh as it takes to have `kid` among them. Raises IssuerError when there are none."""
    kept = cache.load(issuer)
    if kept is not None and kept.is_fresh(now) and has_key(kept.keys, kid):
        return Found(kept, is_new=False)
    try:
        published = await fetch(issuer)
    except IssuerError as trouble:
        if kept is None:
            raise
        return Found(kept, is_new=False, trouble=trouble)
    fresh = _merged(issuer, published, kept, now)
    if published.may_store:
        cache.keep(fresh)
    return Found(fresh, is_new=True)


def _merged(issuer: str, published: Published, before: Kept | None, now: float) -> Kept:
    max_age = DEFAULT_FRESH_SECONDS if published.max_age_seconds is None else published.max_age_seconds
    seen = before.first_seen if before is not None else {}
    kids = [str(key["kid"]) for key in published.keys if "kid" in key]
    first_seen = {kid: min(seen.get(kid, now), now) for kid in kids}
    return Kept(issuer, published.keys, now, now + min(max_age, LONGEST_FRESH_SECONDS), first_seen)


def _from_json(document: Any) -> Kept:
    """Raises ValueError, TypeError, AttributeError or LookupError for what is no Kept."""
    seen = {str(kid): float(at) for kid, at in document["first_seen"].items()}
    fetched_at, fresh_until = float(document["fetched_at"]), float(document["fresh_until"])
    return Kept(str(document["issuer"]), key_set(document), fetched_at, fresh_until, seen)
