"""
Define the Pod of a service account token, and create the token's claims. Pure.

The claims are those in kube-apiserver's pkg/serviceaccount/claims.go. Such a token has no email, tags, azp or source
identity.
"""

import uuid
from dataclasses import dataclass
from typing import Any

SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
"""The prefix of each service account's subject."""


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """The names of a Pod, its service account and its node."""

    namespace: str
    service_account: str
    pod: str
    node: str

    @property
    def subject(self) -> str:
        return f"{SERVICE_ACCOUNT_PREFIX}{self.namespace}:{self.service_account}"

    def uid(self, kind: str, name: str) -> str:
        """Return the UID of a Pod, service account or node. It depends only on names, so restarts do not change it."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.namespace}/{kind}/{name}"))


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token request from the kubelet (TokenRequest API): one audience, and a lifetime in seconds."""

    audience: str
    lifetime_seconds: int


def claims(identity: PodIdentity, request: TokenRequest, *, issuer: str, now: float, token_id: str) -> dict[str, Any]:
    """Return the claims of one token, with times in whole Unix seconds."""
    issued_at = int(now)
    return {
        "iss": issuer,
        "sub": identity.subject,
        "aud": [request.audience],
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + request.lifetime_seconds,
        "jti": token_id,
        "kubernetes.io": {
            "namespace": identity.namespace,
            "serviceaccount": _object(identity, "serviceaccount", identity.service_account),
            "pod": _object(identity, "pod", identity.pod),
            "node": _object(identity, "node", identity.node),
        },
    }


def _object(identity: PodIdentity, kind: str, name: str) -> dict[str, str]:
    return {"name": name, "uid": identity.uid(kind, name)}
