"""Fetch the documents of the token's issuer, and verify the token's signature with the issuer's keys."""

import time

from sidecar.doctor.checks.issuer import IssuerFacts
from sidecar.doctor.checks.token import TokenFacts
from sidecar.errors import ConfigurationError
from sidecar.oidc import jwks, verification
from sidecar.oidc.jwks import IssuerError, Published
from sidecar.oidc.sts_rejection import StsRejection


async def collect(token: TokenFacts, *, is_aws: bool, ca_bundle: str | None) -> IssuerFacts:
    """
    Return the facts about the issuer.

    Raises nothing.
    """
    assert token.token is not None
    facts = IssuerFacts(token.token.issuer, token.kid, token.algorithm, is_aws)
    if facts.issuer is None:
        return facts
    try:
        guard = jwks.require_https if is_aws else jwks.allow_any_url
        published = await jwks.fetch(facts.issuer, ca_bundle=ca_bundle, before_request=guard)
    except IssuerError as error:
        return facts._replace(error=error)
    except ConfigurationError as error:
        return facts._replace(error=IssuerError("tls", facts.issuer, str(error)))
    return facts._replace(published=published, signature_error=_signature_error(token, published))


def _signature_error(facts: TokenFacts, published: Published) -> str | None:
    """
    Return the reason why the keys do not verify the token, or "" if they do.

    Return None if the package cryptography is missing. The token's times are not checked here.
    """
    try:
        import cryptography  # noqa: F401, PLC0415  without it PyJWT reports only a wrong signature
    except ImportError:
        return None
    token = facts.token
    assert token is not None
    try:
        parsed = verification.parse_token(token.raw)
        at = max(filter(None, (token.issued_at, token.not_before)), default=time.time())
        verification.verify_without_audience(parsed, published.keys, at)
    except StsRejection as rejection:
        return rejection.reason
    return ""
