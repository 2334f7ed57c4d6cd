"""Test our statement in a trust policy with the strict evaluator of `local`, beside statements of others."""

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import Principal, parse_policy
from sidecar.setup.subjects import has_wildcard, read_service_account, subject_of_token, subjects_of
from sidecar.setup.trust_policy import (
    SID_PREFIX,
    WEB_IDENTITY,
    Change,
    TrustGrant,
    check_size,
    compact,
    own_subjects,
    summary,
    with_grant,
)
from sidecar.setup.trust_remarks import remarks_on, still_allowed

ISSUER = "https://oidc.eks.eu-west-1.amazonaws.com/id/A"
PROVIDER = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/A"
KEY = "oidc.eks.eu-west-1.amazonaws.com/id/A"
OTHER = "arn:aws:iam::111122223333:oidc-provider/oidc.example.com"


def grant(*subjects: str, issuer: str = ISSUER, audience: str = "sts.amazonaws.com") -> TrustGrant:
    provider = f"arn:aws:iam::111122223333:oidc-provider/{issuer[8:]}"
    return TrustGrant(provider, issuer, audience, subjects or ("system:serviceaccount:shop:cart",))


def is_assumable(document: Any, subject: str, *, audience: str = "sts.amazonaws.com", provider: str = PROVIDER) -> bool:
    """Return whether the local STS allows a verified token of that provider."""
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
def test_only_the_named_service_accounts_are_allowed(accounts: list[str], others: list[str]) -> None:
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
def test_pattern_allows_exactly_its_matches(accounts: list[str], candidates: list[str]) -> None:
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
        "Sid": st.sampled_from(["", "Mine", "irsaSidecar", f"x{SID_PREFIX}", f"{SID_PREFIX}NeverDev"]),
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


def texts(document: Any, wanted: TrustGrant) -> list[str]:
    """Return the exact texts of the statements that are not ours for this issuer."""
    statements = document["Statement"]
    return [
        json.dumps(statement)
        for statement in (statements if isinstance(statements, list) else [statements])
        if not (statement.get("Sid") == wanted.sid and statement["Effect"] == "Allow")
    ]


@given(_DOCUMENTS, st.lists(_ACCOUNTS, min_size=1, max_size=3))
def test_statements_of_others_stay_in_order(document: Any, accounts: list[str]) -> None:
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
    list(remarks_on(after, wanted))


@given(_OTHERS, st.lists(_ACCOUNTS, min_size=1, max_size=3))
def test_single_statement_without_a_list_stays(statement: Any, accounts: list[str]) -> None:
    wanted = grant(*subjects_of(accounts, allow_wildcards=False))
    after = with_grant({"Version": "2012-10-17", "Statement": statement}, wanted)
    assert texts(after, wanted) == [json.dumps(statement)]


def test_equal_statement_of_another_tool_is_enough() -> None:
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
def test_invalid_statements_stay_unchanged(statements: Any) -> None:
    after = with_grant({"Statement": statements}, grant())["Statement"]
    kept = statements if isinstance(statements, list) else [statements] if statements else []
    assert after == [*kept, grant().statement()]
    assert list(remarks_on({"Statement": statements}, grant())) == []


def test_each_cluster_has_its_own_statement() -> None:
    first, second = grant(), grant(issuer="https://oidc.example.com")
    document = with_grant(with_grant(None, first), second)
    assert [statement["Sid"] for statement in document["Statement"]] == [first.sid, second.sid]
    changed = with_grant(document, grant("system:serviceaccount:shop:till"), Change.REPLACE)
    assert changed["Statement"][1] == second.statement()
    assert not is_assumable(changed, "system:serviceaccount:shop:cart")
    assert is_assumable(changed, "system:serviceaccount:shop:cart", provider=second.provider_arn)


@pytest.mark.parametrize(
    ("statement", "words"),
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
                "Condition": {"StringLike": {f"{KEY}:SUB": "system:serviceaccount:a:*", f"{KEY}:aud": "x"}},
            },
            None,
        ),
        ({"Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole"}, "without sts:TagSession"),
        ({"Principal": {"AWS": "111122223333"}, "Action": ["sts:AssumeRole", "sts:TagSession"]}, None),
        ({"Principal": {"Federated": OTHER}}, None),
        ({"Effect": "Deny", "Principal": {"Federated": PROVIDER}}, None),
    ],
)
def test_statement_of_others_is_remarked_on(statement: Any, words: str | None) -> None:
    document = with_grant({"Statement": [{"Sid": "Theirs", "Effect": "Allow"} | statement]}, grant())
    remarks = list(remarks_on(document, grant()))
    assert len(remarks) == (words is not None)
    assert all(words and words in remark and "Statement Theirs" in remark for remark in remarks)


