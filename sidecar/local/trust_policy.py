"""
Read a role's trust policy, and decide who may assume the role. Pure.

Rule: an explicit Deny overrides every Allow, and without an Allow the call is denied. A policy that IAM does not accept
is an error when it is read. IAM accepts more elements than this evaluator can evaluate, such as a condition on the
caller's IP address. A statement with such an element is unknown. Statements that do not match a call are ignored before
their conditions are evaluated. If a decision depends on an unknown statement, the call is denied with a reason, so
nothing is allowed by mistake. Grammar and evaluation follow the IAM User Guide ("Grammar of the IAM JSON policy
language", "Condition operators", "Creating a condition with multiple keys or values").
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.local.condition_operators import OPERATORS, OTHER_OPERATORS, QUANTIFIERS, is_like
from sidecar.local.conditions import ComparedStatement, Condition, Context, compare, complaint, is_met
from sidecar.local.shown_value import shown

ASSUME_ROLE_WITH_WEB_IDENTITY = "sts:AssumeRoleWithWebIdentity"
"""The action that assumes a role with a token from an OIDC provider."""

DEFAULT_POLICY_CHARACTERS, MAX_POLICY_CHARACTERS = 2048, 8192
"""IAM's default quota for a trust policy, in characters without white space, and its highest value (May 2026)."""


class Principal(NamedTuple):
    """The caller: the names that a policy may use for the caller, and its account. Messages show the first name."""

    names: tuple[str, ...]
    account_id: str | None


class Decision(NamedTuple):
    """
    A decision about one call. `reason` is the complete reason for the operator. The caller never sees it.

    `unknown` lists the statements that decide the result but cannot be evaluated, each with its reason. `compared`
    contains each statement whose action and principal match the call, with the results of its conditions. `assumed` are
    the conditions that were assumed to be true for this result, or None.
    """

    is_allowed: bool
    reason: str
    unknown: tuple[str, ...] = ()
    compared: tuple[ComparedStatement, ...] = ()
    assumed: str | None = None


class Statement(NamedTuple):
    """
    One statement. `names_actions` is false for NotAction, which covers every action except `actions`.

    `unknown` is the reason why the statement cannot be evaluated here, or None. `assumed` are the conditions that are
    assumed to be true (readable_policy.py), or None.
    """

    label: str
    is_allow: bool
    principals: frozenset[str]
    actions: tuple[str, ...]
    conditions: tuple[Condition, ...]
    names_actions: bool = True
    unknown: str | None = None
    assumed: str | None = None


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """A policy that IAM accepts. Some of its statements may not be evaluated here."""

    statements: tuple[Statement, ...]

    def evaluate(self, action: str, principal: Principal, context: Context) -> Decision:
        """Return the decision whether `principal` may do `action`, such as `sts:AssumeRole`, in this context."""
        mismatches = {statement: _mismatch(statement, action, principal) for statement in self.statements}
        matching = [statement for statement, reason in mismatches.items() if reason is None]
        compared = tuple(_compared(statement, context) for statement in matching)
        return _decision(mismatches, {s: _unmet_condition(s, context) for s in matching})._replace(compared=compared)

    def allowing(self, action: str, principal: Principal, context: Context) -> tuple[Statement, ...]:
        """Return each Allow statement that can be evaluated and that applies to this call."""
        concerned = [each for each in _known(list(self.statements)) if _mismatch(each, action, principal) is None]
        return tuple(each for each in concerned if each.is_allow and _unmet_condition(each, context) is None)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The statements that cannot be evaluated completely, each with its reason."""
        return tuple(f"{statement.label}: {statement.unknown}" for statement in self.statements if statement.unknown)


def _decision(mismatches: Mapping[Statement, str | None], unmet: Mapping[Statement, str | None]) -> Decision:
    """
    Return the decision about a call.

    `mismatches` has the mismatch of each statement with the call, or None. `unmet` has the first false condition, or
    None, of each statement that matches the call.
    """
    applying = [statement for statement, reason in unmet.items() if reason is None]
    denies, allows = ([s for s in applying if s.is_allow is is_allow] for is_allow in (False, True))
    if not allows or (denies and _known(denies)):
        reasons = (unmet if any(s.is_allow for s in unmet) else mismatches).items()
        return _denial(_known(denies), [f"{s.label}: {reason}" for s, reason in reasons if s.is_allow and reason])
    if not denies and _known(allows):
        return _permission(_known(allows))
    unknown = tuple(f"{statement.label}: {statement.unknown}" for statement in denies or allows)
    return Decision(is_allowed=False, reason=f"it cannot be evaluated here: {'; '.join(unknown)}", unknown=unknown)


def _permission(allows: list[Statement]) -> Decision:
    """Return the decision of the first statement without an assumption, or else of the first statement."""
    statement = next((each for each in allows if each.assumed is None), allows[0])
    condition = "" if statement.assumed is None else f" if {statement.assumed}"
    return Decision(is_allowed=True, reason=f"{statement.label} allows it{condition}", assumed=statement.assumed)


def _known(statements: list[Statement]) -> list[Statement]:
    return [statement for statement in statements if statement.unknown is None]


def _denial(denies: list[Statement], objections: list[str]) -> Decision:
    reason = f"{denies[0].label} denies it" if denies else "; ".join(objections) or "no statement allows anything"
    return Decision(is_allowed=False, reason=reason)


_KEYS = re.compile(
    r".+:(aud|sub|amr)|sts:(externalid|rolesessionname|sourceidentity)|aws:(principalarn|principalaccount)"
)
"""The condition keys that a request can have here, in lower case because IAM ignores the case of keys."""

_STATEMENT_ELEMENTS = {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Condition"}
_VERSIONS = ("2012-10-17", "2008-10-17")
_PRINCIPALS = {
    "AWS": re.compile(r"\*|[0-9]{12}|A[A-Z0-9]{15,127}|arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:(root|[a-z-]+/[^*?]+)"),
    "Federated": re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:(oidc|saml)-provider/[^*?]+|[a-z0-9.-]+\.[a-z]+"),
    "Service": re.compile(r"[a-z0-9.-]+"),
}
"""Patterns for the principals that IAM accepts, by type. Services, and deleted principals (unique IDs), never call."""

_ACTION = re.compile(r"\*|sts:[a-z*?]+", re.IGNORECASE)


def parse_policy(document: Any, name: str) -> TrustPolicy:
    """
    Read a parsed JSON or YAML document as a policy. `name` is the policy's name in messages.

    Raises ConfigurationError if the policy is invalid. The error names the element, its value and the accepted values.
    """
    _require_mapping(document, name)
    _reject_unknown_keys(document, {"Version", "Id", "Statement"}, name)
    version = document.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        raise ConfigurationError(
            f"{name}: Version is {shown(version)}, which is not supported", fix='Write "2012-10-17"', setting=name
        )
    _check_size(document, name)
    statements = as_list(document.get("Statement"))
    if not statements:
        raise ConfigurationError(
            f"{name}: there is no Statement, so no caller could assume the role", fix="Add one", setting=name
        )
    return TrustPolicy(tuple(read_statement(item, index, name) for index, item in enumerate(statements, 1)))


def default_policy(provider_arn: str, issuer_key: str, *, subject: str, audience: str) -> dict[str, Any]:
    """Return the trust policy in AWS's IRSA guide, for one provider, one service account and one audience."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider_arn},
                "Action": ASSUME_ROLE_WITH_WEB_IDENTITY,
                "Condition": {"StringEquals": {f"{issuer_key}:sub": subject, f"{issuer_key}:aud": audience}},
            }
        ],
    }


