"""
Compare the role's trust policy and its OIDC provider with the token's claims. Pure.

Rule: a statement with an unknown element does not hide the other statements (readable_policy.py).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sidecar.doctor.checks.breadth import Breadth, breadth, shown_patterns
from sidecar.doctor.checks.token import capitalised, change_audience
from sidecar.doctor.finding import Check, Finding, failed, ok, skipped, warning
from sidecar.local.readable_policy import readable_policy
from sidecar.local.trust_policy import Decision, Principal, TrustPolicy
from sidecar.role import Role
from sidecar.token import Token

ACTION = "sts:AssumeRoleWithWebIdentity"


class TrustFacts(NamedTuple):
    """
    Facts from IAM about the role and the provider.

    `policy` and `client_ids` are None if they cannot be read. Then `unavailable_reason` is the reason, and `fix` is the
    next step. `has_provider` and `has_role` are false if IAM reported that they do not exist. `exchange_succeeded` may
    be true although the policy rejects the token, because a change takes effect some seconds later.
    """

    role: Role
    token: Token
    session_name: str
    policy: Mapping[str, Any] | None = None
    max_session_seconds: int | None = None
    client_ids: tuple[str, ...] | None = None
    has_provider: bool = True
    has_role: bool = True
    unavailable_reason: str = ""
    fix: str = ""
    exchange_succeeded: bool = False


def decide(facts: TrustFacts) -> Decision:
    """Return the policy's decision on this token, with the reason."""
    return _policy(facts).evaluate(ACTION, _principal(facts), _context(facts))


def _policy(facts: TrustFacts) -> TrustPolicy:
    return readable_policy(facts.policy or {})


def _principal(facts: TrustFacts) -> Principal:
    return Principal((provider_arn(facts),), None)


def provider_arn(facts: TrustFacts) -> str:
    _, partition, _, _, account, _ = facts.role.role_arn.split(":", 5)
    return f"arn:{partition}:iam::{account}:oidc-provider/{_issuer_key(facts)}"


def policy_mismatch(facts: TrustFacts) -> str | None:
    """
    Return the reason why the policy rejects the token, or None if it accepts the token or its decision is not known.

    A condition on the network is also a reason, because only STS knows the network of a request.
    """
    if not facts.has_role:
        return f"the role {facts.role.role_arn} does not exist"
    if facts.policy is None:
        return None
    decision = decide(facts)
    if decision.is_allowed and decision.assumed is not None:
        return f"the trust policy allows this only if {decision.assumed}"
    if decision.is_allowed or decision.unknown:
        return None
    return f"the trust policy does not allow this: {decision.reason}"


def _provider(facts: TrustFacts) -> Finding | None:
    if not facts.has_provider:
        return failed(
            f"the IAM OIDC provider {provider_arn(facts)} does not exist",
            f"Create it: irsa-sidecar setup oidc-provider --issuer {facts.token.issuer}",
        )
    if facts.client_ids is None and facts.policy is None:
        return None
    if facts.client_ids is None:
        return skipped(f"the IAM OIDC provider cannot be read: {facts.unavailable_reason}", facts.fix)
    claim, audience = facts.token.audience_claim, facts.token.audience
    accepted = ", ".join(facts.client_ids) or "none"
    if audience is None:
        return skipped(facts.token.audience_problem or "")
    if audience not in facts.client_ids:
        return (warning if facts.exchange_succeeded else failed)(
            f"{claim} is {audience}; the provider accepts {accepted}",
            f"{capitalised(change_audience(facts.token, accepted))}, or add {audience} to the provider's client IDs",
        )
    return ok(f"{provider_arn(facts)} accepts {audience}")


def _policy_accepts(facts: TrustFacts) -> Finding:
    if not facts.has_role:
        return failed(f"the role {facts.role.role_arn} does not exist", "Create it, or correct AWS_ROLE_ARN")
    if facts.policy is None:
        return skipped(f"the trust policy and the provider cannot be read: {facts.unavailable_reason}", facts.fix)
    decision = decide(facts)
    if decision.is_allowed:
        return _accepted(facts, decision)
    if decision.unknown:
        return skipped(f"a part of the trust policy cannot be evaluated here: {'; '.join(decision.unknown)}")
    observed = f"the trust policy does not accept sub {facts.token.subject}: {decision.reason}"
    fix = "Correct the condition, or run the Pod with the service account that the condition names"
    if facts.exchange_succeeded:
        return warning(f"{observed}. STS still accepts the token, probably because the policy changed just now", fix)
    return failed(observed, fix)


def _accepted(facts: TrustFacts, decision: Decision) -> Finding:
    observed = f"{decision.reason}: sub {facts.token.subject}, {facts.token.audience_claim} {facts.token.audience}"
    if decision.assumed is None or facts.exchange_succeeded:
        return ok(observed)
    return warning(
        observed,
        "Check that the Pod calls STS through that VPC endpoint: the name of STS must resolve to the endpoint's "
        "addresses",
    )


def _breadth(facts: TrustFacts) -> Finding | None:
    """Check whether the policy also accepts other service accounts of the cluster."""
    if facts.policy is None:
        return None
    subject, policy = facts.token.subject or "", _policy(facts)

    def decide_on(other: str) -> Decision:
        stranger = facts._replace(token=facts.token._replace(subject=other))
        return policy.evaluate(ACTION, _principal(facts), _context(stranger))

    found = breadth(subject, policy.allowing(ACTION, _principal(facts), _context(facts)), decide_on)
    fix = f"Add a condition on {_issuer_key(facts)}:sub, such as StringEquals {{{_issuer_key(facts)}:sub: {subject}}}"
    if found.accepts_anyone:
        return warning(f"any service account of this issuer may assume the role: {found.reason}", fix)
    if found.strangers or found.patterns:
        return warning(_others(found), fix.replace("Add a condition on", "Name the service accounts in", 1))
    if found.unknown:
        return skipped(f"a part of the trust policy cannot be evaluated here: {'; '.join(found.unknown)}")
    return ok("no other service account is accepted")


def _others(found: Breadth) -> str:
    accepted = "; ".join(found.strangers) or "others"
    reason = f", because sub may be anything like {shown_patterns(found.patterns)}" if found.patterns else ""
    return f"other service accounts may assume the role: {accepted}{reason} ({found.reason})"


def _session(facts: TrustFacts) -> Finding | None:
    limit, requested = facts.max_session_seconds, facts.role.duration_seconds
    if limit is None:
        return None
    if requested is not None and requested > limit:
        return failed(
            f"IRSA_SIDECAR_DURATION is {requested}, but the role's MaxSessionDuration is {limit} s",
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


CHECKS: tuple[Check[TrustFacts], ...] = (
    Check("provider", "does the IAM OIDC provider accept the audience", _provider),
    Check("policy", "does the trust policy accept this service account", _policy_accepts),
    Check("breadth", "does the trust policy reject other service accounts", _breadth, after=("policy",)),
    Check("session", "does the role allow the requested duration", _session, after=("policy",)),
)
