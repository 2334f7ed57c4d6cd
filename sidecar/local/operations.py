"""
What STS decides in each operation, once it knows who asks: whether, for how long, and what it answers. Pure.

Limits that depend on more than one parameter are here; those of a single one are in the service model
(`parameters`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.local.parameters import Parameters
from sidecar.local.refusal import StsRefusal, validation_error
from sidecar.local.roles import ROLE_ARN, Role
from sidecar.local.sessions import SESSION_TOKEN_CHARACTERS, RandomBytes, Session, new_session
from sidecar.local.sts_xml import Tree, timestamp
from sidecar.local.trust_policy import Context, Decision, Principal
from sidecar.local.web_identity import WebIdentity

DEFAULT_SESSION_SECONDS = 3600
MAX_CHAINED_SECONDS = 3600
"""A role assumed with another role's credentials (IAM User Guide, "Role chaining")."""

MAX_POLICY_CHARACTERS = 2048
"""Session policy and policy ARNs together, in plain text (AWS STS API reference)."""

Roles = Mapping[str, Role]


@dataclass(frozen=True, slots=True)
class Grant:
    """A session and what the answer says of it beside its credentials."""

    session: Session
    members: Tree


def assume_role_with_web_identity(
    parameters: Parameters, identity: WebIdentity, roles: Roles, *, now: float, random_bytes: RandomBytes
) -> Grant:
    """Give a verified web identity a session of the role that it asks for. Raises StsRefusal."""
    role = roles.get(_role_arn(parameters))
    decision = _trusts_web_identity(role, parameters, identity)
    if role is None or not decision.is_allowed:
        raise _denied("Not authorized to perform sts:AssumeRoleWithWebIdentity", decision.why)
    session = _session(parameters, role, now=now, random_bytes=random_bytes, is_chained=False, source_identity=None)
    return _grant(
        session,
        parameters,
        {
            "SubjectFromWebIdentityToken": identity.subject,
            "Provider": identity.provider.arn,
            "Audience": identity.audience,
        },
    )


def assume_role(
    parameters: Parameters, caller: Session, roles: Roles, *, now: float, random_bytes: RandomBytes
) -> Grant:
    """Give a session of another role to one that signed for it: role chaining. Raises StsRefusal."""
    _check_tags(parameters)
    arn = _role_arn(parameters)
    role = roles.get(arn)
    source_identity = _source_identity(parameters, caller)
    for action in _actions(parameters):
        decision = _trusts_session(role, action, parameters, caller)
        if role is None or not decision.is_allowed:
            raise _denied(f"User: {caller.arn} is not authorized to perform: {action} on resource: {arn}", decision.why)
    assert role is not None
    session = _session(
        parameters, role, now=now, random_bytes=random_bytes, is_chained=True, source_identity=source_identity
    )
    return _grant(session, parameters, {"SourceIdentity": source_identity})


def caller_identity(caller: Session) -> Tree:
    return {"Arn": caller.arn, "UserId": caller.user_id, "Account": caller.role.account_id}


def _trusts_web_identity(role: Role | None, parameters: Parameters, identity: WebIdentity) -> Decision:
    key, context = identity.provider.key.lower(), _request_context(parameters)
    context |= {f"{key}:aud": (identity.audience,), f"{key}:sub": (identity.subject,), f"{key}:amr": identity.amr}
    principal = Principal((identity.provider.arn,), None)
    return _evaluate(role, "sts:AssumeRoleWithWebIdentity", principal, context, parameters)


def _trusts_session(role: Role | None, action: str, parameters: Parameters, caller: Session) -> Decision:
    context = _request_context(parameters)
    context |= {"aws:principalarn": (caller.role.arn,), "aws:principalaccount": (caller.role.account_id,)}
    principal = Principal((caller.role.arn, caller.arn), caller.role.account_id)
    return _evaluate(role, action, principal, context, parameters)


def _evaluate(
    role: Role | None, action: str, principal: Principal, context: Context, parameters: Parameters
) -> Decision:
    if role is None:
        return Decision(is_allowed=False, why=f"there is no role {parameters['RoleArn']}")
    decision = role.trust_policy.evaluate(action, principal, context)
    return Decision(decision.is_allowed, f"the trust policy of {role.arn}: {decision.why}")


def _request_context(parameters: Parameters) -> dict[str, tuple[str, ...]]:
    names = ("ExternalId", "RoleSessionName", "SourceIdentity")
    return {f"sts:{name.lower()}": (parameters[name],) for name in names if name in parameters}


