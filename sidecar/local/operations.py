"""
Decide each operation of STS for an authenticated caller, and create the session and the result. Pure.

Limits that depend on several parameters are here. Limits of a single parameter are in the service model (`parameters`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from sidecar.clock import instant_text
from sidecar.local.conditions import Context
from sidecar.local.parameters import Parameters
from sidecar.local.roles import ROLE_ARN, IamRole
from sidecar.local.session_policy import SessionPolicy, evaluate, read_session_policy
from sidecar.local.session_size import SessionSize, Tags, session_size, tags_of
from sidecar.local.sessions import RandomBytes, Session, new_session
from sidecar.local.sts_xml import Tree
from sidecar.local.trust_policy import ASSUME_ROLE_WITH_WEB_IDENTITY, Decision, Principal
from sidecar.oidc.sts_rejection import StsRejection, validation_error
from sidecar.oidc.verification import WebIdentity

DEFAULT_SESSION_SECONDS = 3600
MAX_CHAINED_SECONDS = 3600
"""Maximum session duration of a role assumed with another role's credentials (IAM User Guide, "Role chaining")."""

Roles = Mapping[str, IamRole]


@dataclass(frozen=True, slots=True)
class SessionResult:
    """A new session, the members of the response's result element, and the decision that allowed the session."""

    session: Session
    members: Tree
    decision: Decision


class TrustRejection(StsRejection):
    """A rejection because the role does not exist or its trust policy does not allow the call."""

    def __init__(self, message: str, decision: Decision) -> None:
        super().__init__("AccessDenied", message, status=403, reason=decision.reason)
        self.decision = decision


def assume_role_with_web_identity(
    parameters: Parameters, identity: WebIdentity, roles: Roles, *, now: float, random_bytes: RandomBytes
) -> SessionResult:
    """
    Return a session of the requested role for a web identity.

    Raises StsRejection if the role does not exist, its trust policy does not allow the call, or a parameter is invalid.
    """
    role = roles.get(_role_arn(parameters))
    decision = _trusts_web_identity(role, parameters, identity)
    if role is None or not decision.is_allowed:
        raise TrustRejection("Not authorized to perform sts:AssumeRoleWithWebIdentity", decision)
    terms = _terms(parameters, role, None)
    session = _session(parameters, role, terms, now=now, random_bytes=random_bytes)
    return _session_result(
        session,
        terms.size,
        decision,
        {
            "SubjectFromWebIdentityToken": identity.subject,
            "Provider": identity.provider.arn,
            "Audience": identity.audience,
        },
    )


def assume_role(
    parameters: Parameters, caller: Session, roles: Roles, *, now: float, random_bytes: RandomBytes
) -> SessionResult:
    """
    Return a session of another role for the session that signed the request (role chaining).

    Raises StsRejection if the role does not exist, a policy does not allow the call, or a parameter is invalid.
    """
    _check_tags(parameters, caller)
    role = roles.get(_role_arn(parameters))
    source_identity = _source_identity(parameters, caller)
    decision, *_ = [_allowed(role, action, parameters, caller) for action in _actions(parameters, caller)]
    assert role is not None
    terms = _terms(parameters, role, caller)
    session = _session(parameters, role, terms, now=now, random_bytes=random_bytes)
    return _session_result(session, terms.size, decision, {"SourceIdentity": source_identity})


def _allowed(role: IamRole | None, action: str, parameters: Parameters, caller: Session) -> Decision:
    """
    Return the decision of the trust policy that allows the action.

    Raises StsRejection if a policy does not allow the action, or the role does not exist.
    """
    _check_session_policy(caller, action, parameters)
    decision = _trusts_session(role, action, parameters, caller)
    if not decision.is_allowed:
        raise TrustRejection(_not_authorized(caller, action, parameters), decision)
    return decision


def _not_authorized(caller: Session, action: str, parameters: Parameters, ending: str = "") -> str:
    """Return AWS's message for a denied call. `ending` names the kind of policy that denies it."""
    text = f"User: {caller.arn} is not authorized to perform: {action} on resource: {parameters['RoleArn']}"
    return f"{text} {ending}".rstrip()


def _check_session_policy(caller: Session, action: str, parameters: Parameters) -> None:
    """Raise StsRejection if the caller's session policies do not allow the action."""
    decision = evaluate(caller.session_policy, action, parameters["RoleArn"])
    if not decision.is_allowed:
        raise _denied(_not_authorized(caller, action, parameters, decision.ending), decision.reason)


def caller_identity(caller: Session) -> Tree:
    return {"Arn": caller.arn, "UserId": caller.user_id, "Account": caller.role.account_id}


def _trusts_web_identity(role: IamRole | None, parameters: Parameters, identity: WebIdentity) -> Decision:
    key, context = identity.provider.key.lower(), _request_context(parameters)
    context |= {f"{key}:aud": (identity.audience,), f"{key}:sub": (identity.subject,), f"{key}:amr": identity.amr}
    principal = Principal((identity.provider.arn,), None)
    return _evaluate(role, ASSUME_ROLE_WITH_WEB_IDENTITY, principal, context, parameters)


def _trusts_session(role: IamRole | None, action: str, parameters: Parameters, caller: Session) -> Decision:
    context = _request_context(parameters)
    context |= {"aws:principalarn": (caller.role.arn,), "aws:principalaccount": (caller.role.account_id,)}
    principal = Principal((caller.role.arn, caller.arn), caller.role.account_id)
    return _evaluate(role, action, principal, context, parameters)


