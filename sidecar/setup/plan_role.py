"""What has to change so that a role is as it is wanted. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from sidecar.errors import ConfigurationError
from sidecar.setup.plan import Call, Plan
from sidecar.setup.resources import DEFAULT_SESSION_SECONDS, Account, Role, tag_list
from sidecar.setup.trust_policy import DEFAULT_LIMIT, Change, Grant, check_size, compact, summary, with_grant
from sidecar.setup.trust_remarks import remarks_on, still_allowed

ATTACHED_POLICIES = 10
"""IAM's quota for managed policies of one role, unless it was raised (to 20 at most)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for. None: as it is, or IAM's default for a new role."""

    name: str
    grant: Grant
    path: str | None = None
    max_session_seconds: int | None = None
    boundary_arn: str | None = None
    policy_arns: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    trust_policy_limit: int = DEFAULT_LIMIT
    change: Change = Change.ADD
    overwrite_edits: bool = False


def plan_role(now: Role | None, wanted: Wanted, account: Account) -> Plan:
    """Return the changes to make. Raises ConfigurationError if IAM cannot do this."""
    then = _then(now, wanted, account)
    check_size(then.trust_policy, wanted.trust_policy_limit, then.title)
    calls = tuple(_creation(then)) if now is None else tuple(_update(now, then))
    before = None if now is None else now.trust_policy
    effects = tuple(summary(before, then.trust_policy, wanted.grant, wanted.trust_policy_limit))
    return Plan(then, now, calls, tuple(_notes(now, then, wanted.grant)), effects)


def _then(now: Role | None, wanted: Wanted, account: Account) -> Role:
    if now is None:
        if wanted.change is Change.REMOVE:
            raise ConfigurationError(f"ROLE is {wanted.name!r}: there is no such role. Check its name.")
        path = wanted.path or "/"
        return Role(
            account.arn(f"role{path}{wanted.name}"),
            wanted.name,
            path,
            with_grant(None, wanted.grant),
            wanted.max_session_seconds or DEFAULT_SESSION_SECONDS,
            wanted.boundary_arn,
            wanted.policy_arns,
            wanted.tags,
        )
    if wanted.path not in (None, now.path):
        raise ConfigurationError(
            f"--path is {wanted.path!r}, and {now.title} is under {now.path!r}, which IAM cannot change: leave --path "
            "out, or choose another name."
        )
    return replace(
        now,
        trust_policy=with_grant(now.trust_policy, wanted.grant, wanted.change, overwrite_edits=wanted.overwrite_edits),
        max_session_seconds=wanted.max_session_seconds or now.max_session_seconds,
        boundary_arn=wanted.boundary_arn or now.boundary_arn,
        policy_arns=(*now.policy_arns, *(arn for arn in wanted.policy_arns if arn not in now.policy_arns)),
        tags={**now.tags, **wanted.tags},
    )


def _creation(then: Role) -> Iterator[Call]:
    parameters = {
        "RoleName": then.name,
        "Path": then.path,
        "AssumeRolePolicyDocument": compact(then.trust_policy),
        "MaxSessionDuration": then.max_session_seconds,
        "PermissionsBoundary": then.boundary_arn,
        "Tags": tag_list(then.tags),
    }
    yield Call("CreateRole", {name: value for name, value in parameters.items() if value}, "create the role")
    yield from _attachments(then, then.policy_arns)


def _update(now: Role, then: Role) -> Iterator[Call]:
    """Nothing is taken away: neither policies nor tags that others gave it."""
    role = {"RoleName": then.name}
    if then.trust_policy != now.trust_policy:
        document = {"PolicyDocument": compact(then.trust_policy)}
        yield Call("UpdateAssumeRolePolicy", role | document, "write its trust policy")
    if then.max_session_seconds != now.max_session_seconds:
        seconds = then.max_session_seconds
        yield Call("UpdateRole", role | {"MaxSessionDuration": seconds}, f"let its sessions last up to {seconds} s")
    if then.boundary_arn != now.boundary_arn:
        boundary = {"PermissionsBoundary": then.boundary_arn}
        yield Call("PutRolePermissionsBoundary", role | boundary, f"bound its permissions by {then.boundary_arn}")
    if tags := {key: value for key, value in then.tags.items() if now.tags.get(key) != value}:
        yield Call("TagRole", role | {"Tags": tag_list(tags)}, f"tag it with {', '.join(tags)}")
    yield from _attachments(then, [arn for arn in then.policy_arns if arn not in now.policy_arns])


def _attachments(then: Role, arns: tuple[str, ...] | list[str]) -> Iterator[Call]:
    for arn in arns:
        yield Call("AttachRolePolicy", {"RoleName": then.name, "PolicyArn": arn}, f"attach {arn}")


def _notes(now: Role | None, then: Role, grant: Grant) -> Iterator[str]:
    if now is not None:
        yield from still_allowed(now.trust_policy, then.trust_policy, grant)
    yield from remarks_on(then.trust_policy, grant)
    if len(then.policy_arns) > ATTACHED_POLICIES:
        yield (
            f"It would have {len(then.policy_arns)} managed policies, and IAM's default quota is {ATTACHED_POLICIES}: "
            'join some, or have "Managed policies attached to an IAM role" raised.'
        )