def _actions(parameters: Parameters) -> list[str]:
    """Tags and a source identity are permissions of their own, which the trust policy must give too."""
    extra = {"Tags": "sts:TagSession", "SourceIdentity": "sts:SetSourceIdentity"}
    return ["sts:AssumeRole", *(action for name, action in extra.items() if name in parameters)]


def _source_identity(parameters: Parameters, caller: Session) -> str | None:
    """Once set it stays through every later role, and cannot be changed."""
    wanted: str | None = parameters.get("SourceIdentity", caller.source_identity)
    if caller.source_identity not in {None, wanted}:
        raise _denied(
            f"User: {caller.arn} is not authorized to perform: sts:SetSourceIdentity on resource: "
            f"{parameters['RoleArn']}",
            f"the session already has the source identity {caller.source_identity}",
        )
    return wanted


def _session(
    parameters: Parameters,
    role: Role,
    *,
    now: float,
    random_bytes: RandomBytes,
    is_chained: bool,
    source_identity: str | None,
) -> Session:
    return new_session(
        role,
        parameters["RoleSessionName"],
        now=now,
        seconds=_session_seconds(parameters, role, is_chained=is_chained),
        random_bytes=random_bytes,
        source_identity=source_identity,
        token_characters=max(SESSION_TOKEN_CHARACTERS, int(parameters.get("MinimumSessionTokenSize", 0))),
    )


def _session_seconds(parameters: Parameters, role: Role, *, is_chained: bool) -> int:
    seconds = int(parameters.get("DurationSeconds", DEFAULT_SESSION_SECONDS))
    if is_chained and seconds > MAX_CHAINED_SECONDS:
        raise validation_error(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
        )
    if seconds > role.max_session_seconds:
        raise validation_error("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    return seconds


def _grant(session: Session, parameters: Parameters, members: Tree) -> Grant:
    credentials: Tree = {
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret_access_key,
        "SessionToken": session.session_token,
        "Expiration": timestamp(session.expires_at),
    }
    user: Tree = {"AssumedRoleId": session.user_id, "Arn": session.arn}
    packed = packed_policy_percent(parameters)
    return Grant(session, {"Credentials": credentials, "AssumedRoleUser": user, "PackedPolicySize": packed, **members})


def packed_policy_percent(parameters: Parameters) -> str | None:
    """
    How much of the packed limit the session policies take, in percent; None without any. Raises StsRefusal.

    AWS packs them in a way it does not tell; here plain characters count, so what passes here is small enough there.
    """
    policy = parameters.get("Policy")
    texts = [item["arn"] for item in parameters.get("PolicyArns", []) if "arn" in item]
    if policy is not None:
        _check_policy(policy)
        texts.append(policy)
    if not texts:
        return None
    percent = -(-100 * sum(map(len, texts)) // MAX_POLICY_CHARACTERS)
    if percent > 100:
        raise StsRefusal(
            "PackedPolicyTooLarge",
            f"Packed policy consumes {percent}% of allotted space, please use smaller policy.",
        )
    return str(percent)


def _check_policy(text: str) -> None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise StsRefusal("MalformedPolicyDocument", "This policy contains invalid Json", why=str(exc)) from exc
    if not isinstance(document, dict) or not isinstance(document.get("Statement"), (dict, list)):
        raise StsRefusal("MalformedPolicyDocument", "Syntax errors in policy.", why="there is no Statement")


def _check_tags(parameters: Parameters) -> None:
    keys = [tag["Key"].casefold() for tag in parameters.get("Tags", [])]
    if len(set(keys)) != len(keys):
        raise StsRefusal(
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        )
    for key in parameters.get("TransitiveTagKeys", []):
        if key.casefold() not in keys:
            raise StsRefusal(
                "InvalidParameterValue", "The specified transitive tag key must be included in the requested tags."
            )


def _role_arn(parameters: Parameters) -> str:
    arn = str(parameters["RoleArn"])
    if not ROLE_ARN.fullmatch(arn):
        raise StsRefusal("ValidationError", _arn_message(arn), why=f"{arn} is not the ARN of an IAM role")
    return arn


def _arn_message(arn: str) -> str:
    return "Request ARN is invalid" if arn.startswith("arn:") else f"{arn} is invalid"


def _denied(message: str, why: str) -> StsRefusal:
    return StsRefusal("AccessDenied", message, status=403, why=why)
