"""Test our statement in a trust policy with other statements. The strict evaluator in `local` judges the policy."""

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import ASSUME_ROLE_WITH_WEB_IDENTITY
from sidecar.setup.subjects import has_wildcard, subjects_of
from sidecar.setup.trust_policy import (
    SID_PREFIX,
    Change,
    TrustGrant,
    check_size,
    compact,
    own_subjects,
    summary,
    with_grant,
)
from sidecar.setup.trust_remarks import remarks_on
from tests.unit.setup.trust_policies import KEY, OTHER, PROVIDER, grant, is_assumable

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
def test_pattern_allows_only_matching_service_accounts(accounts: list[str], candidates: list[str]) -> None:
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
        "Action": st.sampled_from([ASSUME_ROLE_WITH_WEB_IDENTITY, ["sts:AssumeRole"]]) | _JSON,
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
    """Return the exact texts of all statements except ours for this issuer."""
    statements = document["Statement"]
    return [
        json.dumps(statement)
        for statement in (statements if isinstance(statements, list) else [statements])
        if not (statement.get("Sid") == wanted.sid and statement["Effect"] == "Allow")
    ]


@given(_DOCUMENTS, st.lists(_ACCOUNTS, min_size=1, max_size=3))
def test_other_statements_stay_in_their_order(document: Any, accounts: list[str]) -> None:
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
def test_single_statement_without_a_list_is_kept(statement: Any, accounts: list[str]) -> None:
    wanted = grant(*subjects_of(accounts, allow_wildcards=False))
    after = with_grant({"Version": "2012-10-17", "Statement": statement}, wanted)
    assert texts(after, wanted) == [json.dumps(statement)]


def test_equal_statement_of_another_tool_is_enough() -> None:
    wanted = grant("system:serviceaccount:shop:cart", "system:serviceaccount:shop:till")
    theirs = {
        "Effect": "Allow",
        "Action": [ASSUME_ROLE_WITH_WEB_IDENTITY],
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


def test_trust_policy_beyond_the_quota_is_rejected() -> None:
    document = with_grant(None, grant(*(f"system:serviceaccount:shop:cart-{number:02}" for number in range(50))))
    size = len(compact(document))
    with pytest.raises(
        ConfigurationError, match=rf"role app would have {size} characters.* 2048.*--trust-policy-limit"
    ):
        check_size(document, 2048, "role app")
    check_size(document, size, "role app")


# Our statements, and other statements that look like ours


def deny(sid: str, **more: Any) -> dict[str, Any]:
    condition = {"StringLike": {f"{KEY}:sub": "system:serviceaccount:dev:*"}}
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": {"Federated": PROVIDER},
        "Action": ASSUME_ROLE_WITH_WEB_IDENTITY,
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


def test_deny_with_our_sid_is_an_error_and_unchanged() -> None:
    with pytest.raises(ConfigurationError, match=f"Statement {grant().sid} .* Deny"):
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
    "another action": {"Action": [ASSUME_ROLE_WITH_WEB_IDENTITY, "sts:TagSession"]},
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
    with pytest.raises(ConfigurationError, match=r"--remove .*--replace"):
        with_grant(document, grant(cart, till), Change.REMOVE)
    emptied = with_grant({"Statement": [deny("A"), *document["Statement"]]}, grant(cart, till), Change.REMOVE)
    assert emptied == {"Statement": [deny("A")]}
