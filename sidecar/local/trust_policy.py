"""
A role's trust policy: read once, strictly, then asked who may assume the role. Pure.

Rule: an explicit Deny wins, then any Allow, else no. Whatever this evaluator does not know is an error when the
policy is read, never a condition passed over: a policy that is accepted means here what it means to IAM. The grammar
and the evaluation are those of the IAM User Guide ("Grammar of the IAM JSON policy language", "Condition operators",
"Creating a condition with multiple keys or values").
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError

MAX_POLICY_CHARACTERS = 4096
"""IAM's quota is 2,048 characters without white space, and may be raised to this."""

Context = Mapping[str, tuple[str, ...]]
"""What is known of a request: condition keys in lower case to their values. A key without a value is not there."""


class Principal(NamedTuple):
    """Who asks: the names that a policy may know them by, most telling first, and their account."""

    names: tuple[str, ...]
    account_id: str | None


class Decision(NamedTuple):
    """`why` says in full what decided, for the person who runs this and never for the caller."""

    is_allowed: bool
    why: str


class Condition(NamedTuple):
    """One operator on one key. `text` is the operator as it was written."""

    text: str
    operator: "Operator"
    quantifier: str | None
    is_optional: bool
    key: str
    wanted: tuple[str, ...]


class Statement(NamedTuple):
    label: str
    is_allow: bool
    principals: frozenset[str]
    actions: tuple[str, ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """A policy that was read and understood whole."""

    statements: tuple[Statement, ...]

    def evaluate(self, action: str, principal: Principal, context: Context) -> Decision:
        """Whether `principal` may do `action` (`sts:AssumeRole`…) to the role, in a request of this context."""
        verdicts = [(statement, _objection(statement, action, principal, context)) for statement in self.statements]
        for is_allow in (False, True):
            for statement, objection in verdicts:
                if statement.is_allow is is_allow and objection is None:
                    return Decision(is_allow, f"{statement.label} {'allows' if is_allow else 'denies'} it")
        objections = [f"{s.label}: {objection}" for s, objection in verdicts if s.is_allow]
        return Decision(is_allowed=False, why="; ".join(objections) or "no statement allows anything")


class Operator(NamedTuple):
    """How a value of the request is held to one of the policy; a negated one wants no match at all."""

    matches: Callable[[str, str], bool]
    is_negated: bool


def _equals(value: str, wanted: str) -> bool:
    return value == wanted


def _equals_ignoring_case(value: str, wanted: str) -> bool:
    return value.casefold() == wanted.casefold()


def _is_like(value: str, wanted: str) -> bool:
    """`*` stands for any characters and `?` for one; there is no escape, and case counts."""
    pattern = "".join({"*": ".*", "?": "."}.get(character) or re.escape(character) for character in wanted)
    return re.fullmatch(pattern, value, re.DOTALL) is not None


OPERATORS = {
    "StringEquals": Operator(_equals, is_negated=False),
    "StringNotEquals": Operator(_equals, is_negated=True),
    "StringEqualsIgnoreCase": Operator(_equals_ignoring_case, is_negated=False),
    "StringNotEqualsIgnoreCase": Operator(_equals_ignoring_case, is_negated=True),
    "StringLike": Operator(_is_like, is_negated=False),
    "StringNotLike": Operator(_is_like, is_negated=True),
}
QUANTIFIERS = ("ForAnyValue", "ForAllValues")

_KEYS = re.compile(
    r".+:(aud|sub|amr)|sts:(externalid|rolesessionname|sourceidentity)|aws:(principalarn|principalaccount)"
)
"""The condition keys that a request here can have, in lower case, which is how IAM compares them."""

_STATEMENT_ELEMENTS = {"Sid", "Effect", "Principal", "Action", "Condition"}
_VERSIONS = ("2012-10-17", "2008-10-17")
_PRINCIPALS = {
    "AWS": re.compile(r"\*|[0-9]{12}|arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:(root|[a-z-]+/[^*?]+)"),
    "Federated": re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:(oidc|saml)-provider/[^*?]+|[a-z0-9.-]+\.[a-z]+"),
    "Service": re.compile(r"[a-z0-9.-]+"),
}
"""What IAM takes as a principal of each kind; a service is accepted, and is nobody here."""
_ACTION = re.compile(r"\*|sts:[a-z*?]+", re.IGNORECASE)


def parse_policy(document: Any, name: str) -> TrustPolicy:
    """
    Read a policy as JSON or YAML gave it. `name` says in messages whose it is.

    Raises ConfigurationError that names the element, its value and what is allowed there.
    """
    _require_mapping(document, name)
    _refuse_others(document, {"Version", "Id", "Statement"}, name)
    version = document.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        raise ConfigurationError(f'{name}: Version is {version!r}: write "2012-10-17".')
    _check_size(document, name)
    statements = _as_list(document.get("Statement"))
    if not statements:
        raise ConfigurationError(f"{name}: there is no Statement, so nobody could assume the role: add one.")
    return TrustPolicy(tuple(_statement(item, index, name) for index, item in enumerate(statements, 1)))


def default_policy(provider_arn: str, issuer_key: str, *, subject: str, audience: str) -> dict[str, Any]:
    """The trust policy of AWS's own IRSA guide: this provider, this service account, this audience."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider_arn},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": {f"{issuer_key}:sub": subject, f"{issuer_key}:aud": audience}},
            }
        ],
    }


def _objection(statement: Statement, action: str, principal: Principal, context: Context) -> str | None:
    """The first thing about the statement that does not fit the request; None when everything does."""
    if not any(_is_like(action.lower(), pattern.lower()) for pattern in statement.actions):
        return f"Action is {', '.join(statement.actions)}, not {action}"
    if not _is_principal(statement.principals, principal):
        return f"Principal is {', '.join(sorted(statement.principals))}, not {principal.names[0]}"
    return next((_complaint(c, context) for c in statement.conditions if not _is_met(c, context)), None)


def _is_principal(wanted: frozenset[str], principal: Principal) -> bool:
    """An account stands for everybody in it: what its own policies allow them is not looked at here."""
    account = principal.account_id
    names = {"*", *principal.names}
    if account:
        names |= {account, *(name for name in wanted if re.fullmatch(rf"arn:aws[a-z-]*:iam::{account}:root", name))}
    return not names.isdisjoint(wanted)


def _is_met(condition: Condition, context: Context) -> bool:
    """
    A key that the request lacks fails a plain operator and meets a negated one, `…IfExists` and `ForAllValues`.

    With several values (`amr`) a plain operator asks for any match, a negated one for none.
    """
    values = context.get(condition.key.lower(), ())
    match, is_negated = condition.operator
    if not values:
        return (
            condition.is_optional or condition.quantifier == "ForAllValues" or (is_negated and not condition.quantifier)
        )
    fits = [any(match(value, wanted) for wanted in condition.wanted) is not is_negated for value in values]
    needs_all = condition.quantifier == "ForAllValues" or (is_negated and not condition.quantifier)
    return all(fits) if needs_all else any(fits)


def _complaint(condition: Condition, context: Context) -> str:
    values = context.get(condition.key.lower(), ())
    has = " and ".join(values) if values else "none"
    return f"Condition {condition.text} {condition.key} wants {' or '.join(condition.wanted)}, the request has {has}"


def _statement(item: Any, index: int, policy: str) -> Statement:
    _require_mapping(item, f"{policy}: Statement {index}")
    label = f"Statement {item.get('Sid', index)}"
    name = f"{policy}: {label}"
    _refuse_others(item, _STATEMENT_ELEMENTS, name)
    if item.get("Effect") not in ("Allow", "Deny"):
        raise ConfigurationError(f"{name}: Effect is {item.get('Effect')!r}: write Allow or Deny.")
    return Statement(
        label=label,
        is_allow=item["Effect"] == "Allow",
        principals=frozenset(_principals(item.get("Principal"), name)),
        actions=_matching(_ACTION, item.get("Action"), f"{name}: Action", "an action of STS, as sts:AssumeRole"),
        conditions=tuple(_conditions(item.get("Condition", {}), name)),
    )


def _principals(principal: Any, name: str) -> Iterable[str]:
    if principal == "*":  # the User Guide has it equal to {"AWS": "*"}
        return ["*"]
    _require_mapping(principal, f"{name}: Principal")
    _refuse_others(principal, set(_PRINCIPALS), f"{name}: Principal")
    return [
        text
        for kind, texts in principal.items()
        for text in _matching(_PRINCIPALS[kind], texts, f"{name}: Principal {kind}", "an ARN or account id, whole")
    ]


def _conditions(block: Any, name: str) -> Iterable[Condition]:
    _require_mapping(block, f"{name}: Condition")
    for text, keys in block.items():
        _require_mapping(keys, f"{name}: Condition {text}")
        for key, wanted in keys.items():
            yield _condition(text, key, _strings(wanted, f"{name}: Condition {text} {key}"), name)


def _condition(text: str, key: str, wanted: tuple[str, ...], name: str) -> Condition:
    quantifier, _, rest = text.rpartition(":")
    is_optional = rest.endswith("IfExists")
    operator = OPERATORS.get(rest.removesuffix("IfExists"))
    if operator is None or (quantifier and quantifier not in QUANTIFIERS):
        raise ConfigurationError(
            f"{name}: the condition operator {text!r} is not supported: use {', '.join(OPERATORS)}, with IfExists "
            f"behind or {' or '.join(QUANTIFIERS)} before it."
        )
    if not _KEYS.fullmatch(key.lower()):
        raise ConfigurationError(
            f"{name}: the condition key {key!r} is not supported: use the issuer's :aud, :sub or :amr, sts:ExternalId, "
            "sts:RoleSessionName, sts:SourceIdentity, aws:PrincipalArn or aws:PrincipalAccount."
        )
    if any("${" in value for value in wanted):
        raise ConfigurationError(f"{name}: Condition {text} {key} holds a policy variable, which is not supported.")
    return Condition(text, operator, quantifier or None, is_optional, key, wanted)


def _check_size(document: Any, name: str) -> None:
    try:
        size = len(json.dumps(document, separators=(",", ":"), ensure_ascii=False))
    except TypeError as exc:
        raise ConfigurationError(f"{name} holds a value that JSON has not ({exc}): put it in quotes.") from exc
    if size > MAX_POLICY_CHARACTERS:
        raise ConfigurationError(
            f"{name} has {size} characters: IAM takes 2,048, and {MAX_POLICY_CHARACTERS} at most with a raised quota."
        )


def _require_mapping(value: Any, name: str) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"{name} is {value!r}: it must be a mapping of names to values.")


def _refuse_others(mapping: Mapping[str, Any], known: set[str], name: str) -> None:
    for key in mapping:
        if key not in known:
            raise ConfigurationError(f"{name}: {key!r} is not supported here: use {', '.join(sorted(known))}.")


def _strings(value: Any, name: str) -> tuple[str, ...]:
    items = _as_list(value)
    if not items or not all(isinstance(item, str) and item for item in items):
        raise ConfigurationError(f"{name} is {value!r}: it must be text or a list of texts (quote numbers).")
    return tuple(items)


def _matching(pattern: re.Pattern[str], value: Any, name: str, wanted: str) -> tuple[str, ...]:
    texts = _strings(value, name)
    for text in texts:
        if not pattern.fullmatch(text):
            raise ConfigurationError(f"{name} is {text!r}: give {wanted}.")
    return texts


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
