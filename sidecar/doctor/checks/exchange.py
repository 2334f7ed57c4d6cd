"""
What STS says to the exchange itself, and what its code means for this token. Pure.

AWS tells a caller little on purpose. What the claims, the issuer's keys, the provider and the trust policy say of the
code is put beside it, as far as each of them is known.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from sidecar.clock import instant_text
from sidecar.doctor.checks.token import capitalised, change_audience, duration_text
from sidecar.doctor.finding import Check, Finding, left_out, ok, warning, wrong
from sidecar.errors import ExchangeError
from sidecar.role import Role
from sidecar.sts.errors import hint, is_denied_by_another_policy
from sidecar.token import Token


class Granted(NamedTuple):
    """What STS gave, without its secrets."""

    access_key_id: str
    expires_at: datetime
    seconds: float


class ExchangeFacts(NamedTuple):
    """
    Either `granted` or `error`.

    `asked_seconds` is the life that was asked for. `kids` are the issuer's keys, `client_ids` the provider's, and
    `objection` what in the trust policy does not fit, each None where it is not known. `is_out_of_reach` is whether
    there is no way to STS, which is not told once more.
    """

    role: Role
    token: Token
    kid: str | None
    asked_seconds: int
    sts_host: str
    granted: Granted | None = None
    error: ExchangeError | None = None
    kids: tuple[str, ...] | None = None
    client_ids: tuple[str, ...] | None = None
    objection: str | None = None
    is_out_of_reach: bool = False


def _exchanged(facts: ExchangeFacts) -> Finding:
    if facts.error is not None and facts.error.status is None and facts.is_out_of_reach:
        return left_out("there is no way to STS")
    if facts.error is not None:
        return _explained(facts, facts.error)
    granted = facts.granted
    assert granted is not None
    until = f"{granted.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    took = f"{1000 * granted.seconds:.0f} ms"
    return ok(f"STS gives {granted.access_key_id} for {facts.role.role_arn} until {until} ({took})")


def _explained(facts: ExchangeFacts, error: ExchangeError) -> Finding:
    """The claim that the code is about comes first, then AWS's own words."""
    explain = _EXPLANATIONS.get(error.code)
    what, next_step = explain(facts, error) if explain else (None, None)
    is_ours = error.code == "MalformedReply" or error.status is None
    said = error.message.removesuffix(".") if is_ours else f"STS says {error.code}: {error.message.removesuffix('.')}"
    advice = next_step or hint(error.code, error.message).removesuffix(".") or "Try again; see the steps before"
    return wrong(f"{what}. {said}" if what else said, advice)


def _invalid(facts: ExchangeFacts, error: ExchangeError) -> tuple[str | None, str | None]:
    token = facts.token
    if "No OpenIDConnect provider" in error.message:
        return (
            f"account {_account(facts)} has no IAM OIDC provider for iss {token.issuer}",
            f"Create it there, with the URL letter by letter: irsa-sidecar setup oidc-provider --issuer {token.issuer}",
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
            "Publish the API server's present keys at the issuer: kubectl get --raw /openid/v1/jwks",
        )
    return (
        f"STS cannot get the keys of {facts.token.issuer}",
        "Try again in a minute; if it stays, its discovery document and keys must be readable from the internet",
    )


def _not_validated(facts: ExchangeFacts) -> tuple[str | None, str | None]:
    token = facts.token
    claim, audience = token.audience_claim, token.audience
    where = f"the IAM OIDC provider of {facts.token.issuer} in account {_account(facts)}"
    if audience is None:
        return token.audience_problem, "Get a token with one audience that the provider accepts"
    if facts.client_ids is None:
        return (
            f"{claim} is {audience}, and STS does not validate the token: most often the provider lacks this audience",
            f"Compare it with the client IDs of {where}: add {audience} there, or {change_audience(token)}",
        )
    if audience in facts.client_ids:
        return (
            f"{claim} is {audience}, which the provider accepts, so the signature is what STS does not validate",
            "`irsa-sidecar token --verify` says which key signed it, and whether the issuer publishes that one",
        )
    accepted = ", ".join(facts.client_ids) or "none"
    return (
        f"{claim} is {audience}; the provider accepts {accepted}",
        f"{capitalised(change_audience(token, accepted))}, or add {audience} to the client IDs of {where}",
    )


def _unreachable(facts: ExchangeFacts, _error: ExchangeError) -> tuple[str | None, str | None]:
    return (
        f"STS cannot reach the token's issuer {facts.token.issuer}",
        "Try again; if it stays, make its discovery document and keys readable from the internet, where STS asks from",
    )


def _expired(facts: ExchangeFacts, _error: ExchangeError) -> tuple[str | None, str | None]:
    expires_at = facts.token.expires_at
    ended = f"exp is {instant_text(expires_at)}" if expires_at is not None else "the token has no exp"
    return ended, "Use the projected volume's own file, mounted without subPath; check the clocks"


def _denied(facts: ExchangeFacts, error: ExchangeError) -> tuple[str | None, str | None]:
    if is_denied_by_another_policy(error.message):
        return None, None
    token = facts.token
    claims = f"sub is {token.subject}, {token.audience_claim} is {token.audience}"
    if facts.objection is not None:
        return f"{claims}; {facts.objection}", "Correct role, trust policy or service account: see `trust` below"
    key = (token.issuer or "").partition("://")[2]
    needed = (
        f"Let it allow sts:AssumeRoleWithWebIdentity to Federated {_provider_arn(facts)} where {key}:sub is "
        f"{token.subject} and {key}:aud is {token.audience}; a change takes some seconds to spread"
    )
    return (
        f"{claims}, and the trust policy of {facts.role.role_arn} does not allow that, or there is no such role",
        needed,
    )


def _invalid_parameter(facts: ExchangeFacts, error: ExchangeError) -> tuple[str | None, str | None]:
    if "MaxSessionDuration" not in error.message:
        return None, None
    return (
        f"{duration_text(facts.asked_seconds)} were asked for, and {facts.role.role_arn} allows less",
        "Lower IRSA_SIDECAR_DURATION (or set it to max), or raise the role's MaxSessionDuration",
    )


def _disabled(facts: ExchangeFacts, _error: ExchangeError) -> tuple[str | None, str | None]:
    return (
        f"{facts.sts_host} does not serve account {_account(facts)}",
        "Activate STS in that region (IAM, account settings), enable the region, or set another AWS_REGION",
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
"""By AWS's code: what it says of this token, and the next step; None for what there is nothing more to say of."""


def _account(facts: ExchangeFacts) -> str:
    return facts.role.role_arn.split(":")[4]


def _provider_arn(facts: ExchangeFacts) -> str:
    partition = facts.role.role_arn.split(":")[1]
    return f"arn:{partition}:iam::{_account(facts)}:oidc-provider/{(facts.token.issuer or '').partition('://')[2]}"


def _long_enough(facts: ExchangeFacts) -> Finding | None:
    if facts.granted is None or facts.asked_seconds >= 1800:
        return None
    return warning(
        f"sessions live {duration_text(facts.asked_seconds)}: in the last 15 minutes SDKs ask again on every use",
        "Set IRSA_SIDECAR_DURATION to 3600 or more",
    )


CHECKS: tuple[Check[ExchangeFacts], ...] = (
    Check("granted", "does STS issue credentials for the token", _exchanged),
    Check("duration", "do they last longer than SDKs' refresh windows", _long_enough, after=("granted",)),
)
