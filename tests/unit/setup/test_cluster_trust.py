"""Test copies of one cluster's statements for another cluster, and their removal."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.local.readable_policy import readable_policy
from sidecar.local.trust_policy import ASSUME_ROLE_WITH_WEB_IDENTITY, Principal, TrustPolicy
from sidecar.setup.cluster_trust import ClusterIssuer, differing_copies, with_cluster, without_cluster
from sidecar.setup.trust_policy import TrustGrant, with_grant

IAM = "arn:aws:iam::111122223333:oidc-provider/"
BLUE_KEY, GREEN_KEY = "oidc.eks.eu-west-1.amazonaws.com/id/B1", "oidc.example.com/green"
BLUE = ClusterIssuer(f"https://{BLUE_KEY}", IAM + BLUE_KEY)
GREEN = ClusterIssuer(f"https://{GREEN_KEY}", IAM + GREEN_KEY)
OTHER = f"{IAM}oidc.example.com/other"
SUBJECT = "system:serviceaccount:shop:cart"


def statement(provider: Any = BLUE.provider_arn, key: str | None = BLUE_KEY, **fields: Any) -> dict[str, Any]:
    condition = {"StringEquals": {f"{key}:aud": "sts.amazonaws.com", f"{key}:sub": SUBJECT}} if key else None
    found = {
        "Effect": "Allow",
        "Principal": {"Federated": provider},
        "Action": ASSUME_ROLE_WITH_WEB_IDENTITY,
        **({"Condition": condition} if condition else {}),
    }
    return found | fields


def policy(*statements: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def accepts(document: Any, issuer: ClusterIssuer, subject: str = SUBJECT) -> bool:
    context = {f"{issuer.key.lower()}:sub": (subject,), f"{issuer.key.lower()}:aud": ("sts.amazonaws.com",)}
    parsed: TrustPolicy = readable_policy(document)
    return parsed.evaluate(ASSUME_ROLE_WITH_WEB_IDENTITY, Principal((issuer.provider_arn,), None), context).is_allowed


CASES = {
    "one statement": policy(statement()),
    "no condition": policy(statement(key=None)),
    "with Sid": policy(statement(Sid="Pods")),
    "Sid of setup role": with_grant(None, TrustGrant(BLUE.provider_arn, BLUE.url, "sts.amazonaws.com", (SUBJECT,))),
    "single statement without list": {"Version": "2012-10-17", "Statement": statement()},
    "key in upper case": policy(statement(key=BLUE_KEY.upper())),
    "list with one provider": policy(statement([BLUE.provider_arn])),
    "list without conditions": policy(statement([BLUE.provider_arn, OTHER], key=None)),
    "list with conditions": policy(statement([BLUE.provider_arn, OTHER])),
    "other statements around": policy(statement(OTHER, "oidc.example.com/other"), statement(), statement(OTHER, None)),
    "pattern": policy(statement(Condition={"StringLike": {f"{BLUE_KEY}:sub": "system:serviceaccount:shop:*"}})),
    "two statements": policy(
        statement(), statement(Sid="Second", Condition={"StringEquals": {f"{BLUE_KEY}:amr": "x"}})
    ),
}


@pytest.mark.parametrize("document", CASES.values(), ids=CASES)
def test_new_cluster_gets_exactly_the_same_access(document: dict[str, Any]) -> None:
    changed = with_cluster(document, BLUE, GREEN)
    for subject in (SUBJECT, "system:serviceaccount:shop:other", "system:serviceaccount:elsewhere:cart"):
        assert accepts(changed, GREEN, subject) == accepts(document, BLUE, subject)
        assert accepts(changed, BLUE, subject) == accepts(document, BLUE, subject)


@pytest.mark.parametrize("document", CASES.values(), ids=CASES)
def test_second_copy_changes_nothing(document: dict[str, Any]) -> None:
    changed = with_cluster(document, BLUE, GREEN)
    assert changed != document
    assert with_cluster(changed, BLUE, GREEN) == changed
    assert list(differing_copies(changed, BLUE, GREEN)) == []


@pytest.mark.parametrize("document", CASES.values(), ids=CASES)
def test_removal_of_the_new_cluster_restores_the_policy(document: dict[str, Any]) -> None:
    restored = without_cluster(with_cluster(document, BLUE, GREEN), GREEN)
    statements = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    assert restored == {**document, "Statement": statements}


@pytest.mark.parametrize("document", CASES.values(), ids=CASES)
def test_sids_stay_unique_and_valid(document: dict[str, Any]) -> None:
    sids = [each["Sid"] for each in with_cluster(document, BLUE, GREEN)["Statement"] if "Sid" in each]
    assert len(set(sids)) == len(sids)
    assert all(sid.isalnum() for sid in sids)


def test_setup_role_recognises_the_copy_of_its_statement() -> None:
    changed = with_cluster(CASES["Sid of setup role"], BLUE, GREEN)
    grant = TrustGrant(GREEN.provider_arn, GREEN.url, "sts.amazonaws.com", (SUBJECT,))
    assert with_grant(changed, grant) == changed


def test_deny_is_copied_so_that_the_new_cluster_is_denied_too() -> None:
    document = policy(statement(key=None), statement(Effect="Deny"))
    changed = with_cluster(document, BLUE, GREEN)
    assert not accepts(changed, GREEN)
    assert accepts(changed, GREEN, "system:serviceaccount:shop:other")


def test_policy_variable_of_the_issuer_is_renamed() -> None:
    condition = {"StringEquals": {"sts:RoleSessionName": f"${{{BLUE_KEY}:sub}}"}}
    changed = with_cluster(policy(statement(Condition=condition)), BLUE, GREEN)
    assert changed["Statement"][1]["Condition"] == {"StringEquals": {"sts:RoleSessionName": f"${{{GREEN_KEY}:sub}}"}}


def test_other_principals_of_a_statement_are_not_copied() -> None:
    mixed = statement(key=None, Principal={"Federated": BLUE.provider_arn, "AWS": "111122223333"})
    changed = with_cluster(policy(mixed), BLUE, GREEN)
    assert changed["Statement"][1]["Principal"] == {"Federated": GREEN.provider_arn}
    assert without_cluster(policy(mixed), BLUE)["Statement"][0]["Principal"] == {"AWS": "111122223333"}


def test_copy_that_somebody_edited_is_reported() -> None:
    document = policy(statement(Sid="Pods"))
    changed = with_cluster(document, BLUE, GREEN)
    changed["Statement"][1] = changed["Statement"][1] | {"Condition": {"StringEquals": {f"{GREEN_KEY}:sub": "x"}}}
    sid = changed["Statement"][1]["Sid"]
    assert list(differing_copies(changed, BLUE, GREEN)) == [f"Statement {sid}"]


def test_last_statement_is_not_removed() -> None:
    with pytest.raises(ConfigurationError, match="only this cluster can assume the role") as caught:
        without_cluster(policy(statement()), BLUE)
    assert caught.value.fix == "Delete the role"


_names = st.sampled_from([BLUE.provider_arn, GREEN.provider_arn, OTHER])
_documents = st.lists(
    st.builds(
        statement,
        st.one_of(_names, st.lists(_names, min_size=1, max_size=3, unique=True)),
        st.sampled_from([None, BLUE_KEY, GREEN_KEY, "oidc.example.com/other"]),
        Effect=st.sampled_from(["Allow", "Allow", "Deny"]),
    ),
    min_size=1,
    max_size=5,
).map(lambda statements: policy(*statements))


@given(_documents)
def test_copy_in_any_policy_changes_only_the_new_cluster(document: dict[str, Any]) -> None:
    before = json.dumps(document)
    changed = with_cluster(document, BLUE, GREEN)
    assert json.dumps(document) == before
    assert with_cluster(changed, BLUE, GREEN) == changed
    other = ClusterIssuer("https://oidc.example.com/other", OTHER)
    for issuer in (BLUE, other):
        assert accepts(changed, issuer) == accepts(document, issuer)
    if GREEN_KEY not in before:
        assert accepts(changed, GREEN) == accepts(document, BLUE)
        assert without_cluster(changed, GREEN)["Statement"] == document["Statement"]
