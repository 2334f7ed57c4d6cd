"""
The role's trust policy and its OIDC provider, compared with the token claim by claim. Pure.

Statements are judged one by one, so that one with an element that is not known here does not hide the others.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from sidecar.doctor.checks.breadth import Breadth, breadth, shown_patterns
from sidecar.doctor.checks.token import capitalised, change_audience
from sidecar.doctor.finding import Check, Finding, left_out, ok, warning, wrong
from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import Decision, Principal, Statement, TrustPolicy, read_statement, statement_label
from sidecar.role import Role
from sidecar.token import Token

ACTION = "sts:AssumeRoleWithWebIdentity"


class TrustFacts(NamedTuple):
    """
    `policy` and `client_ids` are as IAM has them; None where they may not be read, and then `why_not` says so.

    `how` is what to do so that they can be. `has_provider` and `has_role` are false where IAM says that there is none.
    `granted` is whether STS gave credentials all the same, as it does for some seconds after a change.
    """

    role: Role
    token: Token
    session_name: str
    policy: Mapping[str, Any] | None = None
    max_session_seconds: int | None = None
    client_ids: tuple[str, ...] | None = None
    has_provider: bool = True
    has_role: bool = True
    why_not: str = ""
    how: str = ""
    granted: bool = False


def judge(facts: TrustFacts) -> Decision:
    """Return whether the policy lets this token in, judged by its statements that can concern it."""
    return _policy(facts).evaluate(ACTION, _principal(facts), _context(facts))


def _policy(facts: TrustFacts) -> TrustPolicy:
    items = _as_list((facts.policy or {}).get("Statement"))
    return TrustPolicy(tuple(_statement(item, number) for number, item in enumerate(items, 1)))


def _principal(facts: TrustFacts) -> Principal:
    return Principal((provider_arn(facts),), None)


def _statement(item: Any, number: int) -> Statement:
    """Return the statement; one that cannot be read concerns everything and is unknown."""
    name = "the trust policy"
    try:
        return read_statement(item, number, name)
    except ConfigurationError as exc:
        label = statement_label(item, number)
        reason = str(exc).removeprefix(f"{name}: ").removeprefix(label).lstrip(": ").partition(": use")[0]
        is_allow = isinstance(item, dict) and item.get("Effect") == "Allow"
        return Statement(label, is_allow, frozenset({"*"}), ("*",), (), unknown=reason)


def provider_arn(facts: TrustFacts) -> str:
    _, partition, _, _, account, _ = facts.role.role_arn.split(":", 5)
    return f"arn:{partition}:iam::{account}:oidc-provider/{_issuer_key(facts)}"


def objection(facts: TrustFacts) -> str | None:
    """What does not fit, as a clause; None when the policy allows it or is not known."""
    if not facts.has_role:
        return f"there is no role {facts.role.role_arn}"
    if facts.policy is None:
        return None
    decision = judge(facts)
    if decision.is_allowed or decision.unknown:
        return None
    return f"the trust policy says otherwise: {decision.why}"


def _provider(facts: TrustFacts) -> Finding | None:
    if not facts.has_provider:
        return wrong(
            f"there is no {provider_arn(facts)}",
            f"irsa-sidecar setup oidc-provider --issuer {facts.token.issuer}",
        )
    if facts.client_ids is None and facts.policy is None:
        return None
    if facts.client_ids is None:
        return left_out(f"the IAM OIDC provider is not to be read: {facts.why_not}", facts.how)
    claim, audience = facts.token.audience_claim, facts.token.audience
    accepted = ", ".join(facts.client_ids) or "none"
    if audience is None:
        return left_out(facts.token.audience_problem or "")
    if audience not in facts.client_ids:
        return (warning if facts.granted else wrong)(
            f"{claim} is {audience}; the provider accepts {accepted}",
            f"{capitalised(change_audience(facts.token, accepted))}, or add {audience} to the provider's client IDs",
        )
    return ok(f"{provider_arn(facts)} accepts {audience}")


def _allowed(facts: TrustFacts) -> Finding:
    if not facts.has_role:
        return wrong(f"there is no role {facts.role.role_arn}", "Create it, or correct AWS_ROLE_ARN")
    if facts.policy is None:
        return left_out(f"trust policy and provider are not to be read: {facts.why_not}", facts.how)
    decision = judge(facts)
    if decision.is_allowed:
        return ok(f"{decision.why}: sub {facts.token.subject}, {facts.token.audience_claim} {facts.token.audience}")
    if decision.unknown:
        return left_out(f"not all of the trust policy can be judged here: {'; '.join(decision.unknown)}")
    seen = f"the trust policy does not let sub {facts.token.subject} in: {decision.why}"
    fix = "Correct what the condition wants, or run the Pod as the service account that it names"
    if facts.granted:
        return warning(f"{seen}. STS has not heard of that yet", fix)
    return wrong(seen, fix)


def _narrow(facts: TrustFacts) -> Finding | None:
    """Judge whether other service accounts of the cluster are let in as well."""
    if facts.policy is None:
        return None
    subject, policy = facts.token.subject or "", _policy(facts)

    def judge_subject(other: str) -> Decision:
        stranger = facts._replace(token=replace(facts.token, subject=other))
        return policy.evaluate(ACTION, _principal(facts), _context(stranger))

    found = breadth(subject, policy.allowing(ACTION, _principal(facts), _context(facts)), judge_subject)
    fix = f"Add a condition on {_issuer_key(facts)}:sub, as StringEquals {{{_issuer_key(facts)}:sub: {subject}}}"
    if found.is_anybody:
        return warning(f"any service account of this issuer may assume the role: {found.why}", fix)
    if found.strangers or found.patterns:
        return warning(_others(found), fix.replace("Add a condition on", "Name the service accounts in", 1))
    if found.unknown:
        return left_out(f"not all of the trust policy can be judged here: {'; '.join(found.unknown)}")
    return ok("other service accounts are kept out")


def _others(found: Breadth) -> str:
    who = "; ".join(found.strangers) or "others"
    like = f", because sub may be anything like {shown_patterns(found.patterns)}" if found.patterns else ""
    return f"other service accounts may assume the role: {who}{like} ({found.why})"


def _duration(facts: TrustFacts) -> Finding | None:
    limit, asked = facts.max_session_seconds, facts.role.duration_seconds
    if limit is None:
        return None
    if asked is not None and asked > limit:
        return wrong(
            f"sessions of {asked} s are asked for, and the role's MaxSessionDuration is {limit} s",
            "Lower IRSA_SIDECAR_DURATION (or set it to max), or raise MaxSessionDuration",
        )
    return ok(f"MaxSessionDuration is {limit} s")


def _context(facts: TrustFacts) -> dict[str, tuple[str, ...]]:
    key = _issuer_key(facts).lower()
    return {
        f"{key}:sub": (facts.token.subject or "",),
        f"{key}:aud": () if facts.token.audience is None else (facts.token.audience,),
        "sts:rolesessionname": (facts.session_name,),
    }


def _issuer_key(facts: TrustFacts) -> str:
    return (facts.token.issuer or "").partition("://")[2]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


CHECKS: tuple[Check[TrustFacts], ...] = (
    Check("provider", "does the IAM OIDC provider accept the audience", _provider),
    Check("policy", "does the trust policy let this service account in", _allowed),
    Check("breadth", "does it keep other service accounts out", _narrow, after=("policy",)),
    Check("session", "does the role allow the requested duration", _duration, after=("policy",)),
)
