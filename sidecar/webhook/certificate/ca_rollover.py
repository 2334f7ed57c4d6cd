"""
Decide which authorities the API server trusts, and when a replica may serve a new certificate. Pure.

Rule: the API server trusts an authority before a replica serves a certificate that the authority signed. A replica
serves such a certificate only when the authority has been in the configuration for some seconds. By then every API
server has seen the authority. Only a replica without a valid certificate serves a new one at once. An authority that
this replica no longer needs stays in the configuration for an hour. Another replica may still serve a certificate that
this authority signed.

The API server therefore trusts the previous certificate until no replica serves it. No Pod is rejected if the Secret is
deleted, damaged or restored from a backup while the webhook runs.
"""

import base64
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

SETTLED_SECONDS = 10.0
"""Delay before a certificate of a new authority is served. A change reaches every API server in much less than 1 s."""

KEPT_SECONDS = 3600.0
"""Time for which an unneeded authority stays, because another replica may be disconnected from the API server."""

MAX_KEPT = 8
"""Limit for unneeded authorities, so that repeated damage to the Secret does not grow the configuration."""

Authorities = tuple[bytes, ...]
"""The certificates of authorities in PEM, newest first."""


class Trust(NamedTuple):
    """
    Two times for each authority.

    `trusted_at` is the time since which every webhook's caBundle contains the authority. `unneeded_at` is the time
    since which no certificate needs it.
    """

    trusted_at: Mapping[bytes, float] = {}
    unneeded_at: Mapping[bytes, float] = {}


def authorities_in(ca_bundle: str) -> Authorities:
    """Return the authorities in a caBundle (base64 of PEM). A malformed caBundle has no authorities."""
    try:
        found = x509.load_pem_x509_certificates(base64.b64decode(ca_bundle))
        return tuple(each.public_bytes(Encoding.PEM) for each in found)
    except ValueError:
        return ()


def updated_trust(trust: Trust, ca_bundles: Sequence[Authorities], needed: Collection[bytes], now: float) -> Trust:
    """Return the trust after a read of the configuration's caBundles. `needed` are the authorities in use."""
    everywhere = set(ca_bundles[0]).intersection(*ca_bundles) if ca_bundles else set()
    present = dict.fromkeys(each for ca_bundle in ca_bundles for each in ca_bundle)
    return Trust(
        {each: trust.trusted_at.get(each, now) for each in present if each in everywhere},
        {each: trust.unneeded_at.get(each, now) for each in present if each not in needed},
    )


def authorities_to_trust(trust: Trust, needed: Collection[bytes], now: float) -> Authorities:
    """Return the authorities that each caBundle must contain."""
    kept = [each for each, since in trust.unneeded_at.items() if now - since < KEPT_SECONDS]
    return (*needed, *kept[:MAX_KEPT])


def ca_bundle_of(authorities: Authorities) -> str:
    """Return the value of a caBundle field with these authorities."""
    return base64.b64encode(b"".join(authorities)).decode()


def seconds_until_settled(trust: Trust, authority: bytes, now: float) -> float:
    """Return the seconds until a certificate of this authority may be served, or 0 if it may be served now."""
    return max(0.0, trust.trusted_at.get(authority, now) + SETTLED_SECONDS - now)
