"""Test how the trust checks turn facts from IAM into findings, and whether they call IAM."""

from typing import Any

import pytest

from sidecar.doctor.checks import trust
from sidecar.doctor.checks.trust import TrustFacts
from sidecar.doctor.finding import Status
from sidecar.doctor.probes import trust as probe
from sidecar.local.trust_policy import default_policy
from tests.unit.doctor.facts import ROLE, TOKEN, by_name


@pytest.mark.parametrize(
    ("azp", "client_ids", "provider", "policy"),
    [
        ("app-2", ("app-2",), Status.OK, Status.OK),
        ("party-1", ("sts.amazonaws.com", "app-2"), Status.FAILED, Status.FAILED),
        ("", ("", "app-2"), Status.SKIPPED, Status.FAILED),
    ],
)
def test_provider_and_policy_are_compared_with_azp(
    azp: str, client_ids: tuple[str, ...], provider: Status, policy: Status
) -> None:
    document = default_policy(
        PROVIDER, "oidc.example.com/id/A", subject="system:serviceaccount:shop:cart", audience="app-2"
    )
    token = TOKEN._replace(audiences=("https://other.example",), authorized_party=azp)
    found = by_name(trust.CHECKS, trust_facts(token=token, policy=document, client_ids=client_ids))
    assert (found["provider"].status, found["policy"].status) == (provider, policy)


PROVIDER = "arn:aws:iam::111122223333:oidc-provider/oidc.example.com/id/A"
CART = default_policy(
    PROVIDER, "oidc.example.com/id/A", subject="system:serviceaccount:shop:cart", audience="sts.amazonaws.com"
)


def trust_facts(**changes: Any) -> TrustFacts:
    facts = TrustFacts(ROLE, TOKEN, "shop.cart", CART, 3600, ("sts.amazonaws.com",))
    return facts._replace(**changes)


def test_policy_is_compared_with_each_claim() -> None:
    assert {finding.status for finding in by_name(trust.CHECKS, trust_facts()).values()} == {Status.OK}
    for claim, value in (("subject", "system:serviceaccount:shop:other"), ("audiences", ("vault",))):
        changed: dict[str, Any] = {claim: value}
        facts = trust_facts(token=TOKEN._replace(**changed), client_ids=("sts.amazonaws.com", "vault"))
        found = by_name(trust.CHECKS, facts)["policy"]
        assert found.status is Status.FAILED
        assert f"id/A:{claim[:3]} wants" in found.observed
        assert trust.policy_mismatch(facts) is not None


def test_missing_role_or_provider_is_a_failure() -> None:
    found = by_name(trust.CHECKS, trust_facts(has_provider=False, client_ids=None))
    assert found["provider"].observed == f"the IAM OIDC provider {PROVIDER} does not exist"
    assert (
        by_name(trust.CHECKS, trust_facts(policy=None, client_ids=None, has_role=False))["policy"].status
        is Status.FAILED
    )
    partly = by_name(trust.CHECKS, trust_facts(client_ids=None, unavailable_reason="AccessDenied"))
    assert partly["provider"].status is Status.SKIPPED


def statement_of(principal: object, action: object, condition: object, effect: str = "Allow") -> dict[str, object]:
    return {"Sid": "Other", "Effect": effect, "Principal": principal, "Action": action, "Condition": condition}


