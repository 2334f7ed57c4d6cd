"""
Describe one call that assumes a role: the values that STS compared, and its decision. Pure.

Rule: the description contains no secret. It has only the access key id of the credentials, and only the claims of the
token that matter for a decision. Texts from a token are shortened, because a caller chooses them.
"""

from datetime import datetime
from typing import Any, NamedTuple

from sidecar.local.conditions import ComparedStatement
from sidecar.local.operations import SessionResult, TrustRejection
from sidecar.oidc.sts_rejection import StsRejection
from sidecar.oidc.verification import parse_token

MAX_CLAIM_CHARACTERS = 500
"""Maximum number of characters of a claim in an event. A token can have 20,000 characters."""


class TokenClaims(NamedTuple):
    """The claims that decide about a call. The token's signature may be invalid. `exp` is in Unix seconds."""

    iss: str
    sub: str
    aud: tuple[str, ...]
    exp: float | None
    kid: str | None


class Exchange(NamedTuple):
    """
    One call that assumes a role.

    `claims` is None for AssumeRole, and for a token that is not a JWT or lacks a required claim. `compared` is empty if
    STS rejected the call for a reason other than the trust policy, such as an expired token. `reason` is for the
    operator.
    """

    role_arn: str | None
    claims: TokenClaims | None
    is_allowed: bool
    reason: str
    compared: tuple[ComparedStatement, ...] = ()
    access_key_id: str | None = None
    expires_at: datetime | None = None


def granted(result: SessionResult, token: str | None) -> Exchange:
    """Return the description of a call that created a session."""
    session, decision = result.session, result.decision
    return Exchange(
        session.role.arn,
        claims_of(token),
        decision.is_allowed,
        decision.reason,
        decision.compared,
        session.access_key_id,
        session.expires_at,
    )


def rejected(rejection: StsRejection, role_arn: str | None, token: str | None) -> Exchange:
    """Return the description of a call that STS rejected."""
    compared = rejection.decision.compared if isinstance(rejection, TrustRejection) else ()
    return Exchange(role_arn, claims_of(token), is_allowed=False, reason=rejection.reason, compared=compared)


def claims_of(token: str | None) -> TokenClaims | None:
    """Return the claims of a token, or None if it is not a JWT with all required claims. Do not check the signature."""
    try:
        parsed = parse_token(token or "")
    except StsRejection:
        return None
    claims, aud, exp = parsed.claims, parsed.claims["aud"], parsed.claims["exp"]
    return TokenClaims(
        _text(claims["iss"]),
        _text(claims["sub"]),
        tuple(_text(each) for each in (aud if isinstance(aud, list) else [aud])[:10]),
        exp if type(exp) in (int, float) else None,
        None if parsed.kid is None else _text(parsed.kid),
    )


def _text(value: Any) -> str:
    return str(value)[:MAX_CLAIM_CHARACTERS]
