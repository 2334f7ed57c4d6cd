"""Test that the breadth check finds the other service accounts that a trust policy accepts."""

from typing import Any

import pytest

from sidecar.doctor.checks import trust
from sidecar.doctor.checks.trust import TrustFacts
from sidecar.doctor.finding import Finding, Status, ok
from sidecar.local.strangers import OTHER_NAME
from sidecar.local.trust_policy import default_policy
from tests.unit.doctor.facts import ROLE, TOKEN, by_name

SUBJECT = TOKEN.subject or ""
ISSUER_KEY = (TOKEN.issuer or "").partition("://")[2]
NAMESPACE, ACCOUNT = SUBJECT.split(":")[2:]


def policy_of(*conditions: dict[str, Any], effects: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a trust policy with one statement for each block of conditions on `sub`."""
    statements = default_policy(
        f"arn:aws:iam::111122223333:oidc-provider/{ISSUER_KEY}",
        ISSUER_KEY,
        subject=SUBJECT,
        audience=TOKEN.audience or "",
    )["Statement"]
    audience = {f"{ISSUER_KEY}:aud": TOKEN.audience}
    written = []
    for number, block in enumerate(conditions):
        condition = {operator: {f"{ISSUER_KEY}:sub": wanted} for operator, wanted in block.items()}
        condition["ForAnyValue:StringEquals"] = audience
        effect = effects[number] if effects else "Allow"
        written.append({**statements[0], "Effect": effect, "Condition": condition})
    return {"Version": "2012-10-17", "Statement": written}


def breadth_of(policy: dict[str, Any]) -> Finding:
    facts = TrustFacts(ROLE, TOKEN, "session", policy, 3600, ("sts.amazonaws.com",))
    return by_name(trust.CHECKS, facts)["breadth"]


SA = "system:serviceaccount"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (f"{SA}:{NAMESPACE}:*", f"any service account of the namespace {NAMESPACE}"),
        (f"{SA}:*:{ACCOUNT}", f"service accounts with the name {ACCOUNT} in any namespace"),
        (f"{SA}:{NAMESPACE[0]}*:*", f"any service account of a namespace whose name begins with {NAMESPACE}"),
        (f"{SA}:*{NAMESPACE[-1]}:*", f"any service account of a namespace whose name ends with {NAMESPACE}"),
        (f"{SA}:{NAMESPACE}*:{ACCOUNT}", f"{ACCOUNT} of a namespace whose name begins with {NAMESPACE}"),
        (f"{SA}:*{NAMESPACE}:{ACCOUNT}", f"{ACCOUNT} of a namespace whose name ends with {NAMESPACE}"),
        (f"{SA}:{NAMESPACE}:{ACCOUNT}*", f"service accounts of {NAMESPACE} whose name begins with {ACCOUNT}"),
        (f"{SA}:{NAMESPACE}:*{ACCOUNT[-1]}", f"service accounts of {NAMESPACE} whose name ends with {ACCOUNT}"),
        (f"{SA}:{NAMESPACE}:{ACCOUNT[:-1]}?", "others"),
        (f"{SA}:{NAMESPACE}:{ACCOUNT[0]}*{ACCOUNT[-1]}", "others"),
        (f"{SA}:{NAMESPACE[:-1]}?:{ACCOUNT}", "others"),
        (f"*:{NAMESPACE}:{ACCOUNT}", "others"),
    ],
)
@pytest.mark.parametrize("operator", ["StringLike", "ForAnyValue:StringLike", "StringLikeIfExists"])
def test_finding_describes_the_accounts_a_wildcard_accepts(pattern: str, words: str, operator: str) -> None:
    for wanted in (pattern, [pattern], [f"{SA}:other:one", pattern], [pattern, SUBJECT]):
        finding = breadth_of(policy_of({operator: wanted}))
        assert finding.status is Status.WARNING
        assert words in finding.observed
        assert f"sub may be anything like {pattern}" in finding.observed
        assert f"StringEquals {{{ISSUER_KEY}:sub: {SUBJECT}}}" in finding.next_step


@pytest.mark.parametrize("block", [{"StringLike": "*"}, {"StringLike": f"{SA}:*"}, {"StringLike": "system:*:*:*"}, {}])
def test_policy_for_every_service_account_is_a_warning(block: dict[str, Any]) -> None:
    finding = breadth_of(policy_of(block))
    assert finding.status is Status.WARNING
    assert finding.observed.startswith("any service account of this issuer may assume the role")


@pytest.mark.parametrize(
    "block",
    [
        {"StringEquals": SUBJECT},
        {"StringEqualsIgnoreCase": SUBJECT},
        {"StringLike": SUBJECT},
        {"StringEquals": [SUBJECT, f"{SA}:other:one"]},
        {"StringLike": f"{SA}:{NAMESPACE}:*", "StringEquals": SUBJECT},
        {"StringLike": "*", "ForAllValues:StringEquals": SUBJECT},
    ],
)
def test_policy_for_one_service_account_rejects_others(block: dict[str, Any]) -> None:
    assert breadth_of(policy_of(block)) == ok("no other service account is accepted")


def test_deny_for_all_others_removes_the_warning() -> None:
    wide, deny = {"StringLike": f"{SA}:*"}, {"StringNotEquals": SUBJECT}
    assert breadth_of(policy_of(wide, deny, effects=("Allow", "Deny"))).status is Status.OK


@pytest.mark.parametrize("wanted", [f"{SA}:{NAMESPACE}:{OTHER_NAME}", f"{SA}:kube-system:*"])
def test_negated_condition_is_a_warning(wanted: str) -> None:
    assert breadth_of(policy_of({"StringNotLike": wanted})).status is Status.WARNING


def test_wide_second_statement_is_a_warning() -> None:
    finding = breadth_of(policy_of({"StringEquals": SUBJECT}, {"StringLike": f"{SA}:{NAMESPACE}:*"}))
    assert finding.status is Status.WARNING
    assert "Statement 2 allows it" in finding.observed
