"""
Sign service account tokens and publish the keys, as a cluster's API server does for STS.

Rule: the issuer serves only the two documents that IAM's OIDC provider needs. These are the discovery document and the
key set that it refers to (OpenID Connect Discovery 1.0, sections 3 and 4; RFC 7517). The issuer rotates its
keys after an interval, because EKS does so every seven days.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio
from cryptography.hazmat.primitives.asymmetric import rsa

from sidecar.clock import Clock
from sidecar.local.events import Emit
from sidecar.local.service_account import PodIdentity, TokenRequest, claims
from sidecar.local.signing_keys import ALGORITHM, KeySet, signing_key
from sidecar.oidc.jwks import DISCOVERY_PATH
from sidecar.serving.http_message import Request, Response, text_response

KEYS_PATH = "/keys"
"""The path of the key set, which is also EKS's path."""

KEY_BITS = 2048

_CACHE_CONTROL = ("Cache-Control", "public, max-age=3600")
"""The Cache-Control header that kube-apiserver sends with both documents (pkg/routes/openidmetadata.go)."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A signed token. The times when it was issued and when it expires are in Unix seconds."""

    raw: str = field(repr=False)
    issued_at: float
    expires_at: float


class Issuer:
    """
    One issuer with its current keys.

    `url` is the `iss` of its tokens. `address` is the URL that serves its documents. The two differ if the issuer
    replaces a cluster's issuer.
    """

    def __init__(self, url: str, keys: KeySet, *, clock: Clock, address: str | None = None) -> None:
        self.url = url
        self.address = address or url
        self.keys = keys
        self._clock = clock

    def issue(self, identity: PodIdentity, request: TokenRequest, *, age_seconds: int = 0) -> IssuedToken:
        """Return a token for the Pod, signed with the newest key, as if it was issued `age_seconds` ago."""
        now = self._clock.wall() - age_seconds
        body = claims(identity, request, issuer=self.url, now=now, token_id=str(uuid.uuid4()))
        raw, self.keys = self.keys.signed(body)
        return IssuedToken(raw, body["iat"], body["exp"])

    def rotate(self, new: rsa.RSAPrivateKey) -> str:
        """Use the key `new` for signatures from now on. Return its key id."""
        self.keys = self.keys.rotated(signing_key(new), self._clock.wall())
        return self.keys.active.kid

    async def respond(self, request: Request) -> Response:
        """Return the document at the path, a 404 for another path, or a 405 for another method than GET and HEAD."""
        document = self._documents().get(request.path)
        if document is None:
            return text_response(404, f"Only {DISCOVERY_PATH} and {KEYS_PATH} are served here.")
        if request.method not in {"GET", "HEAD"}:
            return text_response(405, "Only GET and HEAD are allowed here.")
        content, content_type = document
        return Response(200, json.dumps(content).encode("ascii"), content_type, (_CACHE_CONTROL,))

    def _documents(self) -> dict[str, tuple[dict[str, Any], str]]:
        return {
            DISCOVERY_PATH: (discovery_document(self.url, self.address), "application/json"),
            KEYS_PATH: (self.keys.pruned(self._clock.wall()).jwks(), "application/jwk-set+json"),
        }


def discovery_document(issuer_url: str, address: str) -> dict[str, Any]:
    """Return the discovery document, which refers STS to the key set at `address`."""
    return {
        "issuer": issuer_url,
        "jwks_uri": address.rstrip("/") + KEYS_PATH,
        "authorization_endpoint": "urn:kubernetes:programmatic_authorization",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "claims_supported": ["sub", "iss"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
    }


def generate_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


async def rotate_keys(
    issuer: Issuer, interval_seconds: float, *, emit: Emit, generate: Callable[[], rsa.RSAPrivateKey] = generate_key
) -> None:
    """Rotate the keys after each interval until cancelled."""
    while True:
        await trio.sleep(interval_seconds)
        await rotate_once(issuer, emit=emit, generate=generate)


async def rotate_once(issuer: Issuer, *, emit: Emit, generate: Callable[[], rsa.RSAPrivateKey] = generate_key) -> None:
    """Use a new key. A thread generates the key, because the generation can occupy a core for half a second."""
    kid = issuer.rotate(await trio.to_thread.run_sync(generate))
    emit("signing_keys_rotated", kid=kid, published_keys=len(issuer.keys.keys))
