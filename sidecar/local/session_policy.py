"""
Read session policies, and decide which actions they allow to a session in a chain of roles. Pure.

A session may do an action that both its session policies and its role allow (IAM User Guide, "Session policies"). Roles
have no permission policies here, so a session without session policies may do everything. Rule: an element that is not
evaluated here never allows more. A condition counts as true in a Deny and as false in an Allow. If the content of a
managed policy is unknown, no action is allowed, because the policy may deny it. The log contains the reason.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sidecar.local.condition_operators import is_like
from sidecar.oidc.sts_rejection import StsRejection

_ALLOWS, _IS_SILENT = "allows", "is silent"
MANAGED_POLICIES = {
    "AdministratorAccess": _ALLOWS,
    "PowerUserAccess": _ALLOWS,
    "ReadOnlyAccess": _IS_SILENT,
    "ViewOnlyAccess": _IS_SILENT,
    "SecurityAudit": _IS_SILENT,
}
"""
The effect of AWS's managed policies whose content is known.

The effect is the same for sts:AssumeRole, sts:TagSession and sts:SetSourceIdentity.
"""

_MANAGED = re.compile(r"arn:aws[a-z-]*:iam::aws:policy/(?:[a-z-]+/)*([A-Za-z0-9_+=,.@-]+)")
_ACTION = re.compile(r"\*|[a-z0-9-]+:[a-z0-9*?]+", re.IGNORECASE)
_RESOURCE = re.compile(r"\*|arn:.+", re.DOTALL)
_VARIABLE = re.compile(r"\$\{[^}]*\}")


class Statement(NamedTuple):
    """
    One statement of a session policy.

    `names_actions` is false for NotAction, and `names_resources` is false for NotResource. Such a statement covers
    everything except the listed patterns.
    """

    label: str
    is_allow: bool
    actions: tuple[str, ...]
    names_actions: bool
    resources: tuple[str, ...]
    names_resources: bool
    has_condition: bool


class SessionPolicy(NamedTuple):
    """The session policies of one session: the statements of the inline policy, and the ARNs of managed policies."""

    statements: tuple[Statement, ...]
    arns: tuple[str, ...]


class PolicyDecision(NamedTuple):
    """The session policies' decision about an action. `ending` is the last part of AWS's message for a denial."""

    is_allowed: bool
    reason: str
    ending: str = ""


def read_session_policy(text: str | None, arns: Iterable[str]) -> SessionPolicy | None:
    """
    Return the session policies in a request, or None if there are none.

    Raises StsRejection if a policy is malformed.
    """
    managed = tuple(arns)
    if text is None:
        return SessionPolicy((), managed) if managed else None
    document = _document(text)
    items = document.get("Statement")
    statements = [items] if isinstance(items, dict) else items
    if not isinstance(statements, list):
        raise _malformed("Syntax errors in policy.", "there is no Statement")
    return SessionPolicy(tuple(_statement(item, index) for index, item in enumerate(statements, 1)), managed)


def evaluate(policy: SessionPolicy | None, action: str, resource: str) -> PolicyDecision:
    """Return the decision about `action`, such as `sts:AssumeRole`, on the role whose ARN is `resource`."""
    if policy is None:
        return PolicyDecision(is_allowed=True, reason="the session has no session policy")
    covering = [statement for statement in policy.statements if _covers(statement, action, resource)]
    for statement in covering:
        if not statement.is_allow:
            condition = ", if its condition is met, which is not evaluated here" if statement.has_condition else ""
            return PolicyDecision(
                is_allowed=False,
                reason=f"{statement.label} of the session policy denies it{condition}",
                ending="with an explicit deny in a session policy",
            )
    return _allowed(policy, covering, action)


def _allowed(policy: SessionPolicy, covering: list[Statement], action: str) -> PolicyDecision:
    """Return the decision if no statement denies the action."""
    ending = f"because no session policy allows the {action} action"
    unknown = [arn for arn in policy.arns if _managed(arn) is None]
    if unknown:
        reason = f"the content of {', '.join(unknown)} is not known here, so it allows nothing and may deny"
        return PolicyDecision(is_allowed=False, reason=reason, ending=ending)
    plain = [statement.label for statement in covering if not statement.has_condition]
    plain += [arn for arn in policy.arns if _managed(arn) == _ALLOWS]
    if plain:
        return PolicyDecision(is_allowed=True, reason=f"{plain[0]} of the session policies allows it")
    conditional = [statement.label for statement in covering]
    reason = (
        f"{', '.join(conditional)} has a condition, which is not evaluated here" if conditional else "none allows it"
    )
    return PolicyDecision(is_allowed=False, reason=f"the session policies: {reason}", ending=ending)


def _managed(arn: str) -> str | None:
    match = _MANAGED.fullmatch(arn)
    return MANAGED_POLICIES.get(match[1]) if match else None


def _covers(statement: Statement, action: str, resource: str) -> bool:
    """
    Return whether the statement applies to the action and the resource.

    A variable in a Resource matches any text in a Deny, and no text in an Allow. In a NotResource, it is the opposite.
    """
    is_action = any(is_like(action.lower(), pattern.lower()) for pattern in statement.actions)
    widens = statement.is_allow is not statement.names_resources
    patterns = [_VARIABLE.sub("*", text) if widens else text for text in statement.resources]
    is_resource = any(is_like(resource, pattern) for pattern in patterns)
    return is_action is statement.names_actions and is_resource is statement.names_resources


def _document(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as exc:
        raise _malformed("This policy contains invalid Json", str(exc)) from exc
    if not isinstance(document, dict):
        raise _malformed("Syntax errors in policy.", "it is not a JSON object")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """
    Return the object.

    Raises StsRejection for duplicate members, because the second one would hide the first, which may be a Deny.
    """
    document = dict(pairs)
    if len(document) != len(pairs):
        raise _malformed("Syntax errors in policy.", "a member appears twice in one object")
    return document


def _statement(item: Any, index: int) -> Statement:
    if not isinstance(item, dict):
        raise _malformed("Syntax errors in policy.", f"Statement {index} is not an object")
    label = f"Statement {item.get('Sid') or index}"
    if item.get("Effect") not in ("Allow", "Deny"):
        raise _malformed("Syntax errors in policy.", f"{label} has neither the Effect Allow nor Deny")
    if "Principal" in item or "NotPrincipal" in item:
        raise _malformed("Policy document should not specify a principal.", label)
    names_actions, actions = _texts(item, "Action", "Policy statement must contain actions.", label)
    names_resources, resources = _texts(item, "Resource", "Policy statement must contain resources.", label)
    for text in actions:
        if not _ACTION.fullmatch(text):
            raise _malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.", label)
    for text in resources:
        if not _RESOURCE.fullmatch(text):
            raise _malformed(f'Resource {text} must be in ARN format or "*".', label)
    has_condition = bool(item.get("Condition"))
    is_allow = item["Effect"] == "Allow"
    return Statement(label, is_allow, actions, names_actions, resources, names_resources, has_condition)


def _texts(item: Mapping[str, Any], element: str, missing: str, label: str) -> tuple[bool, tuple[str, ...]]:
    """
    Return True for the element or False for its Not form, and the element's texts.

    Raises StsRejection if neither or both are present, or if a text is invalid.
    """
    present = [name for name in (element, f"Not{element}") if name in item]
    if len(present) != 1:
        raise _malformed("Syntax errors in policy." if present else missing, f"{label} has {present or 'none'}")
    value = item[present[0]]
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise _malformed("Syntax errors in policy.", f"{present[0]} of {label} is not a string or a list of strings")
    return present[0] == element, tuple(texts)


def _malformed(message: str, reason: str) -> StsRejection:
    return StsRejection("MalformedPolicyDocument", message, reason=f"the session policy: {reason}")
