"""The checks turn facts into findings."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import product
from typing import Any

import pytest

from sidecar.doctor.checks import caller, calls, endpoint, environment, exchange, issuer, settings, sts, token, trust
from sidecar.doctor.checks.caller import CallerFacts
from sidecar.doctor.checks.endpoint import EndpointFacts, EndpointResponse
from sidecar.doctor.checks.exchange import ExchangeFacts
from sidecar.doctor.checks.issuer import IssuerFacts
from sidecar.doctor.checks.settings import SettingsFacts
from sidecar.doctor.checks.sts import NetworkPath, StsFacts
from sidecar.doctor.checks.trust import TrustFacts
from sidecar.doctor.finding import Check, Finding, Row, Status, left_out, ok, run_checks, warning, wrong
from sidecar.doctor.location import Side, side
from sidecar.doctor.report import Report, as_json, as_text
from sidecar.doctor.run import GROUPS
from sidecar.errors import ExchangeError, Explanation, NextStep
from sidecar.local.strangers import OTHER_NAME
from sidecar.local.trust_policy import default_policy
from sidecar.oidc.jwks import IssuerError, Published
from sidecar.refresh.schedule import refresh_after_seconds
from sidecar.role import ChainStep, Role
from sidecar.token import decode_token
from tests.support.fakes.clock import EPOCH as NOW
from tests.support.fakes.tokens import service_account_token

ROLE = Role("default", "arn:aws:iam::111122223333:role/app", "/token", None, 3600)
TOKEN = decode_token(service_account_token(NOW).encode(), "/token")
EKS = "https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"


def by_name(checks: Any, facts: Any) -> dict[str, Finding]:
    return dict(run_checks(checks, facts))


# Findings


def test_checks_that_depend_on_a_failure_are_skipped() -> None:
    called: list[str] = []

    def evaluate(name: str, finding: Finding | None, _facts: str) -> Finding | None:
        called.append(name)
        return finding

    findings = {"a": wrong("a is wrong", "fix a"), "b": ok("b"), "c": ok("c"), "d": None, "e": warning("e", "fix e")}
    after = {"b": ("a",), "c": ("b",), "e": ("d",)}
    checks = [
        Check(name, "", partial(evaluate, name, finding), after.get(name, ())) for name, finding in findings.items()
    ]
    found = dict(run_checks(checks, ""))
    assert {name: finding.status for name, finding in found.items()} == {
        "a": Status.WRONG,
        "b": Status.LEFT_OUT,
        "c": Status.LEFT_OUT,
        "e": Status.WARNING,
    }
    assert called == ["a", "d", "e"]


def test_checks_have_unique_names_and_follow_their_dependencies() -> None:
    for group, checks in GROUPS.items():
        names = [check.name for check in checks]
        assert len(set(names)) == len(names), group
        for position, check in enumerate(checks):
            assert set(check.after) <= set(names[:position]), f"{group}.{check.name}"
            assert check.question
            assert not check.question.endswith(("?", "."))


# The side


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Side.NEITHER),
        ({"AWS_REGION": "eu-west-1", "AWS_ROLE_ARN": ""}, Side.NEITHER),
        ({"AWS_ROLE_ARN": "arn"}, Side.SIDECAR),
        ({"IRSA_SIDECAR_CONFIG": "roles.yaml"}, Side.SIDECAR),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1"}, Side.APPLICATION),
        ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2", "AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}, Side.APPLICATION),
    ],
)
def test_side_follows_from_the_environment(environ: dict[str, str], expected: Side) -> None:
    assert side(environ) is expected


# Token


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (45, "45 s"),
        (60, "1 min 0 s"),
        (3600, "1 h"),
        (3905, "1 h 5 min"),
        (90_000, "1 d 1 h"),
        (86_400, "1 d"),
    ],
)
def test_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert token.duration_text(seconds) == text


# Issuer

DNS = IssuerError("dns", EKS, "oidc.eks.eu-west-1.amazonaws.com does not resolve here")


def issuer_facts(**changes: Any) -> IssuerFacts:
    facts = IssuerFacts(EKS, "k1", "RS256", is_aws=True)
    return facts._replace(**changes)


def test_eks_issuer_hidden_by_a_vpc_never_fails() -> None:
    for succeeded, status in ((True, Status.OK), (False, Status.WARNING), (None, Status.WARNING)):
        found = by_name(issuer.CHECKS, issuer_facts(error=DNS, exchange_succeeded=succeeded))
        assert set(found) == {"url", "documents"}
        assert found["documents"].status is status
        assert "its private zone hides this name. STS uses the internet" in found["documents"].seen


def test_issuer_unreachable_for_sts_and_here_is_a_failure() -> None:
    found = by_name(issuer.CHECKS, issuer_facts(error=DNS, exchange_succeeded=False, sts_cannot_get_keys=True))
    assert found["documents"].status is Status.WRONG
    assert "STS cannot get the issuer's keys, and neither can this machine" in found["documents"].seen


def test_key_that_only_sts_has_is_a_warning() -> None:
    found = by_name(issuer.CHECKS, issuer_facts(published=Published([{"kid": "k2"}]), exchange_succeeded=True))
    assert found["key"].status is Status.WARNING
    assert "the token's kid is k1; the issuer publishes k2; STS still has the key" in found["key"].seen


def test_algorithm_missing_in_the_document_is_a_warning() -> None:
    published = Published([{"kid": "k1"}], algorithms=("ES256",))
    found = by_name(issuer.CHECKS, issuer_facts(published=published, signature_error=""))
    assert found["key"].status is Status.WARNING
    assert found["verification"].status is Status.OK


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://oidc.example.com", "which is not https"),
        ("https://oidc.example.com:443", "which has a port"),
        ("https://oidc.example.com/?a", "which has a query"),
        ("https://oidc.example.com/" + "a" * 250, "which is longer than 255"),
        ("https://kubernetes.default", "a name that only the cluster resolves"),
        ("https://10.0.0.1:99999", "which is not a URL"),
    ],
)
def test_issuer_url_that_iam_rejects_has_a_reason(url: str, words: str) -> None:
    assert words in by_name(issuer.CHECKS, issuer_facts(issuer=url))["url"].seen
    assert by_name(issuer.CHECKS, issuer_facts(issuer=url, is_aws=False))["url"].status is Status.OK


# STS

REACHED = NetworkPath("https://sts.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com", addresses=("10.0.1.2",))


def test_private_addresses_mean_an_interface_endpoint() -> None:
    assert "private: an interface endpoint in this VPC" in by_name(sts.CHECKS, StsFacts(REACHED))["name"].seen
    public = REACHED._replace(addresses=("10.0.1.2", "52.1.2.3"))
    assert "private" not in by_name(sts.CHECKS, StsFacts(public))["name"].seen


@pytest.mark.parametrize("step", sts.STEPS)
def test_failed_step_is_a_warning_if_the_exchange_succeeded(step: str) -> None:
    path = REACHED._replace(failed_step=step, reason="some reason", proxy="proxy:3128")
    for succeeded, status in ((False, Status.WRONG), (True, Status.WARNING)):
        found = by_name(sts.CHECKS, StsFacts(path, exchange_succeeded=succeeded))
        assert [name for name, finding in found.items() if finding.status is status] == [step]
        assert "some reason" in found[step].seen


@pytest.mark.parametrize(
    ("skew", "status"), [(0.4, Status.OK), (-59, Status.OK), (61, Status.WARNING), (-301, Status.WRONG)]
)
def test_clock_skew_decides_the_status(skew: float, status: Status) -> None:
    assert by_name(sts.CHECKS, StsFacts(REACHED._replace(skew_seconds=skew)))["clock"].status is status


def test_slow_connection_is_a_warning() -> None:
    slow = REACHED._replace(seconds=(("connect", 2.0),))
    assert by_name(sts.CHECKS, StsFacts(slow))["connect"].status is Status.WARNING


# Exchange


def rejected(code: str, message: str, **changes: Any) -> Finding:
    error = ExchangeError(code, message, NextStep.WAIT, status=400)
    facts = ExchangeFacts(ROLE, TOKEN, "k1", 3600, "sts.example", error=error)
    return by_name(exchange.CHECKS, facts._replace(**changes))["granted"]


NOT_VALIDATED = "The web identity token provided could not be validated."
NO_KEY = "Couldn't retrieve verification key from your identity provider"


@pytest.mark.parametrize(
    ("code", "message", "known", "words"),
    [
        ("InvalidIdentityToken", NOT_VALIDATED, {"client_ids": ("sts.amazonaws.com",)}, "so STS rejects the signature"),
        ("InvalidIdentityToken", NOT_VALIDATED, {"client_ids": ()}, "the provider accepts none"),
        ("InvalidIdentityToken", NO_KEY, {"kids": ("k2", "k3")}, "the token's kid is k1, and https://oidc.example.com"),
        ("InvalidIdentityToken", NO_KEY, {"kids": ("k1",)}, "STS cannot get the keys of https://oidc.example.com/id/A"),
        ("InvalidIdentityToken", "Something new", {}, "STS returns InvalidIdentityToken: Something new"),
        ("ExpiredTokenException", "Token expired", {}, "exp is 2027-01-15T09:00:00Z. STS returns ExpiredToken"),
        ("OptInRequired", "no", {}, "sts.example does not serve account 111122223333"),
        ("ValidationError", "1 validation error", {}, "STS returns ValidationError"),
        ("SomethingNew", "unheard of", {}, "STS returns SomethingNew: unheard of"),
    ],
)
def test_sts_code_is_explained_from_the_known_facts(code: str, message: str, known: dict[str, Any], words: str) -> None:
    finding = rejected(code, message, **known)
    assert words in finding.seen
    assert finding.next_step


@pytest.mark.parametrize(
    ("aud", "azp", "client_ids", "words"),
    [
        (("app-2",), "party-1", ("sts.amazonaws.com", "app-2"), "azp is party-1; the provider accepts"),
        (("other",), "app-2", ("app-2",), "azp is app-2, which the provider accepts, so STS rejects the signature"),
        (("app-2",), "party-1", None, "azp is party-1, and STS rejects the token"),
        (("app-2",), "", ("app-2",), "the token's azp is empty"),
        (("app-2", "app-3"), None, ("app-2", "app-3"), "several audiences (app-2, app-3) and no azp"),
        (("app-2",), None, ("app-2",), "aud is app-2, which the provider accepts"),
    ],
)
def test_rejected_audience_is_explained(
    aud: tuple[str, ...], azp: str | None, client_ids: tuple[str, ...] | None, words: str
) -> None:
    token = replace(TOKEN, audiences=aud, authorized_party=azp)
    error = ExchangeError("InvalidIdentityToken", "It could not be validated", NextStep.WAIT, status=400)
    facts = ExchangeFacts(ROLE, token, "k1", 3600, "sts.example", error=error, client_ids=client_ids)
    assert words in by_name(exchange.CHECKS, facts)["granted"].seen


@pytest.mark.parametrize(
    ("azp", "client_ids", "provider", "policy"),
    [
        ("app-2", ("app-2",), Status.OK, Status.OK),
        ("party-1", ("sts.amazonaws.com", "app-2"), Status.WRONG, Status.WRONG),
        ("", ("", "app-2"), Status.LEFT_OUT, Status.WRONG),
    ],
)
def test_provider_and_policy_are_compared_with_azp(
    azp: str, client_ids: tuple[str, ...], provider: Status, policy: Status
) -> None:
    document = default_policy(
        PROVIDER, "oidc.example.com/id/A", subject="system:serviceaccount:shop:cart", audience="app-2"
    )
    token = replace(TOKEN, audiences=("https://other.example",), authorized_party=azp)
    found = by_name(trust.CHECKS, trust_facts(token=token, policy=document, client_ids=client_ids))
    assert (found["provider"].status, found["policy"].status) == (provider, policy)


def test_denial_by_another_policy_names_that_policy() -> None:
    message = (
        "Not authorized to perform sts:AssumeRoleWithWebIdentity with an explicit deny in a resource control policy"
    )
    finding = rejected("AccessDenied", message, policy_mismatch="the trust policy does not allow this")
    assert "trust policy" not in finding.seen
    assert "resource control policy (RCP)" in finding.next_step


def test_short_sessions_are_a_warning() -> None:
    issued = exchange.Issued("ASIA", datetime.fromtimestamp(NOW + 900, UTC), 0.1)
    facts = ExchangeFacts(ROLE, TOKEN, "k1", 900, "sts.example", issued=issued)
    assert by_name(exchange.CHECKS, facts)["duration"].status is Status.WARNING


# Trust policy

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
        facts = trust_facts(token=replace(TOKEN, **changed), client_ids=("sts.amazonaws.com", "vault"))
        found = by_name(trust.CHECKS, facts)["policy"]
        assert found.status is Status.WRONG
        assert f"id/A:{claim[:3]} wants" in found.seen
        assert trust.policy_mismatch(facts) is not None


def test_missing_role_or_provider_is_a_failure() -> None:
    found = by_name(trust.CHECKS, trust_facts(has_provider=False, client_ids=None))
    assert found["provider"].seen == f"{PROVIDER} does not exist"
    assert (
        by_name(trust.CHECKS, trust_facts(policy=None, client_ids=None, has_role=False))["policy"].status
        is Status.WRONG
    )
    partly = by_name(trust.CHECKS, trust_facts(client_ids=None, unavailable_reason="AccessDenied"))
    assert partly["provider"].status is Status.LEFT_OUT


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
    "a deny by NotPrincipal": {
        "Sid": "Other",
        "Effect": "Deny",
        "NotPrincipal": {"AWS": "arn:aws:iam::111122223333:role/x"},
        "Action": "sts:AssumeRole",
    },
}


@pytest.mark.parametrize("other", UNRELATED_STATEMENTS.values(), ids=UNRELATED_STATEMENTS)
def test_unrelated_statement_hides_no_finding(other: dict[str, object]) -> None:
    wrong = {**CART["Statement"][0], "Sid": "Irsa"}
    wrong["Condition"] = {"StringEquals": {"oidc.example.com/id/A:sub": "system:serviceaccount:shop:till"}}
    for order in ([wrong, other], [other, wrong]):
        facts = trust_facts(policy={"Version": "2012-10-17", "Statement": order})
        found = by_name(trust.CHECKS, facts)
        assert found["policy"].status is Status.WRONG
        assert "Statement Irsa: Condition StringEquals" in found["policy"].seen
        assert "Other" not in found["policy"].seen
        assert trust.policy_mismatch(facts) is not None
    found = by_name(
        trust.CHECKS, trust_facts(policy={"Version": "2012-10-17", "Statement": [other, *CART["Statement"]]})
    )
    assert {finding.status for finding in found.values()} == {Status.OK}


def test_unknown_statement_counts_only_if_it_decides() -> None:
    unknown = statement_of({"Federated": PROVIDER}, "sts:*", {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    policy = {"Version": "2012-10-17", "Statement": [unknown, *CART["Statement"]]}
    assert by_name(trust.CHECKS, trust_facts(policy=policy))["policy"].status is Status.OK
    for statements in (
        [unknown],
        [{**unknown, "Effect": "Deny"}, *CART["Statement"]],
        [*CART["Statement"], "nonsense"],
    ):
        facts = trust_facts(policy={"Version": "2012-10-17", "Statement": statements})
        finding = by_name(trust.CHECKS, facts)["policy"]
        assert finding.status is Status.LEFT_OUT
        assert "a part of the trust policy cannot be evaluated" in finding.seen
        assert trust.policy_mismatch(facts) is None
        assert finding.seen.count("Statement ") == 1


SUBJECT = TOKEN.subject or ""
ISSUER_KEY = (TOKEN.issuer or "").partition("://")[2]
NAMESPACE, ACCOUNT = SUBJECT.split(":")[2:]


def policy_of(*conditions: dict[str, Any], effects: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a trust policy with a statement for each block of conditions on `sub`."""
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
def test_wildcard_in_sub_names_who_else_is_accepted(pattern: str, words: str, operator: str) -> None:
    for wanted in (pattern, [pattern], [f"{SA}:other:one", pattern], [pattern, SUBJECT]):
        finding = breadth_of(policy_of({operator: wanted}))
        assert finding.status is Status.WARNING
        assert words in finding.seen
        assert f"sub may be anything like {pattern}" in finding.seen
        assert f"StringEquals {{{ISSUER_KEY}:sub: {SUBJECT}}}" in finding.next_step