def _mismatch(statement: Statement, action: str, principal: Principal) -> str | None:
    """Return the reason why the call's action or principal does not match the statement, or None if it matches."""
    is_named = any(is_like(action.lower(), pattern.lower()) for pattern in statement.actions)
    if is_named is not statement.names_actions:
        actions = ", ".join(statement.actions)
        return f"Action is {actions}, not {action}" if statement.names_actions else f"NotAction is {actions}"
    if not _is_principal(statement.principals, principal):
        return f"Principal is {', '.join(sorted(statement.principals))}, not {principal.names[0]}"
    return None


def _unmet_condition(statement: Statement, context: Context) -> str | None:
    """Return the reason why a condition is not true for the request, or None if all known conditions are true."""
    return next((complaint(c, context) for c in statement.conditions if not is_met(c, context)), None)


def _compared(statement: Statement, context: Context) -> ComparedStatement:
    comparisons = tuple(compare(condition, context) for condition in statement.conditions)
    return ComparedStatement(statement.label, statement.is_allow, comparisons, statement.unknown)


def _is_principal(wanted: frozenset[str], principal: Principal) -> bool:
    """
    Return whether the statement's principals include this principal.

    An account includes all its principals. The account's own policies are not evaluated here.
    """
    account = principal.account_id
    names = {"*", *principal.names}
    if account:
        names |= {account, *(name for name in wanted if re.fullmatch(rf"arn:aws[a-z-]*:iam::{account}:root", name))}
    return not names.isdisjoint(wanted)


def read_statement(item: Any, index: int, policy: str) -> Statement:
    """
    Read the statement at `index` of the policy with the name `policy`.

    Raises ConfigurationError if the statement is invalid.
    """
    _require_mapping(item, f"{policy}: Statement {index}")
    label = statement_label(item, index)
    name = f"{policy}: {label}"
    _reject_unknown_keys(item, _STATEMENT_ELEMENTS, name)
    if item.get("Effect") not in ("Allow", "Deny"):
        raise ConfigurationError(
            f"{name}: Effect is {shown(item.get('Effect'))}, which is not valid",
            fix="Write Allow or Deny",
            setting=name,
        )
    action, principal = (_one_of(item, wanted, name) for wanted in ("Action", "Principal"))
    principals = frozenset(_principals(item.get(principal), f"{name}: {principal}"))
    conditions = [*_conditions(item.get("Condition", {}), name)]
    unknown = [condition for condition in conditions if isinstance(condition, str)]
    if principal == "NotPrincipal":
        unknown.insert(0, "NotPrincipal is not evaluated here")
        principals = frozenset({"*"})
    return Statement(
        label=label,
        is_allow=item["Effect"] == "Allow",
        principals=principals,
        actions=_matching(_ACTION, item.get(action), f"{name}: {action}", "an action of STS, such as sts:AssumeRole"),
        conditions=tuple(condition for condition in conditions if isinstance(condition, Condition)),
        names_actions=action == "Action",
        unknown="; ".join(unknown) or None,
    )