@pytest.mark.parametrize(
    "text", ["cart", "shop/", "/cart", "Shop/cart", "shop/cart/x", "shop:cart", "-a/b", "a/-", "", "a b/c"]
)
def test_invalid_service_account_is_rejected(text: str) -> None:
    for allow_wildcards in (False, True):
        with pytest.raises(ConfigurationError, match="write NAMESPACE/NAME"):
            read_service_account(text, allow_wildcards=allow_wildcards)


@pytest.mark.parametrize("text", ["shop/*", "*/cart", "sho?/cart"])
def test_wildcard_needs_the_flag(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--allow-wildcards"):
        read_service_account(text, allow_wildcards=False)
    assert read_service_account(text, allow_wildcards=True) == f"system:serviceaccount:{text.replace('/', ':')}"


def test_trust_policy_beyond_the_quota_is_rejected() -> None:
    document = with_grant(None, grant(*(f"system:serviceaccount:shop:cart-{number:02}" for number in range(50))))
    size = len(compact(document))
    with pytest.raises(
        ConfigurationError, match=rf"would have {size} characters, and IAM takes 2048.*--trust-policy-limit"
    ):
        check_size(document, 2048, "role app")
    check_size(document, size, "role app")


# Our statements, and statements of others that look like ours


def deny(sid: str, **more: Any) -> dict[str, Any]:
    condition = {"StringLike": {f"{KEY}:sub": "system:serviceaccount:dev:*"}}
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": {"Federated": PROVIDER},
        "Action": WEB_IDENTITY,
        "Condition": condition,
        **more,
    }


@pytest.mark.parametrize("sid", [f"{SID_PREFIX}NeverDev", SID_PREFIX, f"{grant().sid}x", grant().sid.upper()])
@pytest.mark.parametrize("change", Change)
def test_deny_whose_sid_begins_with_our_prefix_stays(sid: str, change: Change) -> None:
    theirs = deny(sid)
    ours = grant("system:serviceaccount:shop:cart", "system:serviceaccount:shop:till").statement()
    for statements in ([theirs, ours], [ours, theirs], [theirs]):
        after = with_grant({"Statement": statements}, grant("system:serviceaccount:shop:cart"), change)
        assert theirs in after["Statement"]
        assert [item["Sid"] for item in after["Statement"]][: len(statements)] == [item["Sid"] for item in statements]


def test_deny_with_our_sid_is_named_and_stays() -> None:
    with pytest.raises(ConfigurationError, match=f"Statement {grant().sid} of the trust policy is a Deny.*another Sid"):
        with_grant({"Statement": [deny(grant().sid)]}, grant())


