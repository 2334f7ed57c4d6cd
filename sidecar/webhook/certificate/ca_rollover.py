"""
Which authorities the API server trusts, and since when: the order in which one certificate takes another's place. Pure.

Rule: the API server hears of it first. What a new authority signed is served only once that authority has been in the
configuration for some seconds, in which every API server's watch has told it. An authority that the Secret does not
hold stays there for an hour, since another replica may still serve what it signed; if none does, nothing is lost.

So a Secret that is deleted, spoilt or put back from a backup under a running webhook costs no Pod: what was served
before is trusted until no replica serves it.
"""

import base64
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

SETTLED_SECONDS = 10.0
"""Until what an authority signed may be served. A watch's event takes well under one."""

KEPT_SECONDS = 3600.0
"""For which an authority stays that nobody here needs: longer than a replica may be cut off from the API server."""

MAX_KEPT = 8
"""Of those: should somebody spoil the Secret without end, the configuration must not grow with it."""

Authorities = tuple[bytes, ...]
"""Their certificates, PEM, newest first."""


class Trust(NamedTuple):
    """By authority: since when it is in the whole configuration, and since when it is there though nobody needs it."""

    trusted_at: Mapping[bytes, float] = {}
    unneeded_at: Mapping[bytes, float] = {}


def authorities_in(bundle: str) -> Authorities:
    """Those of a caBundle, which is base64 of PEM; none where it is not."""
    try:
        found = x509.load_pem_x509_certificates(base64.b64decode(bundle))
        return tuple(each.public_bytes(Encoding.PEM) for each in found)
    except ValueError:
        return ()


def observed(trust: Trust, bundles: Sequence[Authorities], needed: Collection[bytes], now: float) -> Trust:
    """After a look at a configuration whose webhooks have these bundles. `needed` are the authorities of ours."""
    everywhere = set(bundles[0]).intersection(*bundles) if bundles else set()
    there = dict.fromkeys(each for bundle in bundles for each in bundle)
    return Trust(
        {each: trust.trusted_at.get(each, now) for each in there if each in everywhere},
        {each: trust.unneeded_at.get(each, now) for each in there if each not in needed},
    )


def to_trust(trust: Trust, needed: Collection[bytes], now: float) -> Authorities:
    """What each webhook's bundle is to hold."""
    kept = [each for each, since in trust.unneeded_at.items() if now - since < KEPT_SECONDS]
    return (*needed, *kept[:MAX_KEPT])


def bundle_of(authorities: Authorities) -> str:
    """The caBundle that holds them."""
    return base64.b64encode(b"".join(authorities)).decode()


def seconds_until_settled(trust: Trust, authority: bytes, now: float) -> float:
    """How long what this authority signed must wait; 0 when it may be served."""
    return max(0.0, trust.trusted_at.get(authority, now) + SETTLED_SECONDS - now)
