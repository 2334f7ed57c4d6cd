"""Test the trust policy evaluator against the rules in IAM's documentation."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.local.condition_operators import OPERATORS, is_like
from sidecar.local.trust_policy import Principal, TrustPolicy, default_policy, parse_policy

ACCOUNT = "111122223333"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.test/id/A"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/app"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/app/app-0"
WEB_IDENTITY, ASSUME = "sts:AssumeRoleWithWebIdentity", "sts:AssumeRole"

TOKEN = Principal((PROVIDER,), None)
CALLER = Principal((ROLE, SESSION), ACCOUNT)
CONTEXT = {
    "oidc.test/id/a:aud": ("sts.amazonaws.com",),
    "oidc.test/id/a:sub": ("system:serviceaccount:shop:cart",),
    "oidc.test/id/a:amr": ("pwd", "mfa"),
    "sts:rolesessionname": ("cart-0",),
}


def policy(*statements: dict[str, Any]) -> TrustPolicy:
    return parse_policy({"Version": "2012-10-17", "Statement": list(statements)}, "the trust policy of cart")


def statement(condition: Any = None, **changes: Any) -> dict[str, Any]:
    plain = {"Effect": "Allow", "Principal": {"Federated": PROVIDER}, "Action": WEB_IDENTITY}
    return plain | ({"Condition": condition} if condition is not None else {}) | changes


def without(element: str, **changes: Any) -> dict[str, Any]:
    """Return the plain statement without this element, and with these changes."""
    return {name: value for name, value in statement().items() if name != element} | changes


def is_met(operator: str, key: str, wanted: Any) -> bool:
    return policy(statement({operator: {key: wanted}})).evaluate(WEB_IDENTITY, TOKEN, CONTEXT).is_allowed


def test_default_policy_allows_only_its_service_account() -> None:
    read = parse_policy(
        default_policy(
            PROVIDER, "oidc.test/id/A", subject="system:serviceaccount:shop:cart", audience="sts.amazonaws.com"
        ),
        "default",
    )
    assert read.evaluate(WEB_IDENTITY, TOKEN, CONTEXT).is_allowed
    other = CONTEXT | {"oidc.test/id/a:sub": ("system:serviceaccount:shop:till",)}
    decision = read.evaluate(WEB_IDENTITY, TOKEN, other)
    assert not decision.is_allowed
    assert decision.reason == (
        "Statement 1: Condition StringEquals oidc.test/id/A:sub wants system:serviceaccount:shop:cart, "
        "the request has system:serviceaccount:shop:till"
    )


@pytest.mark.parametrize(
    ("operator", "key", "wanted", "expected"),
    [
        ("StringEquals", "oidc.test/id/A:sub", "system:serviceaccount:shop:cart", True),
        ("StringEquals", "OIDC.test/ID/a:SUB", "system:serviceaccount:shop:cart", True),
        ("StringEquals", "oidc.test/id/A:sub", ["x", "system:serviceaccount:shop:cart"], True),
        ("StringEquals", "oidc.test/id/A:sub", "System:serviceaccount:shop:cart", False),
        ("StringEquals", "oidc.test/id/A:sub", "system:serviceaccount:shop:*", False),
        ("StringEquals", "oidc.test/id/B:sub", "system:serviceaccount:shop:cart", False),
        ("StringEqualsIgnoreCase", "oidc.test/id/A:sub", "System:ServiceAccount:shop:cart", True),
        ("StringNotEqualsIgnoreCase", "oidc.test/id/A:sub", "System:ServiceAccount:shop:cart", False),
        ("StringNotEquals", "oidc.test/id/A:sub", "system:serviceaccount:shop:till", True),
        ("StringNotEquals", "oidc.test/id/A:sub", ["x", "system:serviceaccount:shop:cart"], False),
        ("StringLike", "oidc.test/id/A:sub", "system:serviceaccount:shop:*", True),
        ("StringLike", "oidc.test/id/A:sub", "system:serviceaccount:sho?:cart", True),
        ("StringLike", "oidc.test/id/A:sub", "system:serviceaccount:sho??:cart", False),
        ("StringLike", "oidc.test/id/A:sub", "system.serviceaccount.shop.cart", False),
        ("StringNotLike", "oidc.test/id/A:sub", "system:serviceaccount:shop:*", False),
        ("StringNotLike", "oidc.test/id/A:sub", "system:serviceaccount:till:*", True),
        # a key that is missing from the request
        ("StringEquals", "sts:ExternalId", "x", False),
        ("StringLike", "sts:ExternalId", "*", False),
        ("StringNotEquals", "sts:ExternalId", "x", True),
        ("StringNotLike", "sts:ExternalId", "*", True),
        ("StringEqualsIfExists", "sts:ExternalId", "x", True),
        ("StringEqualsIfExists", "sts:RoleSessionName", "x", False),
        ("ForAnyValue:StringEquals", "sts:ExternalId", "x", False),
        ("ForAnyValue:StringNotEquals", "sts:ExternalId", "x", False),
        ("ForAllValues:StringEquals", "sts:ExternalId", "x", True),
        ("ForAnyValue:StringEqualsIfExists", "sts:ExternalId", "x", True),
        # a key with several values
        ("ForAnyValue:StringEquals", "oidc.test/id/A:amr", "mfa", True),
        ("ForAnyValue:StringEquals", "oidc.test/id/A:amr", "otp", False),
        ("ForAllValues:StringEquals", "oidc.test/id/A:amr", ["mfa", "pwd", "otp"], True),
        ("ForAllValues:StringEquals", "oidc.test/id/A:amr", "mfa", False),
        ("ForAllValues:StringNotEquals", "oidc.test/id/A:amr", "mfa", False),
        ("ForAllValues:StringNotEquals", "oidc.test/id/A:amr", "otp", True),
        ("ForAnyValue:StringNotEquals", "oidc.test/id/A:amr", "mfa", True),
        ("ForAnyValue:StringLike", "oidc.test/id/A:amr", "m*", True),
    ],
)
def test_condition_operators_follow_the_rules_of_iam(operator: str, key: str, wanted: Any, *, expected: bool) -> None:
    assert is_met(operator, key, wanted) is expected


def test_all_conditions_of_a_statement_must_be_true() -> None:
    good = {"oidc.test/id/A:aud": "sts.amazonaws.com"}
    read = policy(
        statement({"StringEquals": good, "StringLike": {"oidc.test/id/A:sub": "system:serviceaccount:till:*"}})
    )
    assert not read.evaluate(WEB_IDENTITY, TOKEN, CONTEXT).is_allowed


def test_explicit_deny_overrides_an_allow_in_any_order() -> None:
    deny = statement(Effect="Deny", Principal="*", Action="sts:*", Sid="Never")
    for order in ([deny, statement()], [statement(), deny]):
        decision = policy(*order).evaluate(WEB_IDENTITY, TOKEN, CONTEXT)
        assert decision[:2] == (False, "Statement Never denies it")


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (WEB_IDENTITY, True),
        ("STS:assumerolewithwebidentity", True),
        ("sts:*", True),
        ("*", True),
        ("sts:AssumeRole*", True),
        (["sts:TagSession", WEB_IDENTITY], True),
        ("sts:AssumeRole", False),
        ("sts:AssumeRoleWithSAML", False),
    ],
)
def test_actions_can_be_lists_and_wildcards_in_any_case(action: Any, *, expected: bool) -> None:
    assert policy(statement(Action=action)).evaluate(WEB_IDENTITY, TOKEN, CONTEXT).is_allowed is expected


@pytest.mark.parametrize(
    ("principal", "expected"),
    [
        ("*", True),
        ({"AWS": "*"}, True),
        ({"AWS": ACCOUNT}, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, True),
        ({"AWS": ROLE}, True),
        ({"AWS": SESSION}, True),
        ({"AWS": ["arn:aws:iam::444455556666:root", ROLE]}, True),
        ({"AWS": "arn:aws:iam::444455556666:root"}, False),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:role/other"}, False),
        ({"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/app/other"}, False),
        ({"Federated": PROVIDER}, False),
        ({"Service": "ec2.amazonaws.com"}, False),
        ({"Service": "ec2.amazonaws.com", "AWS": ROLE}, True),
    ],
)
def test_principal_matches_the_sessions_account_role_or_arn(principal: Any, *, expected: bool) -> None:
    read = policy(statement(Principal=principal, Action=ASSUME))
    assert read.evaluate(ASSUME, CALLER, {}).is_allowed is expected


def test_account_does_not_match_a_web_identity() -> None:
    read = policy(statement(Principal={"AWS": ACCOUNT}))
    decision = read.evaluate(WEB_IDENTITY, TOKEN, CONTEXT)
    assert decision[:2] == (False, f"Statement 1: Principal is {ACCOUNT}, not {PROVIDER}")


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([], "the trust policy of cart is []"),
        ({"Statement": []}, "no Statement"),
        ({"Version": "2012-10-18", "Statement": [statement()]}, "Version is '2012-10-18'"),
        ({"Version": [], "Statement": [statement()]}, "Version is []"),
        ({"Statement": [statement()], "Principle": 1}, "'Principle'"),
        ({"Statement": ["x"]}, "Statement 1 is 'x'"),
        ({"Statement": statement(Effect="allow")}, "Effect is 'allow'"),
        ({"Statement": statement(Effect=[])}, "Effect is []"),
        ({"Statement": statement(Resource="*")}, "'Resource'"),
        ({"Statement": statement(NotPrincipal="*")}, "Principal and NotPrincipal"),
        ({"Statement": statement(NotAction="*")}, "Action and NotAction"),
        ({"Statement": without("Principal", NotPrincipal={"Federated": "*"})}, "NotPrincipal Federated is '*'"),
        ({"Statement": without("Action", NotAction="s3:*")}, "NotAction is 's3:*'"),
        ({"Statement": statement(Principal=None)}, "Principal is None"),
        ({"Statement": statement(Principal={"CanonicalUser": "x"})}, "'CanonicalUser'"),
        ({"Statement": statement(Principal={"AWS": 111122223333})}, "quote numbers"),
        ({"Statement": statement(Principal={"AWS": f"{ROLE}*"})}, "role/app*"),
        ({"Statement": statement(Principal={"Federated": "*"})}, "Principal Federated is '*'"),
        ({"Statement": statement(Action=None)}, "Action is None"),
        ({"Statement": statement(Action="s3:GetObject")}, "'s3:GetObject'"),
        ({"Statement": statement({"StringMatches": {"x:sub": "y"}})}, "'StringMatches'"),
        ({"Statement": statement({"ForSomeValue:StringLike": {"x:sub": "y"}})}, "'ForSomeValue:StringLike'"),
        ({"Statement": statement({"Boolean": {"aws:MultiFactorAuthPresent": "true"}})}, "'Boolean'"),
        ({"Statement": statement({"StringEquals": {"x:sub": 1}})}, "x:sub is 1"),
        ({"Statement": statement({"StringEquals": {"x:sub": []}})}, "x:sub is []"),
        ({"Statement": statement({"StringEquals": "x"})}, "StringEquals is 'x'"),
        ({"Statement": statement({"StringEquals": {"x:sub": "y" * 8192}})}, "8192"),
        ({"Statement": statement({"StringEquals": {"x:sub": {1, 2}}})}, "JSON"),
    ],
)
def test_invalid_policy_is_rejected_when_it_is_read(document: Any, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_policy(document, "the trust policy of cart")
    assert "the trust policy of cart" in str(caught.value)
    assert named in str(caught.value)


# Elements that IAM accepts but that are not evaluated here

IRSA = statement({"StringEquals": {"oidc.test/id/A:sub": "system:serviceaccount:shop:cart"}}, Sid="Irsa")
WRONG = statement({"StringEquals": {"oidc.test/id/A:sub": "system:serviceaccount:shop:till"}}, Sid="Irsa")
UNKNOWN_CONDITIONS: dict[str, Any] = {
    "operator": {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
    "Arn operator": {"ArnLike": {"aws:SourceArn": "arn:aws:eks:*"}},
    "address": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
    "VPC endpoint": {"StringEquals": {"aws:SourceVpce": "vpce-1"}},
    "date": {"DateLessThanIfExists": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}},
    "quantified": {"ForAllValues:ArnEquals": {"aws:SourceArn": ["arn:aws:eks:eu-west-1:111122223333:cluster/shop"]}},
    "key": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}},
    "claim of another issuer": {"StringLike": {"token.actions.githubusercontent.com:repository": "acme/*"}},
    "variable": {"StringLike": {"oidc.test/id/A:sub": "system:serviceaccount:${aws:username}:*"}},
    "mixed": {"StringEquals": {"oidc.test/id/A:aud": "sts.amazonaws.com", "aws:RequestTag/x": "y"}},
}
ASIDE: dict[str, dict[str, Any]] = {
    "Pod Identity": {
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
    },
    "everybody in AWS": {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"},
    "the account": {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "sts:AssumeRole*",
    },
    "another provider": statement(
        Principal={"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"}
    ),
    "SAML": {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:saml-provider/corp"},
        "Action": "sts:AssumeRoleWithSAML",
    },
    "deny of another action": {"Effect": "Deny", "Principal": "*", "Action": ["sts:AssumeRole", "sts:TagSession"]},
    "deny by NotPrincipal": {"Effect": "Deny", "NotPrincipal": {"AWS": ROLE}, "Action": "sts:AssumeRole"},
    "NotAction": {"Effect": "Deny", "Principal": "*", "NotAction": ["sts:AssumeRoleWithWeb*", "sts:TagSession"]},
    "deleted principal": {"Effect": "Allow", "Principal": {"AWS": "AROAEXAMPLE123456789A"}, "Action": "*"},
}


@pytest.mark.parametrize("condition", UNKNOWN_CONDITIONS.values(), ids=UNKNOWN_CONDITIONS)
@pytest.mark.parametrize("other", ASIDE.values(), ids=ASIDE)
def test_statement_that_does_not_match_the_call_is_ignored(other: dict[str, Any], condition: Any) -> None:
    """Vary the conditions and the position of the statement, which do not matter."""
    ignored = {**other, "Condition": condition}
    for order in ((IRSA, ignored), (ignored, IRSA)):
        assert policy(*order).evaluate(WEB_IDENTITY, TOKEN, CONTEXT)[0:3:2] == (True, ())
    for order in ((WRONG, ignored), (ignored, WRONG)):
        decision = policy(*order).evaluate(WEB_IDENTITY, TOKEN, CONTEXT)
        assert decision[0:3:2] == (False, ())
        assert decision.reason.startswith("Statement Irsa: Condition StringEquals oidc.test/id/A:sub wants")
        assert ";" not in decision.reason


@pytest.mark.parametrize("condition", UNKNOWN_CONDITIONS.values(), ids=UNKNOWN_CONDITIONS)
def test_unevaluated_allow_matters_only_without_another_allow(condition: Any) -> None:
    maybe = statement(condition, Sid="Maybe")
    assert policy(maybe, IRSA).evaluate(WEB_IDENTITY, TOKEN, CONTEXT)[0:3:2] == (True, ())
    decision = policy(maybe, WRONG).evaluate(WEB_IDENTITY, TOKEN, CONTEXT)
    assert not decision.is_allowed
    assert [reason.partition(":")[0] for reason in decision.unknown] == ["Statement Maybe"]
    assert "cannot be evaluated here: Statement Maybe: the condition" in decision.reason


@pytest.mark.parametrize("condition", UNKNOWN_CONDITIONS.values(), ids=UNKNOWN_CONDITIONS)
def test_deny_with_an_unknown_condition_overrides_allows(condition: Any) -> None:
    maybe = statement(condition, Sid="Maybe", Effect="Deny", Principal="*")
    decision = policy(IRSA, maybe).evaluate(WEB_IDENTITY, TOKEN, CONTEXT)
    assert not decision.is_allowed
    assert decision.unknown
    assert policy(WRONG, maybe).evaluate(WEB_IDENTITY, TOKEN, CONTEXT).unknown == (), "no statement allows the call"


def test_one_false_condition_decides_the_whole_statement() -> None:
    unmet = {"oidc.test/id/A:sub": "system:serviceaccount:shop:till", "aws:RequestTag/x": "y"}
    deny = statement({"StringEquals": unmet}, Effect="Deny")
    assert policy(IRSA, deny).evaluate(WEB_IDENTITY, TOKEN, CONTEXT)[0:3:2] == (True, ())
    decision = policy(statement({"StringEquals": unmet})).evaluate(WEB_IDENTITY, TOKEN, CONTEXT)
    assert decision[0:3:2] == (False, ())


def test_evaluated_deny_overrides_unevaluated_statements() -> None:
    maybe = statement(UNKNOWN_CONDITIONS["key"], Effect="Deny")
    never = statement(Effect="Deny", Principal="*", Action="sts:*", Sid="Never")
    assert policy(IRSA, maybe, never).evaluate(WEB_IDENTITY, TOKEN, CONTEXT)[:2] == (False, "Statement Never denies it")


def test_not_principal_with_the_provider_is_not_evaluated() -> None:
    deny = without("Principal", Effect="Deny", NotPrincipal={"Federated": PROVIDER})
    assert policy(IRSA, deny).evaluate(WEB_IDENTITY, TOKEN, CONTEXT).unknown


@pytest.mark.parametrize(
    ("not_action", "expected"), [("sts:AssumeRole", True), (["sts:AssumeRole*"], False), ("STS:TagSession", True)]
)
def test_not_action_covers_every_other_action(not_action: Any, *, expected: bool) -> None:
    read = policy(without("Action", NotAction=not_action))
    assert read.evaluate(WEB_IDENTITY, TOKEN, CONTEXT).is_allowed is expected


def test_policy_just_below_the_quota_is_accepted() -> None:
    text = "y" * 7900
    assert policy(statement({"StringEquals": {"oidc.test/id/A:sub": text}})).statements


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_ELEMENTS = st.fixed_dictionaries(
    {},
    optional={
        "Effect": st.sampled_from(["Allow", "Deny"]) | _JSON,
        "Principal": st.sampled_from(["*", {"Federated": PROVIDER}]) | _JSON,
        "Action": st.sampled_from(["sts:*", WEB_IDENTITY]) | _JSON,
        "Condition": st.dictionaries(st.sampled_from(list(OPERATORS)), _JSON, max_size=2) | _JSON,
    },
)


@given(st.fixed_dictionaries({"Statement": _ELEMENTS | st.lists(_ELEMENTS, max_size=3) | _JSON}))
def test_any_document_is_a_policy_or_a_configuration_error(document: Any) -> None:
    try:
        read = parse_policy(document, "it")
    except ConfigurationError:
        return
    assert read.evaluate(WEB_IDENTITY, TOKEN, CONTEXT).reason


_VALUES = st.text(st.sampled_from("ab*?:"), max_size=6)


@given(
    st.sampled_from(list(OPERATORS)),
    st.lists(_VALUES.filter(bool), min_size=1, max_size=3),
    st.lists(_VALUES, max_size=2),
)
def test_negated_operator_is_the_opposite_of_the_plain_operator(
    name: str, wanted: list[str], values: list[str]
) -> None:
    opposite = name.replace("StringNot", "String") if "Not" in name else name.replace("String", "StringNot")
    context = {"x:amr": tuple(values)}

    def met(operator: str) -> bool:
        return policy(statement({operator: {"x:amr": wanted}})).evaluate(WEB_IDENTITY, TOKEN, context).is_allowed

    assert met(name) is not met(opposite)


@given(
    st.lists(
        st.sampled_from([statement(), statement(Action=ASSUME), statement(Principal={"AWS": ROLE})]),
        min_size=1,
        max_size=4,
    )
)
def test_deny_for_everybody_overrides_every_allow(statements: list[dict[str, Any]]) -> None:
    read = policy(*statements, statement(Effect="Deny", Principal="*", Action="*"))
    assert not read.evaluate(WEB_IDENTITY, TOKEN, CONTEXT).is_allowed
    assert not read.evaluate(ASSUME, CALLER, CONTEXT).is_allowed


@given(st.text("ab*?\n", max_size=8), st.text("ab\n", max_size=8))
def test_wildcards_match_like_a_regular_expression(pattern: str, value: str) -> None:
    expression = "".join({"*": ".*", "?": "."}.get(character) or re.escape(character) for character in pattern)
    assert is_like(value, pattern) is (re.fullmatch(expression, value, re.DOTALL) is not None)


def test_work_for_many_wildcards_is_bounded() -> None:
    """Use patterns with which a search with backtracking would not finish."""
    assert not is_like("a" * 2000, "*a" * 1000 + "*b")
    assert is_like("a" * 2000, "*a" * 1000 + "*?")
