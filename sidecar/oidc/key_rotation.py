"""
Estimate when the issuer will stop publishing the key that signed a token. Pure.

A key set has no dates. EKS signs with a key for seven days. It publishes the key until the key's last token expires
(EKS User Guide, "Fetch signing keys to validate OIDC tokens"). Other issuers have schedules of their own.
"""

import re
from datetime import timedelta

from sidecar.clock import instant_text
from sidecar.oidc.jwks_cache import CachedKeys
from sidecar.token import Token

EKS_ISSUER = re.compile(r"https://oidc[.-]eks\.[a-z0-9-]+\.[a-z.]+/id/[0-9A-F]{32}")

EKS_SIGNING_SECONDS = timedelta(days=7).total_seconds()
EKS_MAX_TOKEN_SECONDS = timedelta(days=1).total_seconds()
"""Maximum lifetime of a token from the API server of EKS."""


def rotation_outlook(token: Token, kid: str, kept: CachedKeys) -> str:
    """Return a clause about the time at which the issuer will remove the key `kid`, even if that time is unknown."""
    newer = _newer_key(kid, kept)
    if newer is not None:
        return (
            f"the issuer has rotated its keys: it has published key {newer} since "
            f"{instant_text(kept.first_seen[newer])} or earlier, and removes {kid} when the last token that it signed "
            "has expired"
        )
    if token.issuer is not None and EKS_ISSUER.fullmatch(token.issuer):
        began = min(filter(None, (kept.first_seen.get(kid), token.issued_at)), default=kept.fetched_at)
        signs_until = began + EKS_SIGNING_SECONDS
        return (
            f"EKS signs with a key for 7 days: {kid} signs until {instant_text(signs_until)} at the latest, and is "
            f"published until its last token has expired, {instant_text(signs_until + EKS_MAX_TOKEN_SECONDS)} at "
            "the latest; keep no copy of it for longer"
        )
    need = "" if token.expires_at is None else f", but this token needs it until {instant_text(token.expires_at)}"
    return f"the issuer does not publish when it will remove key {kid}{need}"


def _newer_key(kid: str, kept: CachedKeys) -> str | None:
    """Return the id of the newest key that was first seen after the key `kid`, or None if there is none."""
    own = kept.first_seen.get(kid)
    later = {other: at for other, at in kept.first_seen.items() if own is not None and at > own}
    return max(later, key=lambda other: later[other], default=None)
