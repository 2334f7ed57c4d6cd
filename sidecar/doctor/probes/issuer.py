"""What the token's issuer publishes, seen from here, and whether it verifies the token."""

import time

from sidecar.doctor.checks.issuer import IssuerFacts
from sidecar.doctor.checks.token import TokenFacts
from sidecar.errors import ConfigurationError
from sidecar.oidc import jwks as published_keys
from sidecar.oidc import verification as web_identity
from sidecar.oidc.jwks import IssuerError, Published
from sidecar.oidc.sts_refusal import StsRefusal


async def look(token: TokenFacts, *, is_aws: bool, ca_bundle: str | None) -> IssuerFacts:
    """Raises nothing."""
    assert token.token is not None
    facts = IssuerFacts(token.token.issuer, token.kid, token.algorithm, is_aws)
    if facts.issuer is None:
        return facts
    try:
        guard = published_keys.require_https if is_aws else published_keys.allow_any_url
        published = await published_keys.fetch(facts.issuer, ca_bundle=ca_bundle, before_request=guard)
    except IssuerError as error:
        return facts._replace(error=error)
    except ConfigurationError as error:
        return facts._replace(error=IssuerError("tls", facts.issuer, str(error)))
    return facts._replace(published=published, unverified=_unverified(token, published))


def _unverified(facts: TokenFacts, published: Published) -> str | None:
    """Why the keys do not verify the token; "" if they do, None where that cannot be tried. Times are not judged."""
    try:
        import cryptography  # noqa: F401, PLC0415  PyJWT would only say that the signature is wrong
    except ImportError:
        return None
    token = facts.token
    assert token is not None
    try:
        parsed = web_identity.parse_token(token.raw)
        at = max(filter(None, (token.issued_at, token.not_before)), default=time.time())
        web_identity.verify_without_audience(parsed, published.keys, at)
    except StsRefusal as refusal:
        return refusal.why
    return ""