def _evaluate(
    role: IamRole | None, action: str, principal: Principal, context: Context, parameters: Parameters
) -> Decision:
    if role is None:
        return Decision(is_allowed=False, reason=f"there is no role {parameters['RoleArn']}")
    decision = role.trust_policy.evaluate(action, principal, context)
    return decision._replace(reason=f"the trust policy of {role.arn}: {decision.reason}", unknown=())


def _request_context(parameters: Parameters) -> dict[str, tuple[str, ...]]:
    names = ("ExternalId", "RoleSessionName", "SourceIdentity")
    return {f"sts:{name.lower()}": (parameters[name],) for name in names if name in parameters}


def _actions(parameters: Parameters, caller: Session) -> list[str]:
    """
    Return the actions that policies must allow for the call. Tags and a source identity each need another action.

    Inherited transitive tags also need sts:TagSession, although the request does not name them (IAM User Guide,
    "Chaining roles with session tags").
    """
    extra = {
        "sts:TagSession": "Tags" in parameters or bool(caller.transitive_tags),
        "sts:SetSourceIdentity": "SourceIdentity" in parameters,
    }
    return ["sts:AssumeRole", *(action for action, is_needed in extra.items() if is_needed)]


def _source_identity(parameters: Parameters, caller: Session) -> str | None:
    """
    Return the source identity, or None. Once set, it stays the same for each later role in the chain.

    Raises StsRejection if the request would change it.
    """
    wanted: str | None = parameters.get("SourceIdentity", caller.source_identity)
    if caller.source_identity not in {None, wanted}:
        raise _denied(
            _not_authorized(caller, "sts:SetSourceIdentity", parameters),
            f"the session already has the source identity {caller.source_identity}",
        )
    return wanted


class Terms(NamedTuple):
    """The properties of a new session, except its role and credentials."""

    seconds: int
    size: SessionSize
    session_policy: SessionPolicy | None
    transitive_tags: Tags
    source_identity: str | None


def _terms(parameters: Parameters, role: IamRole, caller: Session | None) -> Terms:
    """
    Return the terms of the session for `caller`, which is None for a web identity.

    Raises StsRejection if a parameter is invalid.
    """
    arns = [item["arn"] for item in parameters.get("PolicyArns", []) if "arn" in item]
    session_policy = read_session_policy(parameters.get("Policy"), arns)
    inherited = () if caller is None else caller.transitive_tags
    transitive = {key.casefold() for key in parameters.get("TransitiveTagKeys", [])}
    new = tuple(tag for tag in tags_of(parameters) if tag[0].casefold() in transitive)
    return Terms(
        _session_seconds(parameters, role, is_chained=caller is not None),
        session_size(parameters, inherited),
        session_policy,
        (*inherited, *new),
        None if caller is None else _source_identity(parameters, caller),
    )


def _session(parameters: Parameters, role: IamRole, terms: Terms, *, now: float, random_bytes: RandomBytes) -> Session:
    session = new_session(
        role,
        parameters["RoleSessionName"],
        now=now,
        seconds=terms.seconds,
        random_bytes=random_bytes,
        token_characters=terms.size.token_bytes,
    )
    return replace(
        session,
        source_identity=terms.source_identity,
        session_policy=terms.session_policy,
        transitive_tags=terms.transitive_tags,
    )


def _session_seconds(parameters: Parameters, role: IamRole, *, is_chained: bool) -> int:
    seconds = int(parameters.get("DurationSeconds", DEFAULT_SESSION_SECONDS))
    if is_chained and seconds > MAX_CHAINED_SECONDS:
        raise validation_error(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
        )
    if seconds > role.max_session_seconds:
        raise validation_error("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    return seconds


def _session_result(session: Session, size: SessionSize, decision: Decision, members: Tree) -> SessionResult:
    credentials: Tree = {
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret_access_key,
        "SessionToken": session.session_token,
        "Expiration": instant_text(session.expires_at),
    }
    user: Tree = {"AssumedRoleId": session.user_id, "Arn": session.arn}
    sizes: Tree = {
        "PackedPolicySize": None if size.packed_percent is None else str(size.packed_percent),
        "SessionTokenSize": str(size.token_bytes),
        "SessionTokenUtilization": str(size.utilization_percent),
    }
    all_members = {"Credentials": credentials, "AssumedRoleUser": user, **sizes, **members}
    return SessionResult(session, all_members, decision)


def _check_tags(parameters: Parameters, caller: Session) -> None:
    """
    Check the tags, and reject them with messages that were recorded from AWS.

    Raises StsRejection if two keys are equal, a key conflicts with an inherited tag, or a transitive key has no tag.
    """
    keys = [tag["Key"].casefold() for tag in parameters.get("Tags", [])]
    if len(set(keys)) != len(keys):
        raise StsRejection(
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        )
    inherited = [key for key, _ in caller.transitive_tags]
    if not {key.casefold() for key in inherited}.isdisjoint(keys):
        raise StsRejection(
            "InvalidParameterValue",
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from "
            "the calling session.",
            reason=f"the session has inherited the transitive tags {', '.join(inherited)}",
        )
    for key in parameters.get("TransitiveTagKeys", []):
        if key.casefold() not in keys:
            raise StsRejection(
                "InvalidParameterValue", "The specified transitive tag key must be included in the requested tags."
            )


def _role_arn(parameters: Parameters) -> str:
    arn = str(parameters["RoleArn"])
    if not ROLE_ARN.fullmatch(arn):
        raise StsRejection("ValidationError", _arn_message(arn), reason=f"{arn} is not the ARN of an IAM role")
    return arn


def _arn_message(arn: str) -> str:
    return "Request ARN is invalid" if arn.startswith("arn:") else f"{arn} is invalid"


def _denied(message: str, reason: str) -> StsRejection:
    return StsRejection("AccessDenied", message, status=403, reason=reason)