@pytest.mark.parametrize("block", [{"StringLike": "*"}, {"StringLike": f"{SA}:*"}, {"StringLike": "system:*:*:*"}, {}])
def test_policy_for_every_service_account_is_a_warning(block: dict[str, Any]) -> None:
    finding = breadth_of(policy_of(block))
    assert finding.status is Status.WARNING
    assert finding.seen.startswith("any service account of this issuer may assume the role")


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


def test_deny_of_all_others_rejects_them() -> None:
    wide, deny = {"StringLike": f"{SA}:*"}, {"StringNotEquals": SUBJECT}
    assert breadth_of(policy_of(wide, deny, effects=("Allow", "Deny"))).status is Status.OK


@pytest.mark.parametrize("wanted", [f"{SA}:{NAMESPACE}:{OTHER_NAME}", f"{SA}:kube-system:*"])
def test_negated_condition_accepts_others(wanted: str) -> None:
    assert breadth_of(policy_of({"StringNotLike": wanted})).status is Status.WARNING


def test_wide_second_statement_is_found() -> None:
    finding = breadth_of(policy_of({"StringEquals": SUBJECT}, {"StringLike": f"{SA}:{NAMESPACE}:*"}))
    assert finding.status is Status.WARNING
    assert "Statement 2 allows it" in finding.seen


