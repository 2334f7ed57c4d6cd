"""A role's statement for service accounts, held to the strict STS of `local` and to what others wrote beside it."""

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import Principal, parse_policy
from sidecar.setup.trust import (
    SID_PREFIX,
    WEB_IDENTITY,
    Grant,
    check_size,
    compact,
    concerns,
    has_wildcard,
    read_service_account,
    subjects_of,
    with_grant,
)

ISSUER = "https://oidc.eks.eu-west-1.amazonaws.com/id/A"
PROVIDER = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/A"
OTHER = "arn:aws:iam::111122223333:oidc-provider/oidc.example.com"


def grant(*subjects: str, issuer: str = ISSUER, audience: str = "sts.amazonaws.com") -> Grant:
    provider = f"arn:aws:iam::111122223333:oidc-provider/{issuer[8:]}"
    return Grant(provider, issuer, audience, subjects or ("system:serviceaccount:shop:cart",))


def is_assumable(document: Any, subject: str, *, audience: str = "sts.amazonaws.com", provider: str = PROVIDER) -> bool:
    """What the local STS says to a verified token of that provider."""
    key = provider.partition("/")[2].lower()
    context = {f"{key}:sub": (subject,), f"{key}:aud": (audience,)}
    policy = parse_policy(json.loads(json.dumps(document)), "it")
    return policy.evaluate(WEB_IDENTITY, Principal((provider,), None), context).is_allowed


_NAMES = st.text(st.sampled_from("ab-"), min_size=1, max_size=3).map(lambda text: f"x{text}x")
_PATTERNS = st.text(st.sampled_from("ab-*?"), min_size=1, max_size=4)
_ACCOUNTS = st.tuples(_NAMES, _NAMES).map("/".join)
_ACCOUNT_PATTERNS = st.tuples(_PATTERNS, _PATTERNS).map("/".join).filter(has_wildcard)
_SUBJECTS = st.tuples(_NAMES, _NAMES).map(lambda parts: "system:serviceaccount:" + ":".join(parts))


@given(st.lists(_ACCOUNTS, min_size=1, max_size=4), st.lists(_SUBJECTS, max_size=4))
def test_exactly_the_named_service_accounts_may_assume_it(accounts: list[str], others: list[str]) -> None:
    subjects = subjects_of(accounts, allow_wildcards=False)
    document = with_grant(None, grant(*subjects))
    for subject in [*subjects, *others]:
        assert is_assumable(document, subject) is (subject in subjects)
    for subject in subjects:
        assert not is_assumable(document, subject.upper())
        assert not is_assumable(document, f"{subject}x")
        assert not is_assumable(document, subject[:-1])
        assert not is_assumable(document, subject, audience="sts.amazonaws.com.cn")
        assert not is_assumable(document, subject, provider=OTHER)


@given(st.lists(_ACCOUNTS | _ACCOUNT_PATTERNS, min_size=1, max_size=4), st.lists(_SUBJECTS, min_size=1, max_size=8))
def test_patterns_stand_for_what_they_match_and_names_beside_them_for_themselves(
    accounts: list[str], candidates: list[str]
) -> None:
    subjects = subjects_of(accounts, allow_wildcards=True)
    document = with_grant(None, grant(*subjects))
    for candidate in candidates:
        assert is_assumable(document, candidate) is any(fnmatchcase(candidate, subject) for subject in subjects)
        assert not is_assumable(document, candidate, audience="other")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_OTHERS = st.fixed_dictionaries(
    {"Effect": st.sampled_from(["Allow", "Deny"])},
    optional={
        "Sid": st.sampled_from(["", "Mine", "irsaSidecar", f"x{SID_PREFIX}"]),
        "Principal": st.sampled_from(["*", {"Federated": PROVIDER}, {"AWS": "111122223333"}]) | _JSON,
        "Action": st.sampled_from([WEB_IDENTITY, ["sts:AssumeRole"]]) | _JSON,
        "Condition": _JSON,
    },
)
_OURS_ELSEWHERE = st.builds(
    lambda name: grant(issuer=f"https://{name}.example.com").statement(), st.sampled_from(["a", "b"])
)
_OURS_HERE = st.builds(lambda name: grant(f"system:serviceaccount:{name}:x").statement(), _NAMES)
_DOCUMENTS = st.builds(
    lambda statements, more: {"Version": "2012-10-17", "Statement": statements, **more},
    st.lists(_OTHERS | _OURS_ELSEWHERE | _OURS_HERE, max_size=5),
    st.sampled_from([{}, {"Id": "x"}]),
)


def texts(document: Any, wanted: Grant) -> list[str]:
    """Byte for byte, what is not ours for this issuer."""
    statements = document["Statement"]
    return [
        json.dumps(statement)
        for statement in (statements if isinstance(statements, list) else [statements])
        if not (
            str(statement.get("Sid")).startswith(SID_PREFIX)
            and statement.get("Principal") == {"Federated": wanted.provider_arn}
        )
    ]


