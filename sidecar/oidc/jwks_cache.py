"""
Keep an issuer's keys on disk between commands.

Rules. Keys are used without a new fetch for as long as the issuer's Cache-Control allows, and for a day at most. If
they do not include the required key id, they are fetched again. If a fetch fails, the stored keys are used at any age,
and the result has the error. A cache that cannot be read or written is ignored, so it never causes an error.
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
"""Time for which keys are used without a new fetch if the issuer's response has no max-age."""

MAX_FRESH_SECONDS = timedelta(days=1).total_seconds()
"""Maximum time for which keys are used without a new fetch, because the issuer may have withdrawn a key."""

MAX_FILE_BYTES = 1024 * 1024
"""Maximum size of a stored file."""

Fetch = Callable[[str], Awaitable[Published]]
"""The type of a function that fetches an issuer's keys. It raises IssuerError if the keys cannot be fetched."""


class CachedKeys(NamedTuple):
    """The keys of an issuer. Instants are Unix seconds. `first_seen` has the time of the first fetch by key id."""

    issuer: str
    keys: list[Jwk]
    fetched_at: float
    fresh_until: float
    first_seen: Mapping[str, float]

    def is_fresh(self, now: float) -> bool:
        """Return whether no fetch is due. A fetch is due if the clock was set back to a time before `fetched_at`."""
        return self.fetched_at <= now < self.fresh_until


class Found(NamedTuple):
    """The keys to use. `is_new` is true after a successful fetch. `last_error` is the reason after a failed fetch."""

    kept: CachedKeys
    is_new: bool
    last_error: IssuerError | None = None


class KeyCache:
    """The cache in `directory`. If `directory` is None, no keys are kept."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory

    def load(self, issuer: str) -> CachedKeys | None:
        """Return the stored keys of the issuer; None if there are none, or if the file is invalid."""
        try:
            content = read_regular_file(self._path(issuer), MAX_FILE_BYTES)
            kept = _from_json(json.loads(content or b""))
        except Exception:  # noqa: BLE001  the file is only a copy, so any other content is as good as no file
            return None
        return kept if kept.issuer == issuer else None

    def keep(self, kept: CachedKeys) -> None:
        """Write the keys to their file, as a whole or not at all. Ignore errors."""
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
        """
        Return the path of the issuer's file.

        Raises OSError if there is no cache directory.
        """
        if self._directory is None:
            raise FileNotFoundError
        return os.path.join(self._directory, f"{hashlib.sha256(issuer.encode()).hexdigest()[:32]}.json")


def user_cache(environ: Mapping[str, str], name: str = "keys") -> KeyCache:
    """Return the cache `name` in the user's cache directory. XDG requires that programs ignore relative paths."""
    base = environ.get("XDG_CACHE_HOME", "")
    home = environ.get("HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(home, ".cache") if os.path.isabs(home) else ""
    return KeyCache(os.path.join(base, "irsa-sidecar", name) if base else None)


async def find_keys(issuer: str, kid: str | None, cache: KeyCache, fetch: Fetch, now: float) -> Found:
    """
    Return the stored keys of the issuer if they are fresh and include `kid`. Otherwise fetch them again.

    If the fetch fails, return the stored keys with the error.

    Raises IssuerError if the fetch fails and no keys are stored.
    """
    kept = cache.load(issuer)
    if kept is not None and kept.is_fresh(now) and has_key(kept.keys, kid):
        return Found(kept, is_new=False)
    try:
        published = await fetch(issuer)
    except IssuerError as error:
        if kept is None:
            raise
        return Found(kept, is_new=False, last_error=error)
    fresh = _merged(issuer, published, kept, now)
    if published.may_store:
        cache.keep(fresh)
    return Found(fresh, is_new=True)


def _merged(issuer: str, published: Published, before: CachedKeys | None, now: float) -> CachedKeys:
    max_age = DEFAULT_FRESH_SECONDS if published.max_age_seconds is None else published.max_age_seconds
    seen = before.first_seen if before is not None else {}
    kids = [str(key["kid"]) for key in published.keys if "kid" in key]
    first_seen = {kid: min(seen.get(kid, now), now) for kid in kids}
    return CachedKeys(issuer, published.keys, now, now + min(max_age, MAX_FRESH_SECONDS), first_seen)


def _from_json(document: Any) -> CachedKeys:
    """
    Parse a stored file.

    Raises a builtin exception if it is invalid.
    """
    seen = {str(kid): float(at) for kid, at in document["first_seen"].items()}
    fetched_at, fresh_until = float(document["fetched_at"]), float(document["fresh_until"])
    return CachedKeys(str(document["issuer"]), key_set(document), fetched_at, fresh_until, seen)