def test_session_longer_than_the_role_allows_is_a_failure() -> None:
    longer = trust_facts(role=ROLE._replace(duration_seconds=7200))
    assert by_name(trust.CHECKS, longer)["session"].status is Status.WRONG
    longest = trust_facts(role=ROLE._replace(duration_seconds=None))
    assert by_name(trust.CHECKS, longest)["session"].status is Status.OK


# Endpoint

SERVED = EndpointResponse(
    200,
    seconds=0.01,
    fields=frozenset(endpoint.KNOWN_FIELDS),
    expiration="2027-01-15T09:00:00Z",
    expires_at=NOW + 3600,
    access_key_id="ASIA",
    role_arn=ROLE.role_arn,
)


def endpoint_facts(url: str = "http://127.0.0.1:4772/v1/credentials", **changes: Any) -> EndpointFacts:
    facts = EndpointFacts(url, "AWS_CONTAINER_CREDENTIALS_FULL_URI", is_expected=True, now=NOW, response=SERVED)
    return facts._replace(**changes)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://127.0.0.1:4772/v1", Status.OK),
        ("https://anywhere.example/v1", Status.OK),
        ("http://localhost:4772/v1", Status.WARNING),
        ("http://127.0.0.2:4772/v1", Status.WARNING),
        ("http://[::1]:4772/v1", Status.WARNING),
        ("http://10.0.0.1/v1", Status.WRONG),
        ("http://169.254.170.2/v2", Status.WRONG),
        ("", Status.WRONG),
        ("127.0.0.1:4772", Status.WRONG),
        ("https://127.0.0.1:4772/v1/credentials", Status.WRONG),
        ("https://localhost:4772/v1/credentials", Status.WRONG),
        ("HTTPS://[::1]:4772/v1/credentials", Status.WRONG),
        ("https://127.9.9.9/v1/credentials", Status.WRONG),
        ("http://[::1", Status.WRONG),
        ("http://127.0.0.1:99999", Status.WRONG),
    ],
)
def test_address_status_follows_what_sdks_accept(url: str, status: Status) -> None:
    assert by_name(endpoint.CHECKS, endpoint_facts(url))["address"].status is status


