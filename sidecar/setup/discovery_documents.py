"""
An issuer's two documents: from the API server to where AWS looks for them, and whether both places agree. Pure.

Rule: nothing but `jwks_uri` is ever changed, and only to where the keys will be.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sidecar.errors import SidecarError
from sidecar.setup.issuer_checks import DISCOVERY_PATH, is_private

KEYS_PATH = "/openid/v1/jwks"
"""Where the API server itself has them (Kubernetes, Service account issuer discovery)."""


class Documents(NamedTuple):
    """As the API server has them."""

    discovery: Mapping[str, Any]
    keys: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        return str(self.discovery.get("issuer"))


class File(NamedTuple):
    """One to be published. `path` is relative, with slashes."""

    path: str
    url: str
    content: str


def read_documents(discovery: bytes | None, keys: bytes | None) -> Documents:
    """From the API server's answers, None for 404. Raises SidecarError."""
    return Documents(_object(discovery, "discovery document"), _object(keys, "key set"))


def to_publish(documents: Documents, jwks_uri: str | None) -> tuple[File, File]:
    """The keys, then the discovery document that names them. `jwks_uri` is where the keys will be, if it was said."""
    base = documents.issuer.rstrip("/")
    uri = jwks_uri or _published_uri(documents, base)
    discovery = {**documents.discovery, "jwks_uri": uri}
    return (
        File(_relative(uri, base), uri, _text(documents.keys)),
        File(DISCOVERY_PATH[1:], base + DISCOVERY_PATH, _text(discovery)),
    )


def key_differences(published: Any, current: Mapping[str, Any]) -> Iterator[str]:
    """What keeps tokens from being verified, or old ones from being refused, by key id; nothing where they agree."""
    there, here = _by_kid(published), _by_kid(current)
    for kid in here.keys() - there.keys():
        yield f"missing: the cluster has the key {kid}, which is not published: tokens that it signs are refused."
    for kid in here.keys() & there.keys():
        if here[kid] != there[kid]:
            yield f"different: the key {kid} that is published is not the cluster's: tokens that it signs are refused."
    for kid in there.keys() - here.keys():
        yield (
            f"extra: the key {kid} is published, and the cluster has it no more: take it away once the last token that "
            "it signed has ended."
        )


_MATERIAL = ("kty", "crv", "n", "e", "x", "y")


def _by_kid(document: Any) -> dict[str, tuple[Any, ...]]:
    """Each key's material: what is said about its use besides is no difference."""
    keys = document.get("keys") if isinstance(document, Mapping) else None
    return {
        str(key.get("kid")): tuple(key.get(part) for part in _MATERIAL)
        for key in (keys if isinstance(keys, list) else [])
        if isinstance(key, Mapping)
    }


def _published_uri(documents: Documents, base: str) -> str:
    """The API server's own is right if it is on the internet; by default it is the API server's address."""
    said = documents.discovery.get("jwks_uri")
    if isinstance(said, str) and said.startswith(f"{base}/"):
        return said
    is_public = isinstance(said, str) and said.startswith("https://") and not _is_api_servers(said)
    return str(said) if is_public else base + KEYS_PATH


def _is_api_servers(uri: str) -> bool:
    parts = urlsplit(uri)
    return is_private(parts.hostname or "") or parts.port is not None or parts.path == KEYS_PATH


def _relative(uri: str, base: str) -> str:
    """Where in the directory: below the issuer's URL, or below the root of another host."""
    path = uri[len(base) :] if uri.startswith(f"{base}/") else urlsplit(uri).path
    segments = path.strip("/").split("/")
    if not all(segments) or {".", ".."} & set(segments) or "\\" in path or "?" in path or "#" in path:
        raise SidecarError(f"The keys' address {uri} gives no file name: name another with --jwks-uri.")
    return "/".join(segments)


def _object(body: bytes | None, what: str) -> Mapping[str, Any]:
    if body is None:
        raise SidecarError(
            f"The API server has no {what}: it needs --service-account-issuer, and you the right to read it "
            "(ClusterRole system:service-account-issuer-discovery)."
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise SidecarError(f"The API server's {what} is no JSON ({exc}): is a proxy in between?") from exc
    if not isinstance(document, dict):
        raise SidecarError(f"The API server's {what} is no JSON object: is a proxy in between?")
    return document


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
