"""
Prepare an issuer's two documents for publishing, and compare the published keys with the API server's. Pure.

Rule: only `jwks_uri` may change, and only to the future URL of the published keys.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sidecar.errors import SidecarError
from sidecar.setup.issuer_checks import DISCOVERY_PATH, is_private

KEYS_PATH = "/openid/v1/jwks"
"""Path at which the API server serves its JWKS (Kubernetes, Service account issuer discovery)."""


class Documents(NamedTuple):
    """An issuer's two documents, as the API server serves them."""

    discovery: Mapping[str, Any]
    keys: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        return str(self.discovery.get("issuer"))


class File(NamedTuple):
    """A file to publish. `path` is relative and uses slashes."""

    path: str
    url: str
    content: str


def read_documents(discovery: bytes | None, keys: bytes | None) -> Documents:
    """
    Return the documents in the API server's response bodies, which are None for 404.

    Raises SidecarError if a document is missing or invalid.
    """
    return Documents(_object(discovery, "discovery document"), _object(keys, "key set"))


def to_publish(documents: Documents, jwks_uri: str | None) -> tuple[File, File]:
    """
    Return the files with the keys and with the discovery document, which contains the URL of the keys.

    `jwks_uri` is the configured URL of the keys, or None for the default.

    Raises SidecarError if the path of that URL cannot be the path of a file.
    """
    base = documents.issuer.rstrip("/")
    uri = jwks_uri or _published_uri(documents, base)
    discovery = {**documents.discovery, "jwks_uri": uri}
    return (
        File(_relative(uri, base), uri, document_text(documents.keys)),
        File(DISCOVERY_PATH[1:], base + DISCOVERY_PATH, document_text(discovery)),
    )


def key_differences(published: Any, current: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each key that is missing or different, and for each old key that is still published."""
    public, own = _by_kid(published), _by_kid(current)
    for kid in own.keys() - public.keys():
        yield f"missing: the key {kid} of the cluster is not published. STS rejects tokens that it signs: publish it."
    for kid in own.keys() & public.keys():
        if own[kid] != public[kid]:
            yield (
                f"different: the published key {kid} is not the cluster's key of that ID. STS rejects tokens that the "
                "cluster's key signs: publish the cluster's key."
            )
    for kid in public.keys() - own.keys():
        yield (
            f"extra: the key {kid} is published, but the cluster no longer has it. Remove it when the last token that "
            "it signed has expired."
        )


_MATERIAL = ("kty", "crv", "n", "e", "x", "y")


def key_material(key: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the public key itself. Members about the key's use, such as `use`, are left out."""
    return tuple(key.get(part) for part in _MATERIAL)


def _by_kid(document: Any) -> dict[str, tuple[Any, ...]]:
    """Return the material of each key, by key ID."""
    keys = document.get("keys") if isinstance(document, Mapping) else None
    return {
        str(key.get("kid")): key_material(key)
        for key in (keys if isinstance(keys, list) else [])
        if isinstance(key, Mapping)
    }


def _published_uri(documents: Documents, base: str) -> str:
    """
    Return the URL of the published keys.

    This is the API server's `jwks_uri` if it is below the issuer's URL or public. Otherwise it is KEYS_PATH below the
    issuer's URL. By default, the API server's `jwks_uri` is not public.
    """
    uri = documents.discovery.get("jwks_uri")
    if isinstance(uri, str) and uri.startswith(f"{base}/"):
        return uri
    is_public = isinstance(uri, str) and uri.startswith("https://") and not _is_api_servers(uri)
    return str(uri) if is_public else base + KEYS_PATH


def _is_api_servers(uri: str) -> bool:
    parts = urlsplit(uri)
    return is_private(parts.hostname or "") or parts.port is not None or parts.path == KEYS_PATH


def _relative(uri: str, base: str) -> str:
    """Return the file's path in the directory: relative to the issuer's URL, or to the root of another host."""
    path = uri[len(base) :] if uri.startswith(f"{base}/") else urlsplit(uri).path
    segments = path.strip("/").split("/")
    if not all(segments) or {".", ".."} & set(segments) or "\\" in path or "?" in path or "#" in path:
        raise SidecarError(
            f"The keys' URL {uri} has no file name",
            fix="Set --jwks-uri to another URL",
        )
    return "/".join(segments)


def _object(body: bytes | None, name: str) -> Mapping[str, Any]:
    if body is None:
        raise SidecarError(
            f"The API server has no {name}",
            fix="Set --service-account-issuer there, and bind the ClusterRole "
            "system:service-account-issuer-discovery to your user",
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise SidecarError(
            f"The API server's {name} is not JSON ({exc})", fix="Check whether a proxy changes the response"
        ) from exc
    if not isinstance(document, dict):
        raise SidecarError(
            f"The API server's {name} is not a JSON object", fix="Check whether a proxy changes the response"
        )
    return document


def document_text(document: Mapping[str, Any]) -> str:
    """Return the document as the text of a file."""
    return json.dumps(document, indent=2) + "\n"
