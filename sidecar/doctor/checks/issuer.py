"""
Whether STS can find the token's issuer, and its key there. Pure.

What is seen from here is not what STS sees from the internet: when the exchange succeeded, STS has found everything,
and whatever is missing here is only told.
"""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from sidecar.doctor.finding import Check, Finding, left_out, ok, warning, wrong
from sidecar.extras import HOW_TO_INSTALL
from sidecar.oidc.jwks import IssuerError, Published, has_key
from sidecar.oidc.key_rotation import EKS_ISSUER

MAX_URL_LENGTH = 255
"""IAM API reference, CreateOpenIDConnectProvider, Url."""

_INSIDE = re.compile(r"(^|\.)(svc|local|localhost|internal|cluster\.local)$|^kubernetes(\.default)?$")


class IssuerFacts(NamedTuple):
    """
    Either `published` or `error`; neither where it was not asked.

    `is_aws` is whether STS is AWS's own; `granted` whether it gave credentials for a token of this issuer, None if it
    was not asked; `complains_of_keys` whether it said that it cannot reach the issuer or its keys. `unverified` is why
    the signature does not verify, "" if it does, and None if that was not tried.
    """

    issuer: str | None
    kid: str | None
    algorithm: str | None
    is_aws: bool
    granted: bool | None = None
    complains_of_keys: bool = False
    published: Published | None = None
    error: IssuerError | None = None
    unverified: str | None = None


def _named(facts: IssuerFacts) -> Finding:
    issuer = facts.issuer
    if issuer is None:
        return wrong("the token has no iss, which STS wants", "Use a projected service account token")
    problem = _problem(issuer) if facts.is_aws else None
    if problem is None:
        return ok(issuer)
    return wrong(
        f"iss is {issuer}, {problem}: IAM has no OIDC provider by such a URL",
        "Give the API server a public https:// URL first among its --service-account-issuer, and create the IAM OIDC "
        "provider with it letter by letter",
    )


def _problem(issuer: str) -> str | None:
    try:
        parts = urlsplit(issuer)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "which is no URL"
    problems = {
        "which is not https": parts.scheme != "https",
        "which has a port": port is not None,
        "which has a query or a fragment": "?" in issuer or "#" in issuer,
        f"which is longer than {MAX_URL_LENGTH} characters": len(issuer) > MAX_URL_LENGTH,
        "a name that only the cluster itself resolves": _INSIDE.search(host) is not None,
    }
    return next((problem for problem, is_there in problems.items() if is_there), None)


def _documents(facts: IssuerFacts) -> Finding:
    if facts.published is not None:
        return ok(f"discovery document and {len(facts.published.keys)} key(s) are published")
    if facts.error is None:
        return left_out("the issuer was not asked")
    seen = str(facts.error)
    if facts.error.reason == "dns" and EKS_ISSUER.fullmatch(facts.issuer or ""):
        seen += (
            "; in a VPC with the interface endpoint for EKS its private zone hides this name. STS asks from outside "
            "and is not affected"
        )
    if facts.granted:
        return ok(f"not to be seen from here, but STS sees it, as the exchange shows ({seen})")
    if facts.complains_of_keys:
        return wrong(
            f"STS cannot get the issuer's keys, and neither can this machine: {seen}",
            "Publish the discovery document and the key set where the internet can read them",
        )
    if facts.error.reason == "document":
        return wrong(seen, "Publish the discovery document of exactly this issuer, letter by letter, and its key set")
    return warning(
        f"from here its documents are not to be had: {seen}",
        "Try from outside of the cluster's network: curl ISSUER/.well-known/openid-configuration",
    )


def _key(facts: IssuerFacts) -> Finding | None:
    published = facts.published
    if published is None:
        return None
    if not has_key(published.keys, facts.kid):
        kids = ", ".join(str(key.get("kid")) for key in published.keys) or "none"
        seen = f"the token's kid is {facts.kid}; the issuer publishes {kids}"
        if facts.granted:
            return warning(f"{seen}; STS still has the key", "Publish every key whose tokens are still alive")
        return wrong(seen, "Publish the API server's present keys (kubectl get --raw /openid/v1/jwks) at the issuer")
    if published.algorithms and facts.algorithm not in published.algorithms:
        return warning(
            f"the token's alg is {facts.algorithm}, and the issuer names {', '.join(published.algorithms)}",
            "Correct id_token_signing_alg_values_supported in the discovery document",
        )
    return ok(f"key {facts.kid} is published")


def _verified(facts: IssuerFacts) -> Finding | None:
    if facts.published is None:
        return None
    if facts.unverified is None:
        return left_out("needs the package cryptography", HOW_TO_INSTALL)
    if facts.unverified == "":
        return ok("the published key verifies the token")
    return wrong(facts.unverified, "Use a token of this cluster, and publish this cluster's keys")


CHECKS: tuple[Check[IssuerFacts], ...] = (
    Check("url", "can IAM use it as the URL of a provider", _named),
    Check("documents", "are its discovery document and keys published", _documents, after=("url",)),
    Check("key", "is the token's key among them", _key, after=("documents",)),
    Check("verification", "does that key verify the token", _verified, after=("key",)),
)
