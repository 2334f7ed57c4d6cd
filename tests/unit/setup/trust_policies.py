"""Provide a grant for the tests of trust policies, and judge a policy with the strict evaluator in `local`."""

import json
from typing import Any

from sidecar.local.trust_policy import ASSUME_ROLE_WITH_WEB_IDENTITY, Principal, parse_policy
from sidecar.setup.trust_policy import TrustGrant

ISSUER = "https://oidc.eks.eu-west-1.amazonaws.com/id/A"
PROVIDER = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/A"
KEY = "oidc.eks.eu-west-1.amazonaws.com/id/A"
OTHER = "arn:aws:iam::111122223333:oidc-provider/oidc.example.com"


def grant(*subjects: str, issuer: str = ISSUER, audience: str = "sts.amazonaws.com") -> TrustGrant:
    provider = f"arn:aws:iam::111122223333:oidc-provider/{issuer[8:]}"
    return TrustGrant(provider, issuer, audience, subjects or ("system:serviceaccount:shop:cart",))


def is_assumable(document: Any, subject: str, *, audience: str = "sts.amazonaws.com", provider: str = PROVIDER) -> bool:
    """Return whether the local STS accepts a verified token from the provider."""
    key = provider.partition("/")[2].lower()
    context = {f"{key}:sub": (subject,), f"{key}:aud": (audience,)}
    policy = parse_policy(json.loads(json.dumps(document)), "it")
    return policy.evaluate(ASSUME_ROLE_WITH_WEB_IDENTITY, Principal((provider,), None), context).is_allowed