@given(_DOCUMENTS, st.lists(_ACCOUNTS, min_size=1, max_size=3))
def test_what_others_wrote_stays_byte_for_byte_and_in_order(document: Any, accounts: list[str]) -> None:
    wanted = grant(*subjects_of(accounts, allow_wildcards=False))
    before = json.dumps(document)
    after = with_grant(document, wanted)
    assert json.dumps(document) == before
    assert texts(after, wanted) == texts(document, wanted)
    assert {key: value for key, value in after.items() if key != "Statement"} == {
        key: value for key, value in document.items() if key != "Statement"
    }
    assert after["Statement"].count(wanted.statement()) <= 1
    assert with_grant(after, wanted) == after
    list(concerns(after, wanted))


@given(_OTHERS, st.lists(_ACCOUNTS, min_size=1, max_size=3))
def test_a_single_statement_without_a_list_stays_too(statement: Any, accounts: list[str]) -> None:
    wanted = grant(*subjects_of(accounts, allow_wildcards=False))
    after = with_grant({"Version": "2012-10-17", "Statement": statement}, wanted)
    assert texts(after, wanted) == [json.dumps(statement)]


def test_what_another_tool_wrote_in_the_same_words_is_enough() -> None:
    wanted = grant("system:serviceaccount:shop:cart", "system:serviceaccount:shop:till")
    theirs = {
        "Effect": "Allow",
        "Action": [WEB_IDENTITY],
        "Principal": {"Federated": [PROVIDER]},
        "Condition": {
            "StringEquals": {
                "oidc.eks.eu-west-1.amazonaws.com/id/A:sub": list(wanted.subjects[::-1]),
                "oidc.eks.eu-west-1.amazonaws.com/id/A:aud": ["sts.amazonaws.com"],
            }
        },
    }
    document = {"Version": "2012-10-17", "Statement": theirs}
    assert with_grant(document, wanted) == document
    assert with_grant(document, grant())["Statement"] == [theirs, grant().statement()]


@pytest.mark.parametrize("statements", ["x", ["x", 1], [], None])
def test_statements_that_are_none_are_left_to_iam(statements: Any) -> None:
    after = with_grant({"Statement": statements}, grant())["Statement"]
    kept = statements if isinstance(statements, list) else [statements] if statements else []
    assert after == [*kept, grant().statement()]
    assert list(concerns({"Statement": statements}, grant())) == []


def test_clusters_share_a_role_each_by_a_statement_of_its_own() -> None:
    here, there = grant(), grant(issuer="https://oidc.example.com")
    document = with_grant(with_grant(None, here), there)
    assert [statement["Sid"] for statement in document["Statement"]] == [here.sid, there.sid]
    changed = with_grant(document, grant("system:serviceaccount:shop:till"))
    assert changed["Statement"][1] == there.statement()
    assert not is_assumable(changed, "system:serviceaccount:shop:cart")
    assert is_assumable(changed, "system:serviceaccount:shop:cart", provider=there.provider_arn)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ({"Principal": {"Federated": PROVIDER}}, "lets every service account"),
        ({"Principal": {"Federated": [OTHER, PROVIDER]}, "Condition": {}}, "lets every service account"),
        (
            {
                "Principal": {"Federated": PROVIDER},
                "Condition": {"StringNotLike": {f"{PROVIDER.partition('/')[2]}:sub": "x"}},
            },
            "lets every service account",
        ),
        (
            {
                "Principal": {"Federated": PROVIDER},
                "Condition": {"StringLike": {f"{PROVIDER.partition('/')[2]}:SUB": "system:serviceaccount:a:*"}},
            },
            None,
        ),
        ({"Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole"}, "without sts:TagSession"),
        ({"Principal": {"AWS": "111122223333"}, "Action": ["sts:AssumeRole", "sts:TagSession"]}, None),
        ({"Principal": {"Federated": OTHER}}, None),
        ({"Effect": "Deny", "Principal": {"Federated": PROVIDER}}, None),
    ],
)
def test_what_others_wrote_is_remarked_on_where_it_defeats_or_lacks(statement: Any, said: str | None) -> None:
    document = with_grant({"Statement": [{"Sid": "Theirs", "Effect": "Allow"} | statement]}, grant())
    remarks = list(concerns(document, grant()))
    assert len(remarks) == (said is not None)
    assert all(said and said in remark and "Statement Theirs" in remark for remark in remarks)


@pytest.mark.parametrize(
    "text", ["cart", "shop/", "/cart", "Shop/cart", "shop/cart/x", "shop:cart", "-a/b", "a/-", "", "a b/c"]
)
def test_what_is_no_service_account_is_named_with_the_form(text: str) -> None:
    for allow_wildcards in (False, True):
        with pytest.raises(ConfigurationError, match="write NAMESPACE/NAME"):
            read_service_account(text, allow_wildcards=allow_wildcards)


@pytest.mark.parametrize("text", ["shop/*", "*/cart", "sho?/cart"])
def test_a_wildcard_is_never_taken_by_accident(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--allow-wildcards"):
        read_service_account(text, allow_wildcards=False)
    assert read_service_account(text, allow_wildcards=True) == f"system:serviceaccount:{text.replace('/', ':')}"


def test_a_trust_policy_beyond_the_quota_is_refused_with_ways_out() -> None:
    document = with_grant(None, grant(*(f"system:serviceaccount:shop:cart-{number:02}" for number in range(50))))
    size = len(compact(document))
    with pytest.raises(
        ConfigurationError, match=rf"would have {size} characters, and IAM takes 2048.*--trust-policy-limit"
    ):
        check_size(document, 2048, "role app")
    check_size(document, size, "role app")
