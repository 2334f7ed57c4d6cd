"""
When the key that signed a token will go, as far as anybody outside the issuer can know. Pure.

A key set tells no dates. EKS signs with one key for seven days and keeps publishing it until the last token that it
signed has ended (EKS User Guide, "Fetch signing keys to validate OIDC tokens"); other issuers rotate as they like.
"""

import re
from datetime import timedelta

from sidecar.clock import instant_text
from sidecar.oidc.jwks_cache import Kept
from sidecar.token import Token

EKS_ISSUER = re.compile(r"https://oidc[.-]eks\.[a-z0-9-]+\.[a-z.]+/id/[0-9A-F]{32}")

EKS_SIGNING_SECONDS = timedelta(days=7).total_seconds()
EKS_LONGEST_TOKEN_SECONDS = timedelta(days=1).total_seconds()
"""The API server of EKS makes no token that lives longer."""


def rotation_outlook(token: Token, kid: str, kept: Kept) -> str:
    """A sentence for a person on how long the key `kid` will be there."""
    newer = _newer_key(kid, kept)
    if newer is not None:
        return (
            f"the issuer has rotated: it publishes key {newer} since {instant_text(kept.first_seen[newer])} at the "
            f"latest, and {kid} goes when the last token that it signed has ended"
        )
    if token.issuer is not None and EKS_ISSUER.fullmatch(token.issuer):
        began = min(filter(None, (kept.first_seen.get(kid), token.issued_at)), default=kept.fetched_at)
        signs_until = began + EKS_SIGNING_SECONDS
        return (
            f"EKS signs with a key for 7 days: {kid} signs until {instant_text(signs_until)} at the latest, and is "
            f"published until its last token has ended, {instant_text(signs_until + EKS_LONGEST_TOKEN_SECONDS)} at "
            "the latest; keep no copy of it for longer"
        )
    end = "" if token.expires_at is None else f", but this token needs it until {instant_text(token.expires_at)}"
    return f"the issuer does not say when key {kid} will go{end}"


def _newer_key(kid: str, kept: Kept) -> str | None:
    """A key that came after this one, as far as the two were seen to come at all."""
    own = kept.first_seen.get(kid)
    later = {other: at for other, at in kept.first_seen.items() if own is not None and at > own}
    return max(later, key=lambda other: later[other], default=None)
