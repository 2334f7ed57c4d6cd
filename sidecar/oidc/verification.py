"""
Verify a web identity token as STS does before it checks the role. Pure: keys and time are arguments.

The order of the checks, the messages and the tolerance of 300 s were recorded from the real service. Details that STS
does not return to callers are in `StsRejection.reason`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from sidecar.oidc.sts_rejection import StsRejection

REQUIRED_CLAIMS = ("iss", "sub", "aud", "iat", "exp")
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""The signing algorithms that STS accepts (AWS STS API reference, AssumeRoleWithWebIdentity: WebIdentityToken)."""

TOLERANCE_SECONDS = 300
MAX_RSA_KEYS = 100
"""Maximum number of RSA keys. If an issuer publishes more, STS uses none of them."""

_NOT_VALIDATED = (
    "The web identity token provided could not be validated. See the AssumeRoleWithWebIdentity documentation for "
    "requirements."
)
_NO_JWT = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
NO_KEY = (
    "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity "
    "documentation for requirements"
)


Jwk = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Provider:
    """An IAM OIDC provider: an issuer whose tokens an account accepts. `audiences` are its client IDs."""

    issuer: str
    audiences: tuple[str, ...]
    account_id: str

    @property
    def key(self) -> str:
        """Return the issuer without its scheme, as in ARNs and condition keys."""
        return issuer_key(self.issuer)

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account_id}:oidc-provider/{self.key}"


@dataclass(frozen=True, slots=True)
class WebIdentity:
    """The identity in a verified token. `audience` is the token's `azp`, or else its only `aud`."""

    provider: Provider
    subject: str
    audience: str
    amr: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A well-formed token with all required claims. Its signature is not verified."""

    raw: str
    kid: str | None
    algorithm: str
    claims: Mapping[str, Any]


def issuer_key(issuer: str) -> str:
    return issuer.partition("://")[2]


def parse_token(raw: str) -> UnverifiedToken:
    """
    Decode the token.

    Raises StsRejection if it is not a JWT, or for the first missing claim.
    """
    try:
        parts = jwt.decode_complete(raw, options={"verify_signature": False})
    except (jwt.PyJWTError, RecursionError) as exc:  # old PyJWTs raise RecursionError for deeply nested claims
        raise _invalid(_NO_JWT, f"the token is not a JWT: {exc}") from exc
    header, claims = parts["header"], parts["payload"]
    for name in REQUIRED_CLAIMS:
        if claims.get(name) in (None, "", []):
            raise _invalid(f"Missing a required claim: {name}")
    return UnverifiedToken(raw, header.get("kid"), str(header.get("alg")), claims)


def find_provider(token: UnverifiedToken, providers: Mapping[str, Provider]) -> Provider:
    """
    Return the provider of the token's issuer, compared character by character.

    Raises StsRejection if no provider has the token's issuer.
    """
    issuer = token.claims["iss"]
    if not isinstance(issuer, str):
        raise _invalid(_NOT_VALIDATED, f"iss is {issuer!r}, not a string")
    provider = providers.get(issuer)
    if provider is None:
        known = ", ".join(providers) or "none"
        raise _invalid(
            f"No OpenIDConnect provider found in your account for {issuer}",
            f"the token's issuer is {issuer}; the providers here are {known}",
        )
    return provider


def verify_without_audience(token: UnverifiedToken, keys: Sequence[Jwk], now: float) -> None:
    """
    Check signature and times, for an unknown provider. `now` is in Unix seconds.

    Raises StsRejection if a check fails.
    """
    _verify_signature(token, keys)
    _check_times(token.claims, int(now))


def verify_token(token: UnverifiedToken, provider: Provider, keys: Sequence[Jwk], now: float) -> WebIdentity:
    """
    Check the signature, the audience and the times, in this order. `now` is in Unix seconds.

    Raises StsRejection if a check fails.
    """
    _verify_signature(token, keys)
    audience = _audience(token.claims, provider)
    _check_times(token.claims, int(now))
    subject = token.claims["sub"]
    if not isinstance(subject, str):
        raise _invalid(_NOT_VALIDATED, f"sub is {subject!r}, not a string")
    return WebIdentity(provider, subject, audience, _texts(token.claims.get("amr")))


def _verify_signature(token: UnverifiedToken, keys: Sequence[Jwk]) -> None:
    if token.algorithm not in ALGORITHMS:
        raise _invalid(_NOT_VALIDATED, f"alg is {token.algorithm}: STS accepts {', '.join(ALGORITHMS)}")
    key = _usable_key(token, keys)
    try:
        jwt.api_jws.decode(
            token.raw, key=jwt.PyJWK.from_dict(dict(key), token.algorithm).key, algorithms=[token.algorithm]
        )
    except jwt.PyJWTError as exc:
        raise _invalid(_NOT_VALIDATED, f"the key {token.kid} does not verify the signature: {exc}") from exc


def _usable_key(token: UnverifiedToken, keys: Sequence[Jwk]) -> Jwk:
    """
    Return the last key with the token's kid.

    Raises StsRejection if there is none or STS does not use that key.
    """
    named = [key for key in keys if token.kid is not None and key.get("kid") == token.kid]
    if not named:
        published = ", ".join(str(key.get("kid")) for key in keys) or "none"
        raise _invalid(NO_KEY, f"the token's kid is {token.kid}; the issuer publishes {published}")
    key = named[-1]
    if key.get("use", "sig") != "sig" or "key_ops" in key:
        raise _invalid(NO_KEY, f"the key {token.kid} has key_ops or a use other than sig, which STS does not accept")
    if key.get("kty") == "RSA" and sum(other.get("kty") == "RSA" for other in keys) > MAX_RSA_KEYS:
        raise _invalid(NO_KEY, f"the issuer publishes more than {MAX_RSA_KEYS} RSA keys")
    return key


def _audience(claims: Mapping[str, Any], provider: Provider) -> str:
    audiences = _texts(claims["aud"])
    party = claims.get("azp")
    if party is None and len(audiences) > 1:
        raise _invalid("Token audience contains more than one audience while authorized party is not present")
    chosen = party if party is not None else "".join(audiences)
    if chosen not in provider.audiences:
        registered = ", ".join(provider.audiences) or "none"
        raise _invalid(
            _NOT_VALIDATED,
            f"the token's {'aud' if party is None else 'azp'} is {chosen}; the provider's client ids are {registered}",
        )
    return str(chosen)


def _check_times(claims: Mapping[str, Any], now: int) -> None:
    for name in ("exp", "iat", "nbf"):
        if type(claims.get(name, 0)) is not int:
            raise _invalid(_NOT_VALIDATED, f"{name} is {claims[name]!r}: STS accepts only whole seconds")
    if now - TOLERANCE_SECONDS >= claims["exp"]:
        raise StsRejection(
            "ExpiredTokenException",
            f"Token expired: current date/time {now - TOLERANCE_SECONDS} must be before the expiration date/time "
            f"{claims['exp']}",
            reason=f"the token expired {now - claims['exp']} s ago; STS tolerates {TOLERANCE_SECONDS}",
        )
    if claims["iat"] > now + TOLERANCE_SECONDS:
        raise _invalid(f"Token issued in the future: {claims['iat']}")
    if claims.get("nbf", 0) > now + TOLERANCE_SECONDS:
        raise _invalid(f"Token not yet valid: {claims['nbf']}")


def _texts(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(item for item in items if isinstance(item, str))


def _invalid(message: str, reason: str | None = None) -> StsRejection:
    return StsRejection("InvalidIdentityToken", message, reason=reason)