UNRELATED_STATEMENTS: dict[str, dict[str, object]] = {
    "Pod Identity": statement_of(
        {"Service": "pods.eks.amazonaws.com"},
        ["sts:AssumeRole", "sts:TagSession"],
        {"StringEquals": {"aws:RequestTag/kubernetes-namespace": "shop"}},
    ),
    "Pod Identity of one cluster": statement_of(
        {"Service": "pods.eks.amazonaws.com"}, "sts:AssumeRole", {"ArnEquals": {"aws:SourceArn": "arn:aws:eks:::x"}}
    ),
    "an organization": statement_of({"AWS": "*"}, "sts:AssumeRole", {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}),
    "MFA": statement_of(
        {"AWS": "arn:aws:iam::111122223333:root"}, "sts:AssumeRole", {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    ),
    "GitHub": statement_of(
        {"Federated": "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"},
        "sts:AssumeRoleWithWebIdentity",
        {"StringLike": {"token.actions.githubusercontent.com:repository": "acme/*"}},
    ),
    "SAML": statement_of(
        {"Federated": "arn:aws:iam::111122223333:saml-provider/corp"},
        "sts:AssumeRoleWithSAML",
        {"StringEquals": {"SAML:aud": "https://signin.aws.amazon.com/saml"}},
    ),
    "MFA as a boolean": statement_of(
        {"AWS": "arn:aws:iam::111122223333:root"}, "sts:AssumeRole", {"Bool": {"aws:MultiFactorAuthPresent": True}}
    ),
    "a number": statement_of(
        {"AWS": "111122223333"}, "sts:AssumeRole", {"NumericLessThan": {"aws:MultiFactorAuthAge": [3600]}}
    ),
    "an operator in lower case": statement_of({"AWS": "*"}, "sts:Assume*e", {"stringequals": {"sts:ExternalId": "x"}}),
    "an unknown operator": statement_of({"Service": "a.b"}, "*", {"StringMatches": {"sts:ExternalId": "x"}}),
    "an empty value": statement_of({"AWS": "111122223333"}, "sts:AssumeRole", {"StringEquals": {"sts:ExternalId": ""}}),
    "a condition that is null": statement_of({"AWS": "111122223333"}, ["sts:AssumeRole"], None),
    "a pattern of roles": statement_of({"AWS": "arn:aws:iam::111122223333:role/a*"}, "*", {}),
    "another type of principal": statement_of({"CanonicalUser": "*"}, "sts:*", {}),
    "every service": statement_of({"Service": ["*"]}, "sts:*", {}),
    "another provider and a number": statement_of(
        {"Federated": [f"{PROVIDER}2"]}, "sts:AssumeRoleWithWebIdentity", {"NumericEquals": {"a:b": 5}}
    ),
    "an action that is not of STS": statement_of({"AWS": "*"}, ["sts:AssumeRole", "ec2:*"], {}),
    "a resource": {**statement_of({"Federated": "*"}, "sts:AssumeRoleWithSAML", {}), "Resource": "*"},
    "an unreadable NotAction": {
        "Sid": "Other",
        "Effect": "Allow",
        "Principal": "*",
        "NotAction": ["sts:AssumeRoleWith*", "ec2:*"],
    },
    "a deny with a boolean": statement_of("*", "sts:TagSession", {"Null": {"aws:TagKeys": True}}, "Deny"),
    "a deny by NotPrincipal": {
        "Sid": "Other",
        "Effect": "Deny",
        "NotPrincipal": {"AWS": "arn:aws:iam::111122223333:role/x"},
        "Action": "sts:AssumeRole",
    },
}


@pytest.mark.parametrize("other", UNRELATED_STATEMENTS.values(), ids=UNRELATED_STATEMENTS)
def test_unrelated_statement_hides_no_finding(other: dict[str, object]) -> None:
    rejecting = {**CART["Statement"][0], "Sid": "Irsa"}
    rejecting["Condition"] = {"StringEquals": {"oidc.example.com/id/A:sub": "system:serviceaccount:shop:till"}}
    for order in ([rejecting, other], [other, rejecting]):
        facts = trust_facts(policy={"Version": "2012-10-17", "Statement": order})
        found = by_name(trust.CHECKS, facts)
        assert found["policy"].status is Status.FAILED
        assert "Statement Irsa: Condition StringEquals" in found["policy"].observed
        assert "Other" not in found["policy"].observed
        assert trust.policy_mismatch(facts) is not None
    found = by_name(
        trust.CHECKS, trust_facts(policy={"Version": "2012-10-17", "Statement": [other, *CART["Statement"]]})
    )
    assert {finding.status for finding in found.values()} == {Status.OK}


def test_unevaluated_statement_is_reported_if_it_decides() -> None:
    unknown = statement_of({"Federated": PROVIDER}, "sts:*", {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    policy = {"Version": "2012-10-17", "Statement": [unknown, *CART["Statement"]]}
    assert by_name(trust.CHECKS, trust_facts(policy=policy))["policy"].status is Status.OK
    for statements in (
        [unknown],
        [{**unknown, "Effect": "Deny"}, *CART["Statement"]],
        [*CART["Statement"], "nonsense"],
        [{**unknown, "Principal": {"Federated": f"{PROVIDER[:40]}*"}}],
        [{**unknown, "Principal": {"AWS": 5}}],
        [{**unknown, "Action": 5}],
        [{**unknown, "NotAction": "sts:*"}],
        [{**unknown, "Effect": "Deny", "Principal": "x"}, *CART["Statement"]],
    ):
        facts = trust_facts(policy={"Version": "2012-10-17", "Statement": statements})
        finding = by_name(trust.CHECKS, facts)["policy"]
        assert finding.status is Status.SKIPPED
        assert "a part of the trust policy cannot be evaluated" in finding.observed
        assert trust.policy_mismatch(facts) is None
        assert finding.observed.count("Statement ") == 1


@pytest.mark.parametrize("operator", ["stringEquals", "STRINGLIKE", "foranyvalue:stringlikeifexists"])
def test_operator_in_any_case_is_evaluated(operator: str) -> None:
    for subject, status in (("cart", Status.OK), ("till", Status.FAILED)):
        condition = {operator: {"oidc.example.com/id/A:sub": f"system:serviceaccount:shop:{subject}"}}
        policy = {"Statement": {**CART["Statement"][0], "Condition": condition}}
        assert by_name(trust.CHECKS, trust_facts(policy=policy))["policy"].status is status


def test_operator_twice_in_different_cases_is_unknown() -> None:
    condition = {"StringEquals": {"a:sub": "x"}, "stringequals": {"a:aud": "y"}}
    policy = {"Statement": {**CART["Statement"][0], "Condition": condition}}
    assert by_name(trust.CHECKS, trust_facts(policy=policy))["policy"].status is Status.SKIPPED


def _in_vpc(effect: str = "Allow", operator: str = "StringEquals") -> dict[str, object]:
    statement = CART["Statement"][0]
    condition = {"StringEquals": {**statement["Condition"]["StringEquals"]}}
    condition.setdefault(operator, {})["aws:SourceVpce"] = "vpce-1"
    return {"Version": "2012-10-17", "Statement": [{**statement, "Effect": effect, "Condition": condition}]}


def test_condition_on_the_network_is_not_a_rejection() -> None:
    facts = trust_facts(policy=_in_vpc(), exchange_succeeded=True)
    found = by_name(trust.CHECKS, facts)
    assert {found["policy"].status, found["breadth"].status} == {Status.OK}
    assert "allows it if aws:SourceVpce is vpce-1" in found["policy"].observed


def test_failed_exchange_names_the_condition_on_the_network() -> None:
    facts = trust_facts(policy=_in_vpc())
    finding = by_name(trust.CHECKS, facts)["policy"]
    assert finding.status is Status.WARNING
    assert "VPC endpoint" in (finding.next_step or "")
    assert trust.policy_mismatch(facts) == "the trust policy allows this only if aws:SourceVpce is vpce-1"


def test_statement_without_a_network_condition_is_preferred() -> None:
    document = {"Version": "2012-10-17", "Statement": [*_in_vpc()["Statement"], *CART["Statement"]]}  # type: ignore[misc]
    facts = trust_facts(policy=document)
    assert by_name(trust.CHECKS, facts)["policy"].status is Status.OK
    assert trust.policy_mismatch(facts) is None


def test_deny_by_network_stays_unknown() -> None:
    deny = _in_vpc("Deny", "StringNotEquals")["Statement"]
    facts = trust_facts(policy={"Version": "2012-10-17", "Statement": [*CART["Statement"], *deny]})  # type: ignore[misc]
    assert by_name(trust.CHECKS, facts)["policy"].status is Status.SKIPPED


def test_wide_pattern_is_found_behind_a_condition_on_the_network() -> None:
    statement = statement_of(
        {"Federated": PROVIDER},
        "sts:AssumeRoleWithWebIdentity",
        {
            "StringLike": {"oidc.example.com/id/A:sub": "system:serviceaccount:*"},
            "StringEquals": {"aws:SourceVpc": "vpc-1"},
        },
    )
    facts = trust_facts(policy={"Version": "2012-10-17", "Statement": [statement]})
    assert by_name(trust.CHECKS, facts)["breadth"].status is Status.WARNING


@pytest.mark.parametrize(("pattern", "status"), [("shop.*", Status.OK), ("till.*", Status.FAILED)])
def test_session_name_is_compared_with_the_condition(pattern: str, status: Status) -> None:
    statement = {**CART["Statement"][0]}
    statement["Condition"] = {**statement["Condition"], "StringLike": {"sts:RoleSessionName": pattern}}
    facts = trust_facts(policy={"Version": "2012-10-17", "Statement": [statement]}, session_name="shop.cart-0")
    finding = by_name(trust.CHECKS, facts)["policy"]
    assert finding.status is status
    assert ("sts:RoleSessionName wants till.*, the request has shop.cart-0" in finding.observed) is (
        status is Status.FAILED
    )


def test_session_longer_than_the_role_allows_is_a_failure() -> None:
    longer = trust_facts(role=ROLE._replace(duration_seconds=7200))
    assert by_name(trust.CHECKS, longer)["session"].status is Status.FAILED
    longest = trust_facts(role=ROLE._replace(duration_seconds=None))
    assert by_name(trust.CHECKS, longest)["session"].status is Status.OK


# The probe


@pytest.mark.parametrize(
    ("sts_url", "reason"),
    [
        ("https://vpce-1.sts.eu-west-1.vpce.amazonaws.com", "there are no credentials to call IAM with"),
        ("https://sts.eu-west-1.api.aws", "there are no credentials to call IAM with"),
        ("https://sts.example.com", "AWS_ENDPOINT_URL_IAM is not set"),
        ("https://amazonaws.com.example.com", "AWS_ENDPOINT_URL_IAM is not set"),
    ],
)
async def test_iam_of_aws_belongs_to_an_sts_endpoint_of_aws(sts_url: str, reason: str) -> None:
    environ = {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_STS": sts_url}
    assert reason in str((await probe.collect(environ, trust_facts(), None)).unavailable_reason)
