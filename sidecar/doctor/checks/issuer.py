"""
Check that STS can reach the token's issuer and find the token's key. Pure.

STS uses the internet and may reach more than this machine. If the exchange succeeded, STS has read all documents, so a
document that is missing here is not a failure.
"""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from sidecar.doctor.finding import Check, Finding, failed, ok, skipped, warning
from sidecar.extras import HOW_TO_INSTALL
from sidecar.oidc.jwks import IssuerError, Published, has_key
from sidecar.oidc.key_rotation import EKS_ISSUER

MAX_URL_LENGTH = 255
"""Maximum length of an issuer URL (IAM API reference, CreateOpenIDConnectProvider, Url)."""

_INTERNAL_NAME = re.compile(r"(^|\.)(svc|local|localhost|internal|cluster\.local)$|^kubernetes(\.default)?$")


class IssuerFacts(NamedTuple):
    """
    Facts about the issuer: `published` or `error`, or neither if the issuer was not called.

    `is_aws` is true if AWS operates the STS. `exchange_succeeded` is None if there was no exchange.
    `sts_cannot_get_keys` is true if STS reported that it cannot reach the issuer or its keys. `signature_error` is ""
    for a valid signature, and None if the signature was not verified.
    """

    issuer: str | None
    kid: str | None
    algorithm: str | None
    is_aws: bool
    exchange_succeeded: bool | None = None
    sts_cannot_get_keys: bool = False
    published: Published | None = None
    error: IssuerError | None = None
    signature_error: str | None = None


def _url(facts: IssuerFacts) -> Finding:
    issuer = facts.issuer
    if issuer is None:
        return failed("the token has no iss, which STS requires", "Use a projected service account token")
    problem = _problem(issuer) if facts.is_aws else None
    if problem is None:
        return ok(issuer)
    return failed(
        f"iss is {issuer}, {problem}: IAM cannot have an OIDC provider with such a URL",
        "Make a public https:// URL the first --service-account-issuer of the API server, and create the IAM OIDC "
        "provider with exactly this URL",
    )


def _problem(issuer: str) -> str | None:
    try:
        parts = urlsplit(issuer)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "which is not a URL"
    problems = {
        "which is not https": parts.scheme != "https",
        "which has a port": port is not None,
        "which has a query or a fragment": "?" in issuer or "#" in issuer,
        f"which is longer than {MAX_URL_LENGTH} characters": len(issuer) > MAX_URL_LENGTH,
        "a name that only the cluster resolves": _INTERNAL_NAME.search(host) is not None,
    }
    return next((problem for problem, applies in problems.items() if applies), None)


def _documents(facts: IssuerFacts) -> Finding:
    if facts.published is not None:
        return ok(f"discovery document and {len(facts.published.keys)} key(s) are published")
    if facts.error is None:
        return skipped("the issuer was not called")
    observed = facts.error.problem
    if facts.error.reason == "dns" and EKS_ISSUER.fullmatch(facts.issuer or ""):
        observed += (
            "; in a VPC with the interface endpoint for EKS, its private zone hides this name. STS uses the internet "
            "and is not affected"
        )
    if facts.exchange_succeeded:
        return ok(f"not readable from here, but STS can read them, because the exchange succeeded ({observed})")
    if facts.sts_cannot_get_keys:
        return failed(
            f"STS cannot get the issuer's keys, and neither can this machine: {observed}",
            "Publish the discovery document and the key set on the internet",
        )
    if facts.error.reason == "document":
        return failed(observed, "Publish the discovery document of exactly this issuer, and its key set")
    return warning(
        f"the issuer's documents cannot be read from here: {observed}",
        "Try from outside the cluster's network: curl ISSUER/.well-known/openid-configuration",
    )


def _key(facts: IssuerFacts) -> Finding | None:
    published = facts.published
    if published is None:
        return None
    if not has_key(published.keys, facts.kid):
        kids = ", ".join(str(key.get("kid")) for key in published.keys) or "none"
        observed = f"the token's kid is {facts.kid}; the issuer publishes {kids}"
        if facts.exchange_succeeded:
            return warning(f"{observed}; STS still has the key", "Publish every key until its last token has expired")
        return failed(
            observed, "Publish the API server's current keys (kubectl get --raw /openid/v1/jwks) at the issuer"
        )
    if published.algorithms and facts.algorithm not in published.algorithms:
        return warning(
            f"the token's alg is {facts.algorithm}, but the discovery document lists {', '.join(published.algorithms)}",
            "Correct id_token_signing_alg_values_supported in the discovery document",
        )
    return ok(f"key {facts.kid} is published")


def _verified(facts: IssuerFacts) -> Finding | None:
    if facts.published is None:
        return None
    if facts.signature_error is None:
        return skipped("needs the package cryptography", HOW_TO_INSTALL)
    if facts.signature_error == "":
        return ok("the published key verifies the token")
    return failed(facts.signature_error, "Use a token of this cluster, and publish this cluster's keys")


CHECKS: tuple[Check[IssuerFacts], ...] = (
    Check("url", "can IAM use the issuer as a provider's URL", _url),
    Check("documents", "are the issuer's discovery document and keys published", _documents, after=("url",)),
    Check("key", "is the token's key among the published keys", _key, after=("documents",)),
    Check("verification", "does the published key verify the token", _verified, after=("key",)),
)
