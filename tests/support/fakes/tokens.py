"""Create service account tokens as the API server does. No test verifies their signature."""

import base64
import json
from typing import Any


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def jwt_of(claims: Any, header: Any = None) -> str:
    """Return a JWT with these claims. Its signature has the right form but is not valid."""
    return f"{_part(header or {'alg': 'RS256', 'kid': 'k1'})}.{_part(claims)}.{'c2ln' * 20}"


def service_account_claims(now: float, *, lifetime_seconds: float = 3600, **changes: Any) -> dict[str, Any]:
    claims = {
        "iss": "https://oidc.example.com/id/A",
        "sub": "system:serviceaccount:shop:cart",
        "aud": ["sts.amazonaws.com"],
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now + lifetime_seconds),
        "jti": f"id-{now}",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": {"name": "cart", "uid": "1"},
            "pod": {"name": "cart-7d4b9c-x2x9z", "uid": "2"},
        },
    }
    return {name: value for name, value in (claims | changes).items() if value is not None}


def service_account_token(now: float, **changes: Any) -> str:
    return jwt_of(service_account_claims(now, **changes))