def statement_label(item: Any, index: int) -> str:
    sid = item.get("Sid") if isinstance(item, Mapping) else None
    return f"Statement {sid or index}"


def _one_of(item: Mapping[str, Any], element: str, name: str) -> str:
    """
    Return `element`, or its Not form if the statement uses that.

    Raises ConfigurationError if it uses both.
    """
    if f"Not{element}" not in item:
        return element
    if element in item:
        raise ConfigurationError(
            f"{name}: it has {element} and Not{element}", fix="Remove one of the two", setting=name
        )
    return f"Not{element}"


def _principals(principal: Any, name: str) -> Iterable[str]:
    if principal == "*":  # the User Guide defines this as equal to {"AWS": "*"}
        return ["*"]
    _require_mapping(principal, name)
    _reject_unknown_keys(principal, set(_PRINCIPALS), name)
    return [
        text
        for kind, texts in principal.items()
        for text in _matching(_PRINCIPALS[kind], texts, f"{name} {kind}", "a complete ARN or account id")
    ]


def _conditions(block: Any, name: str) -> Iterable[Condition | str]:
    """Yield each condition, or the reason why it is not evaluated here."""
    _require_mapping(block, f"{name}: Condition")
    for text, keys in block.items():
        _require_mapping(keys, f"{name}: Condition {text}")
        for key, wanted in keys.items():
            yield _condition(text, key, _strings(wanted, f"{name}: Condition {text} {key}"), name)


def _condition(text: str, key: str, wanted: tuple[str, ...], name: str) -> Condition | str:
    quantifier, _, rest = text.rpartition(":")
    is_optional = rest.endswith("IfExists")
    operator = OPERATORS.get(rest.removesuffix("IfExists"))
    if operator is None and OTHER_OPERATORS.fullmatch(rest) and quantifier in ("", *QUANTIFIERS):
        return f"the condition operator {text} is not evaluated here"
    if operator is None or (quantifier and quantifier not in QUANTIFIERS):
        raise ConfigurationError(
            f"{name}: the condition operator {shown(text)} is not one of IAM's",
            fix=f"Use {', '.join(OPERATORS)}. Optional: IfExists after it, {': or '.join(QUANTIFIERS)}: before it",
            setting=name,
        )
    if not _KEYS.fullmatch(key.lower()):
        return f"the condition key {key} is not evaluated here"
    if any("${" in value for value in wanted):
        return f"the condition {text} {key} has a policy variable, which is not evaluated here"
    return Condition(text, operator, quantifier or None, is_optional, key, wanted)


def _check_size(document: Any, name: str) -> None:
    try:
        size = len(json.dumps(document, separators=(",", ":"), ensure_ascii=False))
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigurationError(
            f"{name} has a value that JSON does not have ({exc})", fix="Put it in quotes", setting=name
        ) from exc
    if size > MAX_POLICY_CHARACTERS:
        raise ConfigurationError(
            f"{name} has {size} characters: IAM accepts {DEFAULT_POLICY_CHARACTERS}, and {MAX_POLICY_CHARACTERS} at "
            "most with a raised quota",
            fix="Shorten it",
            setting=name,
        )


def _require_mapping(value: Any, name: str) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(
            f"{name} is {shown(value)}, which is not a mapping", fix="Write names with values", setting=name
        )


def _reject_unknown_keys(mapping: Mapping[str, Any], known: set[str], name: str) -> None:
    for key in mapping:
        if key not in known:
            raise ConfigurationError(
                f"{name}: {shown(key)} is not supported here", fix=f"Use {', '.join(sorted(known))}", setting=name
            )


def _strings(value: Any, name: str) -> tuple[str, ...]:
    items = as_list(value)
    if not items or not all(isinstance(item, str) and item for item in items):
        raise ConfigurationError(
            f"{name} is {shown(value)}, which is not a string",
            fix="Use a string or a list of strings, and quote numbers",
            setting=name,
        )
    return tuple(items)


def _matching(pattern: re.Pattern[str], value: Any, name: str, wanted: str) -> tuple[str, ...]:
    texts = _strings(value, name)
    for text in texts:
        if not pattern.fullmatch(text):
            raise ConfigurationError(f"{name} is {shown(text)}, which is not valid", fix=f"Use {wanted}", setting=name)
    return texts


def as_list(value: Any) -> list[Any]:
    """Return a policy's value as a list. The value may be one item or a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