def test_shown_url_has_no_user_and_no_query() -> None:
    assert endpoint.shown("http://user:password@127.0.0.1:1/v1?token=secret") == "http://127.0.0.1:1/v1"
    assert endpoint.shown("http://[::1") == "(a URL that cannot be read)"


@pytest.mark.parametrize(
    ("changes", "check", "status"),
    [
        ({"expires_at": NOW + 600}, "remaining", Status.WARNING),
        ({"expires_at": NOW}, "remaining", Status.WRONG),
        ({"expires_at": None}, "remaining", Status.WRONG),
        ({"seconds": 0.6}, "latency", Status.WARNING),
        ({"seconds": 0.8, "status": 503}, "latency", Status.LEFT_OUT),  # delayed until the first credentials
        ({"role_arn": "arn:aws:iam::111122223333:role/other"}, "role", Status.WRONG),
        ({"fields": SERVED.fields | {"Code"}}, "credentials", Status.WARNING),
        ({"empty": ("Token",)}, "credentials", Status.WRONG),
        ({"error": "it broke off"}, "connection", Status.WRONG),
        ({"status": 500}, "credentials", Status.WRONG),
    ],
)
def test_response_status_follows_what_sdks_do(changes: dict[str, Any], check: str, status: Status) -> None:
    facts = endpoint_facts(response=SERVED._replace(**changes), role_arn=ROLE.role_arn)
    assert by_name(endpoint.CHECKS, facts)[check].status is status


