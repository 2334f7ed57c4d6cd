"""
Find roles that accept more tokens than their users need. Pure.

Rule: the ServiceAccounts that a policy accepts are found by evaluating the policy, not by comparing texts. So a policy
with a Deny statement or with several conditions is judged as STS judges it.
"""

from collections.abc import Iterator

from sidecar.audit.finding import Problem, Rule, Severity, Subject
from sidecar.audit.inventory import Role
from sidecar.audit.relations import Relations, Token, literal_subjects, token_of
from sidecar.audit.workloads import counted, listed
from sidecar.local.strangers import STRANGER, subject_patterns
from sidecar.oidc.verification import issuer_key

OTHER_AUDIENCE = "irsa-sidecar-audit.invalid"
"""An audience that no policy names. A policy that accepts it does not restrict the audience."""


def _trusting_roles(relations: Relations) -> Iterator[Role]:
    return (relations.roles[arn] for arn in relations.policies)


def _subject(role: Role) -> Subject:
    return Subject("Role", role.arn)


def _others(relations: Relations, role: Role) -> list[str]:
    """Return the ServiceAccounts of this cluster that the role accepts although they do not name the role."""
    return [
        f"{each.namespace}/{each.name}"
        for each in relations.accepted[role.arn]
        if relations.annotated.get((each.namespace, each.name)) != role.arn
    ]


def _is_open(relations: Relations, role: Role) -> bool:
    audiences = {token_of(each).audience for each in relations.accepted[role.arn]} or {"sts.amazonaws.com"}
    return any(relations.decide(role.arn, Token(STRANGER, audience)).is_allowed for audience in audiences)


def _any_subject(relations: Relations) -> Iterator[Problem]:
    for role in _trusting_roles(relations):
        if _is_open(relations, role):
            key = issuer_key(relations.cluster.issuer)
            yield Problem(
                _subject(role),
                "any ServiceAccount of the cluster can assume the role, because a statement does not restrict "
                f"{key}:sub" + _now(_others(relations, role)),
                f"Add a condition StringEquals on {key}:sub with the ServiceAccounts that use the role",
            )


def _pattern(relations: Relations) -> Iterator[Problem]:
    for role in _trusting_roles(relations):
        patterns = list(subject_patterns([*relations.statements(role.arn)]))
        if not patterns or _is_open(relations, role):
            continue
        others = _others(relations, role)
        effect = f"accepts {listed(others)}, which do not name the role" if others else "accepts future ServiceAccounts"
        yield Problem(
            _subject(role),
            f"the pattern {listed(patterns)} for sub {effect}",
            "Replace the pattern by the names of the ServiceAccounts that use the role",
        )


def _now(others: list[str]) -> str:
    return f". These {counted(len(others), 'ServiceAccount')} do not name the role: {listed(others)}" if others else ""


def _no_audience(relations: Relations) -> Iterator[Problem]:
    for role in _trusting_roles(relations):
        subjects = {token_of(each).subject for each in relations.accepted[role.arn]}
        for statement in relations.statements(role.arn):
            subjects |= literal_subjects(statement) or set()
        if any(relations.decide(role.arn, Token(each, OTHER_AUDIENCE)).is_allowed for each in sorted(subjects)):
            key = issuer_key(relations.cluster.issuer)
            yield Problem(
                _subject(role),
                f"the trust policy does not restrict {key}:aud, so a token for another service is accepted too, if "
                "the OIDC provider has its audience",
                f"Add a condition StringEquals on {key}:aud with sts.amazonaws.com",
            )


def _many_clusters(relations: Relations) -> Iterator[Problem]:
    for role in _trusting_roles(relations):
        policy = relations.policies[role.arn]
        names = {name for each in policy.statements if each.is_allow for name in each.principals}
        providers = sorted(name for name in names if ":oidc-provider/" in name)
        if len(providers) > 1:
            yield Problem(
                _subject(role),
                f"the role trusts {len(providers)} OIDC providers: {listed(providers)}",
                "Check that each of these clusters needs the role",
            )


def _shared_role(relations: Relations) -> Iterator[Problem]:
    users: dict[str, list[str]] = {}
    for (namespace, name), role_arn in [*relations.annotated.items(), *relations.associated.items()]:
        if role_arn:
            users.setdefault(role_arn, []).append(f"{namespace}/{name}")
    for role_arn, names in users.items():
        distinct = sorted(set(names))
        if len(distinct) > 1:
            yield Problem(
                Subject("Role", role_arn),
                f"{len(distinct)} ServiceAccounts use the role: {listed(distinct)}",
                "Create a role for each ServiceAccount, so that each application has only the permissions it needs",
            )


def _boundary(relations: Relations) -> Iterator[Problem]:
    if not relations.options.requires_boundary:
        return
    for role in _trusting_roles(relations):
        if role.is_detailed and not role.boundary:
            yield Problem(
                _subject(role),
                "the role has no permissions boundary",
                "Set a boundary: aws iam put-role-permissions-boundary",
            )


RULES = (
    Rule(
        "wide.any-subject",
        Severity.WARNING,
        "any ServiceAccount of the cluster can assume a role",
        "Without a condition on `sub`, everybody who can create a Pod in any namespace of the cluster can assume the "
        "role.",
        _any_subject,
    ),
    Rule(
        "wide.pattern",
        Severity.WARNING,
        "a pattern in a trust policy accepts other ServiceAccounts",
        "A wildcard in the condition on `sub` also accepts ServiceAccounts that somebody creates later.",
        _pattern,
    ),
    Rule(
        "wide.no-audience",
        Severity.WARNING,
        "a trust policy does not restrict the audience",
        "Without a condition on `aud`, a token that was issued for another service can be exchanged for the role.",
        _no_audience,
    ),
    Rule(
        "wide.many-clusters",
        Severity.NOTE,
        "a role trusts several OIDC providers",
        "A ServiceAccount with the same namespace and name in any of these clusters can assume the role.",
        _many_clusters,
    ),
    Rule(
        "wide.shared-role",
        Severity.NOTE,
        "several ServiceAccounts use one role",
        "Each application has the permissions of all applications that share the role. CloudTrail distinguishes them "
        "only by the session name.",
        _shared_role,
    ),
    Rule(
        "wide.no-boundary",
        Severity.WARNING,
        "a role has no permissions boundary",
        "This rule applies only with `--require-boundary`, for organisations that require a boundary for each role.",
        _boundary,
    ),
)
