"""
Compose the issuer documents for a bucket. Pure.

Rule: publishing adds keys and never removes a key, because running Pods may have tokens of any published key. Only a
rotation removes a key (rotation.py). A private key is never published.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from sidecar.errors import SidecarError
from sidecar.setup.discovery_documents import key_material

_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
"""The members of a JWK that contain private or symmetric keys (RFC 7518, 6.2.2, 6.3.2 and 6.4.1)."""


def joined_keys(
    cluster: Mapping[str, Any], stored: Mapping[str, Any], removed: Collection[str] = ()
) -> Mapping[str, Any]:
    """
    Return the cluster's key set with the stored keys that the cluster lacks, without the removed keys.

    Raises SidecarError if a key is private, or if the cluster and the bucket have different keys with the same ID.
    """
    own, kept = keys_by_id(cluster), keys_by_id(stored)
    for kid, key in (*own.items(), *kept.items()):
        _reject_private(kid, key)
    for kid in own.keys() & kept.keys():
        if key_material(own[kid]) != key_material(kept[kid]):
            raise SidecarError(
                f"The bucket has another key with the ID {kid} than the API server",
                fix="Check that the bucket belongs to this cluster. If it does, give the new key another ID",
            )
    keys = {kid: key for kid, key in {**own, **kept, **own}.items() if kid not in removed}
    return {**cluster, "keys": list(keys.values())}


def keys_by_id(document: Any) -> dict[str, Mapping[str, Any]]:
    """Return the keys of a key set by their IDs. Keys without an ID are left out, because no token can name them."""
    keys = document.get("keys") if isinstance(document, Mapping) else None
    return {
        key["kid"]: key
        for key in (keys if isinstance(keys, list) else [])
        if isinstance(key, Mapping) and isinstance(key.get("kid"), str)
    }


def read_stored(content: bytes | None, place: str) -> Mapping[str, Any]:
    """
    Return the stored key set, or an empty one if there is no object.

    Raises SidecarError if the object is not a key set.
    """
    try:
        document = json.loads(content) if content is not None else {"keys": []}
    except (ValueError, RecursionError) as exc:
        raise SidecarError(f"{place} is not JSON ({exc})", fix=_OTHER_BUCKET) from exc
    if not (isinstance(document, dict) and isinstance(document.get("keys"), list)):
        raise SidecarError(f'{place} has no list of "keys"', fix=_OTHER_BUCKET)
    return document


def same_document(stored: bytes, text: str) -> bool:
    """Return whether both texts are the same JSON document. Text that is not JSON differs from every document."""
    try:
        return bool(json.loads(stored) == json.loads(text))
    except (ValueError, RecursionError):
        return False


_OTHER_BUCKET = "Check the bucket's name, or move the object away"


def _reject_private(kid: str, key: Mapping[str, Any]) -> None:
    if any(member in key for member in _PRIVATE_MEMBERS):
        raise SidecarError(
            f"The key {kid} contains a private key, which must not be published",
            fix="Publish only public keys. If the private key was public, replace it",
        )