# Caller, environment, calls


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"arn": "arn:aws:sts::111122223333:assumed-role/app/shop.cart"}, Status.OK),
        ({"arn": "arn:aws:sts::111122223333:assumed-role/other/shop.cart"}, Status.WRONG),
        ({"arn": "arn:aws:iam::111122223333:root"}, Status.WRONG),
        ({"code": "SignatureDoesNotMatch", "error": "no"}, Status.WRONG),
        ({"code": "SomethingNew", "error": "no"}, Status.WRONG),
        ({"error": "no connection"}, Status.LEFT_OUT),
        ({"skipped": "needs botocore"}, Status.LEFT_OUT),
    ],
)
def test_caller_must_be_the_role(changes: dict[str, str], status: Status) -> None:
    facts = CallerFacts("that the endpoint serves", ROLE.role_arn)._replace(**changes)
    assert by_name(caller.CHECKS, facts)["caller"].status is status


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"AWS_REGION": "a", "AWS_DEFAULT_REGION": "a"}, Status.OK),
        ({"AWS_REGION": "a"}, Status.WARNING),
        ({"AWS_DEFAULT_REGION": "a"}, Status.WARNING),
        ({}, Status.WARNING),
    ],
)
def test_region_needs_both_variables(environ: dict[str, str], status: Status) -> None:
    assert by_name(environment.CHECKS, environment.EnvironmentFacts(environ))["region"].status is status
    in_file = environment.EnvironmentFacts(environ, has_region_file=True)
    assert by_name(environment.CHECKS, in_file)["region"].status is Status.OK