EDITS: dict[str, dict[str, Any]] = {
    "another condition": {
        "Condition": {**grant().statement()["Condition"], "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    },
    "another key in our operator": {
        "Condition": {"StringEquals": {**grant().statement()["Condition"]["StringEquals"], "aws:PrincipalTag/a": "b"}}
    },
    "another audience": {"Condition": {"StringEquals": {f"{KEY}:aud": "vault", f"{KEY}:sub": grant().subjects[0]}}},
    "no audience": {"Condition": {"StringEquals": {f"{KEY}:sub": grant().subjects[0]}}},
    "a literal wildcard": {
        "Condition": {"StringEquals": {f"{KEY}:aud": "sts.amazonaws.com", f"{KEY}:sub": "system:serviceaccount:*"}}
    },
    "a policy variable": {
        "Condition": {"StringEquals": {f"{KEY}:aud": "sts.amazonaws.com", f"{KEY}:sub": f"${{{KEY}:sub}}"}}
    },
    "no condition": {"Condition": {}},
    "another principal": {"Principal": {"Federated": [PROVIDER, OTHER]}},
    "another action": {"Action": [WEB_IDENTITY, "sts:TagSession"]},
    "another element": {"NotPrincipal": {"AWS": "*"}},
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("change", [Change.ADD, Change.REPLACE, Change.REMOVE])
def test_edited_statement_changes_only_with_the_flag(edit: str, change: Change) -> None:
    edited = grant().statement() | EDITS[edit]
    wanted = grant("system:serviceaccount:shop:till")
    document = {"Statement": [deny("Theirs"), edited, deny("Last")]}
    with pytest.raises(ConfigurationError, match=r"was edited: it has .*--overwrite-edits") as raised:
        with_grant(document, wanted, change)
    assert all(compact({name: value})[1:-1] in str(raised.value) for name, value in EDITS[edit].items())
    after = with_grant(document, wanted, change, overwrite_edits=True)
    assert [item["Sid"] for item in after["Statement"]][:: len(after["Statement"]) - 1] == ["Theirs", "Last"]
    for item in after["Statement"][1:-1]:
        assert item == grant(*own_subjects(after, wanted)).statement()
        assert not any(has_wildcard(subject) or "$" in subject for subject in own_subjects(after, wanted))


def test_service_accounts_are_added_replaced_and_removed() -> None:
    cart, till, other = (f"system:serviceaccount:shop:{name}" for name in ("cart", "till", "other"))
    document = with_grant(with_grant(None, grant(cart)), grant(till))
    assert own_subjects(document, grant()) == (cart, till)
    replaced = with_grant(document, grant(other), Change.REPLACE)
    assert own_subjects(replaced, grant()) == (other,)
    assert [*summary(document, replaced, grant(), 2048)] == [
        "adds shop/other",
        "removes shop/cart, shop/till",
        f"the trust policy has {len(compact(replaced))} of 2048 characters",
    ]
    removed = with_grant(document, grant(cart), Change.REMOVE)
    assert own_subjects(removed, grant()) == (till,)
    assert [*summary(document, removed, grant(), 2048)][:2] == ["removes shop/cart", "keeps shop/till"]
    assert with_grant(document, grant(other), Change.REMOVE) == document
    with pytest.raises(ConfigurationError, match="--remove takes away the last statement"):
        with_grant(document, grant(cart, till), Change.REMOVE)
    emptied = with_grant({"Statement": [deny("A"), *document["Statement"]]}, grant(cart, till), Change.REMOVE)
    assert emptied == {"Statement": [deny("A")]}


def test_pattern_that_stays_is_remarked_on() -> None:
    document = with_grant(None, grant("system:serviceaccount:shop:*"))
    after = with_grant(document, grant("system:serviceaccount:till:x"))
    assert own_subjects(after, grant()) == ("system:serviceaccount:shop:*", "system:serviceaccount:till:x")
    assert is_assumable(after, "system:serviceaccount:shop:any")
    (remark,) = remarks_on(after, grant("system:serviceaccount:till:x"))
    assert "still trusts every service account that matches shop/*" in remark


# Wide statements of others


AUDIENCE = {f"{KEY}:aud": "sts.amazonaws.com"}


@pytest.mark.parametrize(
    ("operator", "subject", "words"),
    [
        ("StringLike", "*", "lets every service account"),
        ("StringLike", ["system:serviceaccount:shop:cart", "*"], "lets every service account"),
        ("StringLike", "system:serviceaccount:*", "lets every service account"),
        ("StringLike", "system:serviceaccount:*:*", "lets every service account"),
        ("StringLike", "system:*", "lets every service account"),
        ("StringLike", "s*", "lets every service account"),
        ("StringLike", "?*", "lets every service account"),
        ("StringLike", "system:serviceaccount:??*:*", "lets every service account"),
        ("StringLike", "*:cart", "lets service accounts of every namespace"),
        ("StringLike", "system:serviceaccount:*:cart", "lets service accounts of every namespace"),
        ("StringLike", "repo:*", "lets service accounts of every namespace"),
        ("StringLikeIfExists", "*", "lets every service account"),
        ("ForAnyValue:StringLike", "*", "lets every service account"),
        ("ForAllValues:StringLikeIfExists", "*", "lets every service account"),
        ("stringlike", "*", "lets every service account"),
        ("StringNotEquals", "system:serviceaccount:dev:x", "lets every service account"),
        ("StringNotLike", "system:serviceaccount:dev:*", "lets every service account"),
        ("Null", "false", "lets every service account"),
        ("StringEquals", f"${{{KEY}:sub}}", "lets every service account"),
        ("StringEquals", "*", "literally, so it matches no token"),
        ("StringEquals", "system:serviceaccount:shop:*", "literally, so it matches no token"),
        ("StringLike", "system:serviceaccount:shop:*", None),
        ("StringLike", "system:serviceaccount:shop-*:cart", None),
        ("StringLike", "repo:acme/*", None),
        ("StringEquals", "system:serviceaccount:shop:cart", None),
        ("StringEqualsIgnoreCase", "system:serviceaccount:shop:cart", None),
    ],
)
@pytest.mark.parametrize("action", [WEB_IDENTITY, "sts:*", "*", ["sts:TagSession", "sts:assumerolewith*"]])
def test_wide_statement_of_others_is_remarked_on(operator: str, subject: Any, words: str | None, action: Any) -> None:
    theirs = {
        "Sid": "Theirs",
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER},
        "Action": action,
        "Condition": {operator: {f"{KEY}:sub": subject}, "StringEqualsIfExists": AUDIENCE},
    }
    found = [*remarks_on({"Statement": [theirs]}, grant())]
    assert len(found) == (words is not None)
    assert all(words and words in remark and "Statement Theirs" in remark for remark in found)


@pytest.mark.parametrize(
    "audience",
    [{}, {"StringLike": {f"{KEY}:aud": "*"}}, {"StringNotEquals": AUDIENCE}, {"Null": {f"{KEY}:aud": "false"}}],
)
def test_statement_of_others_without_an_audience_is_remarked_on(audience: Any) -> None:
    theirs = {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER},
        "Action": WEB_IDENTITY,
        "Condition": {"StringEquals": {f"{KEY}:sub": "system:serviceaccount:a:b"}, **audience},
    }
    (remark,) = remarks_on({"Statement": [theirs]}, grant())
    assert "for every audience" in remark
    assert [*remarks_on({"Statement": [theirs | {"Action": "sts:AssumeRole"}]}, grant())] == []


# The subject of a token


@pytest.mark.parametrize(
    "subject",
    [
        "*", "?", "system:serviceaccount:*", "system:serviceaccount:*:*", "system:serviceaccount:shop:*",
        "system:serviceaccount:sh?p:cart", "system:serviceaccount:shop", "system:serviceaccount:shop:cart:x",
        "system:serviceaccount:shop/cart", "system:serviceaccount::cart", "system:serviceaccount:Shop:cart",
        "system:serviceaccount:shop:cart ", "system:serviceaccount:shop:cart\n", "system:serviceaccount:shop:c\u202ert",
        "system:node:a", "shop/cart", "${aws:username}", f"${{{KEY}:sub}}", "system:serviceaccount:shop:${a}",
    ],
)  # fmt: skip
def test_subject_of_kubernetes_is_one_service_account(subject: str) -> None:
    with pytest.raises(ConfigurationError, match="--token-file is 't': its sub is "):
        subject_of_token(subject, "t", is_kubernetes=True, allow_wildcards=False)


@pytest.mark.parametrize(
    "subject",
    ["repo:acme/*", "repo:acme/shop:*", "*", "project?", "${x}", "a\nb", "a" * 256, "system:serviceaccount:*"],
)
def test_subject_of_a_ci_system_has_no_wildcard(subject: str) -> None:
    with pytest.raises(ConfigurationError, match="--token-file is 't': its sub is "):
        subject_of_token(subject, "t", is_kubernetes=False, allow_wildcards=False)


def test_valid_subject_of_a_token_stays_unchanged() -> None:
    for subject in ("system:serviceaccount:shop:cart", "system:serviceaccount:shop:a.b-c"):
        assert subject_of_token(subject, "t", is_kubernetes=True, allow_wildcards=False) == subject
    for subject in ("repo:acme/shop:ref:refs/heads/main", "project_path:g/p:ref_type:branch:ref:main", "{uuid}:{uuid}"):
        assert subject_of_token(subject, "t", is_kubernetes=False, allow_wildcards=False) == subject
    for subject, is_kubernetes in (("system:serviceaccount:shop:*", True), ("repo:acme/*", False)):
        assert subject_of_token(subject, "t", is_kubernetes=is_kubernetes, allow_wildcards=True) == subject


def test_removed_account_that_others_allow_is_named() -> None:
    cart, till = (f"system:serviceaccount:shop:{name}" for name in ("cart", "till"))
    condition = {"StringLike": {f"{KEY}:sub": "system:serviceaccount:shop:c*"}, "StringEquals": AUDIENCE}
    theirs = grant(cart).statement() | {"Sid": "Theirs", "Condition": condition}
    odd = {"Sid": "Odd", "Effect": "Allow", "NotPrincipal": {"AWS": "*"}, "Action": WEB_IDENTITY}
    for statements in ([theirs], [odd, theirs]):
        before = with_grant({"Version": "2012-10-17", "Statement": statements}, grant(cart, till))
        after = with_grant(before, grant(cart, till), Change.REMOVE)
        (remark,) = still_allowed(before, after, grant(cart, till))
        assert remark.startswith("shop/cart may still assume the role, because ")
        assert "Theirs" in remark
    pattern = with_grant(None, grant(cart, "system:serviceaccount:shop:*"))
    after = with_grant(pattern, grant(cart), Change.REMOVE)
    assert len([*still_allowed(pattern, after, grant(cart))]) == 1
    assert [*still_allowed(pattern, pattern, grant(cart))] == []
