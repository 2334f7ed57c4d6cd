"""Test the conditions of our statement on the session name and on the network of a request."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.local.readable_policy import NETWORK_KEYS, readable_policy
from sidecar.local.trust_policy import ASSUME_ROLE_WITH_WEB_IDENTITY, Decision, Principal
from sidecar.setup.request_conditions import KINDS, RequestConditions, parse_values, session_name_remarks
from sidecar.setup.trust_policy import Change, TrustGrant, own_conditions, summary, with_grant
from sidecar.setup.trust_remarks import without_conditions
from sidecar.sts.session_name import session_name
from tests.unit.setup.conftest import ISSUER, Account
from tests.unit.setup.trust_policies import ISSUER as EKS_ISSUER
from tests.unit.setup.trust_policies import KEY, PROVIDER, grant

CART, TILL = "system:serviceaccount:shop:cart", "system:serviceaccount:shop:till"
SHOP = RequestConditions(("shop.*",), ("vpce-0123456789abcdef0",), ())
NONE = RequestConditions((), (), ())

_NAMES = st.lists(st.sampled_from(["shop.*", "shop.cart-0", "sh?p"]), max_size=2, unique=True).map(sorted).map(tuple)
_VPCES = st.lists(st.sampled_from(["vpce-00000001", "vpce-00000002"]), max_size=2, unique=True).map(sorted).map(tuple)
_VPCS = st.sampled_from([(), ("vpc-00000001",)])
_CONDITIONS = st.builds(RequestConditions, _NAMES, _VPCES, _VPCS)
_SUBJECTS = st.lists(st.sampled_from([CART, TILL, "system:serviceaccount:shop:*"]), min_size=1, max_size=2, unique=True)


def restricted(conditions: RequestConditions, *subjects: str) -> TrustGrant:
    return TrustGrant(PROVIDER, EKS_ISSUER, "sts.amazonaws.com", subjects or (CART,), conditions)


def decide(document: Any, name: str, assumed: frozenset[str] = NETWORK_KEYS) -> Decision:
    """Return the decision about a token of `cart` in a request with this session name."""
    key = KEY.lower()
    context = {f"{key}:sub": (CART,), f"{key}:aud": ("sts.amazonaws.com",), "sts:rolesessionname": (name,)}
    policy = readable_policy(json.loads(json.dumps(document)), assumed)
    return policy.evaluate(ASSUME_ROLE_WITH_WEB_IDENTITY, Principal((PROVIDER,), None), context)


@given(_SUBJECTS, _CONDITIONS, _CONDITIONS)
def test_dropped_conditions_restore_the_trust_policy(
    subjects: list[str], first: RequestConditions, second: RequestConditions
) -> None:
    plain = with_grant(None, grant(*sorted(subjects)))
    with_first = with_grant(plain, restricted(first, *subjects))
    assert own_conditions(with_first, grant()) == first
    assert with_grant(with_first, grant(*subjects)) == with_first, "missing flags keep the conditions"
    with_second = with_grant(with_first, restricted(second, *subjects))
    assert own_conditions(with_second, grant()) == second
    assert with_grant(with_second, restricted(NONE, *subjects)) == plain


@pytest.mark.parametrize("change", [Change.ADD, Change.REPLACE, Change.REMOVE])
def test_conditions_stay_when_service_accounts_change(change: Change) -> None:
    both = with_grant(None, restricted(SHOP, CART, TILL))
    changed = with_grant(both, grant(TILL), change)
    assert own_conditions(changed, grant()) == SHOP


def test_statement_contains_each_condition() -> None:
    (statement,) = with_grant(None, restricted(SHOP))["Statement"]
    assert statement["Condition"] == {
        "StringEquals": {
            f"{KEY}:aud": "sts.amazonaws.com",
            f"{KEY}:sub": CART,
            "aws:SourceVpce": "vpce-0123456789abcdef0",
        },
        "StringLike": {"sts:RoleSessionName": "shop.*"},
    }


def test_only_matching_session_names_are_accepted() -> None:
    document = with_grant(None, restricted(SHOP._replace(source_vpces=())))
    assert decide(document, session_name("shop", "cart-7d9f8b6c5d-x2x4z")).is_allowed
    assert not decide(document, session_name("dev", "cart-7d9f8b6c5d-x2x4z")).is_allowed
    assert not decide(document, "botocore-session-1795867200").is_allowed


def test_condition_on_the_network_is_named_as_an_assumption() -> None:
    document = with_grant(None, restricted(SHOP))
    assert decide(document, "shop.cart").assumed == "aws:SourceVpce is vpce-0123456789abcdef0"
    assert not decide(document, "dev.cart").is_allowed
    assert decide(document, "shop.cart", frozenset()).unknown, "local cannot evaluate the condition"


@pytest.mark.parametrize(
    "edit",
    [
        {"StringEquals": {"sts:RoleSessionName": "shop.*"}},
        {"StringNotEquals": {"aws:SourceVpce": "vpce-00000001"}},
        {"StringEqualsIfExists": {"aws:SourceVpce": "vpce-00000001"}},
        {"StringEquals": {"aws:SourceVpce": "${aws:username}"}},
        {"StringEquals": {"aws:PrincipalOrgID": "o-1"}},
    ],
    ids=str,
)
def test_condition_in_another_form_is_an_edit(edit: dict[str, dict[str, str]]) -> None:
    statement = grant().statement()
    condition = statement["Condition"]
    for operator, block in edit.items():
        condition[operator] = condition.get(operator, {}) | block
    document = {"Version": "2012-10-17", "Statement": [statement]}
    with pytest.raises(ConfigurationError, match="was edited"):
        with_grant(document, grant(TILL))
    assert own_conditions(with_grant(document, grant(TILL), overwrite_edits=True), grant()) == NONE


def test_summary_names_each_changed_condition() -> None:
    before = with_grant(None, restricted(SHOP))
    after = with_grant(before, restricted(RequestConditions(("cart",), (), None)))
    assert [*summary(before, after, grant(), 2048)][:-1] == [
        "requires sts:RoleSessionName cart",
        "removes the condition on aws:SourceVpce (vpce-0123456789abcdef0)",
    ]


def test_other_statement_without_the_condition_causes_a_remark() -> None:
    theirs = {name: value for name, value in grant().statement().items() if name != "Sid"}
    document = with_grant({"Version": "2012-10-17", "Statement": [theirs]}, restricted(SHOP))
    (remark,) = without_conditions(document, grant())
    assert (
        "shop/cart may also assume the role without the condition on sts:RoleSessionName and aws:SourceVpce" in remark
    )
    assert not [*without_conditions(with_grant(None, restricted(SHOP)), grant())]


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("shop.*", True),
        ("*", True),
        ("sh*", True),
        ("shop.cart-*", True),
        ("cart", False),
        ("shop*", True),
        ("dev.*", False),
    ],
)
def test_pattern_that_rejects_the_default_name_causes_a_remark(pattern: str, fits: bool) -> None:  # noqa: FBT001
    remarks = [*session_name_remarks(RequestConditions((pattern,)), (CART,))]
    assert (remarks == []) is fits
    if not fits:
        assert "irsa-sidecar.io/session-name" in remarks[0]


def test_pattern_longer_than_the_kept_part_causes_a_remark() -> None:
    """The sidecar replaces the middle of a long name, so the pattern does not match the names of all Pods."""
    namespace = "team-checkout-production-eu-west-1"
    pattern, name = f"{namespace}.*", session_name(namespace, "checkout-service-7d9f8b6c5d-x2x4z")
    document = with_grant(None, restricted(RequestConditions((pattern,))))
    assert not decide(document, name).is_allowed
    (remark,) = session_name_remarks(RequestConditions((pattern,)), (f"system:serviceaccount:{namespace}:cart",))
    assert "keeps only the first 30 characters" in remark


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("session-name", "{namespace}.{pod}"),
        ("session-name", "shop/cart"),
        ("session-name", "${aws:username}"),
        ("session-name", "a" * 65),
        ("session-name", ""),
        ("source-vpce", "vpc-0123456789abcdef0"),
        ("source-vpce", "vpce-*"),
        ("source-vpc", "vpce-0123456789abcdef0"),
    ],
)
def test_invalid_value_is_rejected(flag: str, value: str) -> None:
    (kind,) = (each for each in KINDS if each.flag == flag)
    with pytest.raises(ConfigurationError) as caught:
        parse_values(kind, [value])
    assert caught.value.setting == f"--{flag}"


# Tests with the command


ROLE = ("role", "cart", "--issuer", ISSUER, "--service-account", "shop/cart")


@pytest.fixture
def ready(account: Account) -> Account:
    account.iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
    return account


def condition(account: Account) -> Any:
    (statement,) = account.iam.get_role(RoleName="cart")["Role"]["AssumeRolePolicyDocument"]["Statement"]
    return statement["Condition"]


def test_conditions_are_set_kept_and_dropped(ready: Account) -> None:
    ready.setup(*ROLE)
    plain = condition(ready)
    flags = ("--session-name", "shop.*", "--source-vpce", "vpce-00000001", "--source-vpce", "vpce-00000002")
    done = ready.setup(*ROLE, *flags)
    assert (done.status, done.err) == (0, "")
    assert "requires aws:SourceVpce vpce-00000001 or vpce-00000002" in done.out
    assert condition(ready)["StringEquals"]["aws:SourceVpce"] == ["vpce-00000001", "vpce-00000002"]
    assert ready.setup(*ROLE, "--dry-run", "--exit-code").status == 0
    dropped = ready.setup(*ROLE, "--drop-condition", "session-name", "--drop-condition", "source-vpce", "--json")
    assert "removes the condition on aws:SourceVpce" in dropped.err
    assert condition(ready) == plain


@pytest.mark.parametrize(
    "flags",
    [
        ("--source-vpce", "vpce-00000001", "--drop-condition", "source-vpce"),
        ("--source-vpce", "vpce-00000001", "--remove"),
        ("--drop-condition", "session-name", "--remove"),
        ("--drop-condition", "external-id"),
        ("--source-vpc", "vpc-1"),
    ],
)
def test_contradicting_flags_change_nothing(ready: Account, flags: tuple[str, ...]) -> None:
    ready.setup(*ROLE)
    before = condition(ready)
    done = ready.setup(*ROLE, *flags)
    assert (done.status, done.out) == (2, "")
    assert condition(ready) == before


def test_condition_needs_a_service_account(ready: Account) -> None:
    ready.setup(*ROLE)
    target = "arn:aws:iam::123456789012:role/data"
    done = ready.setup("role", "cart", "--chain-to", target, "--chain-create", "--source-vpc", "vpc-00000001")
    assert (done.status, "--service-account is not" in done.err) == (2, True)
