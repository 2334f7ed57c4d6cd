"""
Explain the STS response to the exchange of this token. Pure.

AWS returns few details on purpose. The finding adds the token's claims, the issuer's keys, the provider and the trust
policy, if they are known.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from sidecar.clock import instant_text
from sidecar.doctor.checks.token import capitalised, change_audience, duration_text
from sidecar.doctor.finding import Check, Finding, failed, ok, skipped, warning
from sidecar.errors import ExchangeError
from sidecar.role import Role
from sidecar.sts.errors import hint, is_denied_by_another_policy
from sidecar.token import Token


class Issued(NamedTuple):
    """The issued credentials without their secrets, and the duration of the exchange."""

    access_key_id: str
    expires_at: datetime
    seconds: float


class ExchangeFacts(NamedTuple):
    """
    Facts about the exchange: either `issued` or `error`.

    `requested_seconds` is the requested session duration. `kids` are the ids of the issuer's keys, `client_ids` are the
    provider's client IDs, and `policy_mismatch` is the reason why the trust policy rejects the token. Each of the three
    is None if it is not known. `is_unreachable` is true if STS is not reachable, which another check reports.
    """

    role: Role
    token: Token
    kid: str | None
    requested_seconds: int
    sts_host: str
    issued: Issued | None = None
    error: ExchangeError | None = None
    kids: tuple[str, ...] | None = None
    client_ids: tuple[str, ...] | None = None
    policy_mismatch: str | None = None
    is_unreachable: bool = False


def _granted(facts: ExchangeFacts) -> Finding:
    if facts.error is not None and facts.error.status is None and facts.is_unreachable:
        return skipped("STS cannot be reached")
    if facts.error is not None:
        return _explained(facts, facts.error)
    issued = facts.issued
    assert issued is not None
    expires = instant_text(issued.expires_at.timestamp())
    milliseconds = f"{1000 * issued.seconds:.0f} ms"
    return ok(f"STS issues {issued.access_key_id} for {facts.role.role_arn}, valid until {expires} ({milliseconds})")


def _explained(facts: ExchangeFacts, error: ExchangeError) -> Finding:
    """Return a finding with the explanation of the error, if there is one, followed by the message from AWS."""
    explain = _EXPLANATIONS.get(error.code)
    explanation, next_step = explain(facts, error) if explain else (None, None)
    is_ours = error.code == "MalformedReply" or error.status is None
    message = error.message.removesuffix(".")
    message = message if is_ours else f"STS returns {error.code}: {message}"
    fix = next_step or hint(error.code, error.message).removesuffix(".") or "Try again, and check the findings above"
    return failed(f"{explanation}. {message}" if explanation else message, fix)


def _invalid(facts: ExchangeFacts, error: ExchangeError) -> tuple[str | None, str | None]:
    token = facts.token
    if "No OpenIDConnect provider" in error.message:
        return (
            f"account {_account(facts)} has no IAM OIDC provider for iss {token.issuer}",
            f"Create it there with exactly this URL: irsa-sidecar setup oidc-provider --issuer {token.issuer}",
        )
    if "verification key" in error.message:
        return _without_key(facts)
    if "could not be validated" in error.message or "Incorrect token audience" in error.message:
        return _not_validated(facts)
    return None, None


def _without_key(facts: ExchangeFacts) -> tuple[str | None, str | None]:
    if facts.kids is not None and facts.kid not in facts.kids:
        return (
            f"the token's kid is {facts.kid}, and {facts.token.issuer} publishes {', '.join(facts.kids) or 'none'}",
            "Publish the API server's current keys at the issuer: kubectl get --raw /openid/v1/jwks",
        )
    return (
        f"STS cannot get the keys of {facts.token.issuer}",
        "Try again in a minute. If this error remains, make the issuer's documents readable from the internet",
    )


def _not_validated(facts: ExchangeFacts) -> tuple[str | None, str | None]:
    token = facts.token
    claim, audience = token.audience_claim, token.audience
    provider = f"the IAM OIDC provider of {facts.token.issuer} in account {_account(facts)}"
    if audience is None:
        return token.audience_problem, "Get a token with one audience that the provider accepts"
    if facts.client_ids is None:
        return (
            f"{claim} is {audience}, and STS rejects the token: usually the provider lacks this audience",
            f"Compare {claim} with the client IDs of {provider}: add {audience} there, or {change_audience(token)}",
        )
    if audience in facts.client_ids:
        return (
            f"{claim} is {audience}, which the provider accepts, so STS rejects the signature",
            "Run `irsa-sidecar token --verify`: it shows the key of the signature and whether the issuer publishes it",
        )
    accepted = ", ".join(facts.client_ids) or "none"
    return (
        f"{claim} is {audience}; the provider accepts {accepted}",
        f"{capitalised(change_audience(token, accepted))}, or add {audience} to the client IDs of {provider}",
    )


def _unreachable(facts: ExchangeFacts, _error: ExchangeError) -> tuple[str | None, str | None]:
    return (
        f"STS cannot reach the token's issuer {facts.token.issuer}",
        "Try again. If this error remains, make the issuer's documents readable from the internet",
    )


def _expired(facts: ExchangeFacts, _error: ExchangeError) -> tuple[str | None, str | None]:
    expires_at = facts.token.expires_at
    problem = f"exp is {instant_text(expires_at)}" if expires_at is not None else "the token has no exp"
    return problem, "Use the file of the projected volume, mounted without subPath, and check the clocks"


def _denied(facts: ExchangeFacts, error: ExchangeError) -> tuple[str | None, str | None]:
    if is_denied_by_another_policy(error.message):
        return None, None
    token = facts.token
    claims = f"sub is {token.subject}, {token.audience_claim} is {token.audience}"
    if facts.policy_mismatch is not None:
        return (
            f"{claims}; {facts.policy_mismatch}",
            "Correct the role, the trust policy or the service account: see `trust` below",
        )
    key = (token.issuer or "").partition("://")[2]
    fix = (
        f"In the trust policy, allow sts:AssumeRoleWithWebIdentity to Federated {_provider_arn(facts)} if {key}:sub is "
        f"{token.subject} and {key}:aud is {token.audience}. A change takes some seconds to take effect"
    )
    return (
        f"{claims}, but the trust policy of {facts.role.role_arn} does not allow this, or the role does not exist",
        fix,
    )


def _invalid_parameter(facts: ExchangeFacts, error: ExchangeError) -> tuple[str | None, str | None]:
    if "MaxSessionDuration" not in error.message:
        return None, None
    return (
        f"IRSA_SIDECAR_DURATION is {facts.requested_seconds}, but {facts.role.role_arn} allows only shorter sessions",
        "Lower IRSA_SIDECAR_DURATION (or set it to max), or raise the role's MaxSessionDuration",
    )


def _disabled(facts: ExchangeFacts, _error: ExchangeError) -> tuple[str | None, str | None]:
    return (
        f"{facts.sts_host} does not serve account {_account(facts)}",
        "Activate STS in that region (IAM, account settings), enable the region, or change AWS_REGION",
    )


_EXPLANATIONS: Mapping[str, Callable[[ExchangeFacts, ExchangeError], tuple[str | None, str | None]]] = {
    "InvalidIdentityToken": _invalid,
    "IDPCommunicationError": _unreachable,
    "ExpiredTokenException": _expired,
    "AccessDenied": _denied,
    "ValidationError": _invalid_parameter,
    "RegionDisabledException": _disabled,
    "OptInRequired": _disabled,
}
"""Functions that explain an AWS error code. Each returns an explanation and a next step. Both can be None."""


def _account(facts: ExchangeFacts) -> str:
    return facts.role.role_arn.split(":")[4]


def _provider_arn(facts: ExchangeFacts) -> str:
    partition = facts.role.role_arn.split(":")[1]
    return f"arn:{partition}:iam::{_account(facts)}:oidc-provider/{(facts.token.issuer or '').partition('://')[2]}"


def _duration(facts: ExchangeFacts) -> Finding | None:
    if facts.issued is None or facts.requested_seconds >= 1800:
        return None
    return warning(
        f"sessions last {duration_text(facts.requested_seconds)}: in the last 15 minutes SDKs call the endpoint on "
        "every use",
        "Set IRSA_SIDECAR_DURATION to 3600 or more",
    )


CHECKS: tuple[Check[ExchangeFacts], ...] = (
    Check("granted", "does STS issue credentials for the token", _granted),
    Check("duration", "do the credentials last longer than SDKs' refresh windows", _duration, after=("granted",)),
)
