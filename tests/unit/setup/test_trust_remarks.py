"""Test the remarks about statements from other sources in a trust policy."""

from typing import Any

import pytest

from sidecar.local.trust_policy import ASSUME_ROLE_WITH_WEB_IDENTITY
from sidecar.setup.trust_policy import Change, own_subjects, with_grant
from sidecar.setup.trust_remarks import remarks_on, still_allowed
from tests.unit.setup.trust_policies import KEY, OTHER, PROVIDER, grant, is_assumable

AUDIENCE = {f"{KEY}:aud": "sts.amazonaws.com"}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ({"Principal": {"Federated": PROVIDER}}, "lets every service account"),
        ({"Principal": {"Federated": [OTHER, PROVIDER]}, "Condition": {}}, "lets every service account"),
        ({"Principal": "*"}, "lets every service account"),
        ({"Principal": {"AWS": "*"}, "Action": "sts:*"}, "lets every service account"),
        ({"Principal": {"AWS": [OTHER, "*"]}, "Action": "*"}, "lets every service account"),
        ({"NotPrincipal": {"AWS": "111122223333"}}, "lets every service account"),
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
def test_wide_or_incomplete_statement_causes_a_remark(statement: Any, words: str | None) -> None:
    document = with_grant({"Statement": [{"Sid": "Theirs", "Effect": "Allow"} | statement]}, grant())
    remarks = list(remarks_on(document, grant()))
    assert len(remarks) == (words is not None)
    assert all(words and words in remark and "Statement Theirs" in remark for remark in remarks)


def test_pattern_that_remains_causes_a_remark() -> None:
    document = with_grant(None, grant("system:serviceaccount:shop:*"))
    after = with_grant(document, grant("system:serviceaccount:till:x"))
    assert own_subjects(after, grant()) == ("system:serviceaccount:shop:*", "system:serviceaccount:till:x")
    assert is_assumable(after, "system:serviceaccount:shop:any")
    (remark,) = remarks_on(after, grant("system:serviceaccount:till:x"))
    assert "still trusts every service account that matches shop/*" in remark


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
@pytest.mark.parametrize(
    "action", [ASSUME_ROLE_WITH_WEB_IDENTITY, "sts:*", "*", ["sts:TagSession", "sts:assumerolewith*"]]
)
def test_wide_statement_of_another_tool_causes_a_remark(
    operator: str, subject: Any, words: str | None, action: Any
) -> None:
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
def test_statement_without_an_audience_causes_a_remark(audience: Any) -> None:
    theirs = {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER},
        "Action": ASSUME_ROLE_WITH_WEB_IDENTITY,
        "Condition": {"StringEquals": {f"{KEY}:sub": "system:serviceaccount:a:b"}, **audience},
    }
    (remark,) = remarks_on({"Statement": [theirs]}, grant())
    assert "for every audience" in remark
    assert [*remarks_on({"Statement": [theirs | {"Action": "sts:AssumeRole"}]}, grant())] == []


def test_removed_account_that_keeps_its_access_is_reported() -> None:
    cart, till = (f"system:serviceaccount:shop:{name}" for name in ("cart", "till"))
    condition = {"StringLike": {f"{KEY}:sub": "system:serviceaccount:shop:c*"}, "StringEquals": AUDIENCE}
    theirs = grant(cart).statement() | {"Sid": "Theirs", "Condition": condition}
    odd = {"Sid": "Odd", "Effect": "Allow", "NotPrincipal": {"AWS": "*"}, "Action": ASSUME_ROLE_WITH_WEB_IDENTITY}
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


@pytest.mark.parametrize("operator", ["StringLike", "stringlike", "STRINGEQUALS"])
def test_access_by_an_operator_in_any_case_is_reported(operator: str) -> None:
    theirs = {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER},
        "Action": ASSUME_ROLE_WITH_WEB_IDENTITY,
        "Condition": {operator: {f"{KEY}:sub": "system:serviceaccount:shop:cart"}},
    }
    unrelated = {"Effect": "Deny", "Principal": "*", "Action": "sts:TagSession", "Condition": {"Bool": {"a:b": True}}}
    before = with_grant({"Statement": [theirs, unrelated]}, grant())
    (remark,) = still_allowed(before, {"Statement": [theirs, unrelated]}, grant())
    assert "shop/cart may still assume the role" in remark
