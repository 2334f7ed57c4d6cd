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

    Stored keys without an ID stay. A rotation never removes them, because no token names them.

    Raises SidecarError if a key is private, or if two different keys have the same ID.
    """
    own, kept = keys_by_id(cluster), keys_by_id(stored)
    for key in (*_keys_in(cluster), *_keys_in(stored)):
        _reject_private(key)
    for key in filter(_is_named, _keys_in(stored)):
        _reject_other(key, own.get(key["kid"]), kept[key["kid"]])
    keys = {kid: key for kid, key in {**own, **kept, **own}.items() if kid not in removed}
    unnamed = [key for key in (*_keys_in(cluster), *_keys_in(stored)) if not _is_named(key)]
    distinct = [key for index, key in enumerate(unnamed) if key not in unnamed[:index]]
    return {**cluster, "keys": [*keys.values(), *distinct]}


def keys_by_id(document: Any) -> dict[str, Mapping[str, Any]]:
    """Return the keys of a key set by their IDs. Keys without an ID are left out, because no token can name them."""
    return {key["kid"]: key for key in _keys_in(document) if _is_named(key)}


def _keys_in(document: Any) -> list[Mapping[str, Any]]:
    keys = document.get("keys") if isinstance(document, Mapping) else None
    return [key for key in (keys if isinstance(keys, list) else []) if isinstance(key, Mapping)]


def _is_named(key: Mapping[str, Any]) -> bool:
    return isinstance(key.get("kid"), str)


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


def check_issuer_of(content: bytes | None, issuer: str, place: str) -> None:
    """
    Check that a stored discovery document, if there is one, belongs to the issuer.

    Raises SidecarError if the document belongs to another issuer, or is not a JSON object.
    """
    if content is None:
        return
    try:
        found = json.loads(content).get("issuer", issuer)
    except (ValueError, AttributeError, RecursionError) as exc:
        raise SidecarError(f"{place} is not a discovery document", fix=_OTHER_BUCKET) from exc
    if found != issuer:
        raise SidecarError(
            f"{place} belongs to the issuer {found}, but the issuer of the API server is {issuer}",
            fix="Use the bucket and the prefix of this issuer. If the URL of the issuer changed, move the object away",
        )


def same_document(stored: bytes, text: str) -> bool:
    """Return whether both texts are the same JSON document. Both were checked before."""
    return bool(json.loads(stored) == json.loads(text))


_OTHER_BUCKET = "Check the bucket's name, or move the object away"


def _reject_other(stored: Mapping[str, Any], own: Mapping[str, Any] | None, kept: Mapping[str, Any]) -> None:
    """
    Check that a stored key equals the cluster's key with its ID, and the stored key that would be kept.

    Raises SidecarError if it does not.
    """
    kid = stored["kid"]
    if own is not None and key_material(own) != key_material(stored):
        raise SidecarError(
            f"The bucket has another key with the ID {kid} than the API server",
            fix="Check that the bucket belongs to this cluster. If it does, give the new key another ID",
        )
    if key_material(kept) != key_material(stored):
        raise SidecarError(
            f"The bucket has two keys with the ID {kid}", fix="Remove the key whose tokens have expired from the bucket"
        )


def _reject_private(key: Mapping[str, Any]) -> None:
    if any(member in key for member in _PRIVATE_MEMBERS):
        name = f"The key {key['kid']}" if _is_named(key) else "A key without an ID"
        raise SidecarError(
            f"{name} contains a private key, which must not be published",
            fix="Publish only public keys. If the private key was public, replace it",
        )