@pytest.mark.parametrize(("seconds", "chain"), list(product([900, 3600, 7200, 43_200], [0, 2])))
def test_calls_per_day_follow_the_refresh_schedule(seconds: int, chain: int) -> None:
    expected = round(86_400 / refresh_after_seconds(seconds, 0.5)) * (1 + chain)
    assert calls.calls_per_day(seconds, chain) == expected


def test_chain_costs_one_call_per_step_of_the_last_session() -> None:
    step = ChainStep("arn:aws:iam::444455556666:role/other")
    counts = calls.by_duration([ROLE._replace(duration_seconds=None, chain=(step,)), ROLE])
    assert str(counts["configured"]) == str(2 * 48 + 48)
    assert calls.by_duration([]) == {}


def test_loopback_must_be_in_no_proxy() -> None:
    for exempt, status in (("127.0.0.1,.svc", Status.OK), ("*", Status.OK), ("localhost", Status.WARNING)):
        facts = environment.EnvironmentFacts({"HTTP_PROXY": "http://proxy", "NO_PROXY": exempt})
        assert by_name(environment.CHECKS, facts)["no_proxy"].status is status


def test_token_readable_by_the_application_is_a_warning() -> None:
    facts = environment.EnvironmentFacts({}, tokens=("/var/run/secrets/irsa-sidecar/token",))
    assert by_name(environment.CHECKS, facts)["token"].status is Status.WARNING


def test_suspicious_settings_are_warnings() -> None:
    facts = SettingsFacts((ROLE,), "eu-west-1", "http://sts.example", names_role=True, problems=())
    assert by_name(settings.CHECKS, facts)["encryption"].status is Status.WARNING
    misspelt = facts._replace(
        unknown_variables=(Explanation("IRSA_SIDECAR_LISTN is not a setting", "Correct its name"),)
    )
    assert by_name(settings.CHECKS, misspelt)["names"].status is Status.WARNING


# Reports


def test_report_without_failure_counts_the_warnings() -> None:
    for count, words in (
        (0, "Nothing wrong found."),
        (1, "Nothing wrong found; 1 warning."),
        (2, "Nothing wrong found; 2 warnings."),
    ):
        rows = tuple(Row("token", f"check{n}", warning("odd", "fix it")) for n in range(count))
        assert as_text(Report(Side.SIDECAR, rows, {}), width=80, colours=False).startswith(words)
    skipped = Report(Side.SIDECAR, (Row("token", "file", left_out("no")),), {})
    text = as_text(skipped, width=80, colours=False)
    assert text.startswith("Nothing wrong found; 1 check could not be made (--verbose lists them).")
    assert "token.file" not in text
    listed = as_text(skipped, width=80, colours=False, is_verbose=True)
    assert listed.startswith("Nothing wrong found; 1 check could not be made.")
    assert "token.file" in listed


def test_report_shows_the_id_of_each_check() -> None:
    rows = (Row("token", "file", wrong("it is gone", "Bring it back")), Row("sts", "name", ok("resolves")))
    text = as_text(Report(Side.SIDECAR, rows, {}), width=80, colours=False)
    assert "See: token.file in docs/doctor.md" in text
    assert "sts.name" in text


def test_only_status_words_are_coloured() -> None:
    rows = (Row("token", "file", wrong("it is gone", "Bring it back"), "default"), Row("sts", "name", left_out("no")))
    report = Report(Side.SIDECAR, rows, {})
    coloured = as_text(report, width=80, colours=True)
    assert "\x1b[1;31mWRONG\x1b[0m" in coloured
    plain = as_text(report, width=80, colours=False)
    assert "Wrong (token of role default): it is gone." in plain
    assert '"role": "default"' in as_json(report)
