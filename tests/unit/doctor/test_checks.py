"""Test how the checks turn facts into findings."""

from functools import partial
from itertools import product
from typing import Any

import pytest

from sidecar.doctor.checks import caller, calls, environment, issuer, settings, sts, token
from sidecar.doctor.checks.caller import CallerFacts
from sidecar.doctor.checks.issuer import IssuerFacts
from sidecar.doctor.checks.settings import SettingsFacts
from sidecar.doctor.checks.sts import NetworkPath, StsFacts
from sidecar.doctor.finding import Check, Finding, Status, failed, ok, run_checks, warning
from sidecar.doctor.location import Side, side
from sidecar.doctor.run import GROUPS
from sidecar.errors import Explanation
from sidecar.oidc.jwks import IssuerError, Published
from sidecar.refresh.schedule import refresh_after_seconds
from sidecar.role import ChainStep
from tests.unit.doctor.facts import ROLE, by_name

EKS = "https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"


# Findings


def test_checks_that_depend_on_a_failure_are_skipped() -> None:
    called: list[str] = []

    def evaluate(name: str, finding: Finding | None, _facts: str) -> Finding | None:
        called.append(name)
        return finding

    findings = {"a": failed("a is wrong", "fix a"), "b": ok("b"), "c": ok("c"), "d": None, "e": warning("e", "fix e")}
    after = {"b": ("a",), "c": ("b",), "e": ("d",)}
    checks = [
        Check(name, "", partial(evaluate, name, finding), after.get(name, ())) for name, finding in findings.items()
    ]
    found = dict(run_checks(checks, ""))
    assert {name: finding.status for name, finding in found.items()} == {
        "a": Status.FAILED,
        "b": Status.SKIPPED,
        "c": Status.SKIPPED,
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


# The examined side: the sidecar or the application


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
def test_variables_decide_which_side_is_examined(environ: dict[str, str], expected: Side) -> None:
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
def test_duration_is_shown_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert token.duration_text(seconds) == text


# Issuer

DNS = IssuerError("dns", EKS, "oidc.eks.eu-west-1.amazonaws.com does not resolve here")


def issuer_facts(**changes: Any) -> IssuerFacts:
    facts = IssuerFacts(EKS, "k1", "RS256", is_aws=True)
    return facts._replace(**changes)


def test_eks_issuer_hidden_by_a_vpc_is_never_a_failure() -> None:
    for succeeded, status in ((True, Status.OK), (False, Status.WARNING), (None, Status.WARNING)):
        found = by_name(issuer.CHECKS, issuer_facts(error=DNS, exchange_succeeded=succeeded))
        assert set(found) == {"url", "documents"}
        assert found["documents"].status is status
        assert "its private zone hides this name. STS uses the internet" in found["documents"].observed


def test_issuer_unreachable_for_sts_and_doctor_is_a_failure() -> None:
    found = by_name(issuer.CHECKS, issuer_facts(error=DNS, exchange_succeeded=False, sts_cannot_get_keys=True))
    assert found["documents"].status is Status.FAILED
    assert "STS cannot get the issuer's keys, and neither can this machine" in found["documents"].observed


def test_key_known_only_to_sts_is_a_warning() -> None:
    found = by_name(issuer.CHECKS, issuer_facts(published=Published([{"kid": "k2"}]), exchange_succeeded=True))
    assert found["key"].status is Status.WARNING
    assert "the token's kid is k1; the issuer publishes k2; STS still has the key" in found["key"].observed


def test_algorithm_that_the_document_lacks_is_a_warning() -> None:
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
def test_issuer_url_that_iam_rejects_names_the_reason(url: str, words: str) -> None:
    assert words in by_name(issuer.CHECKS, issuer_facts(issuer=url))["url"].observed
    assert by_name(issuer.CHECKS, issuer_facts(issuer=url, is_aws=False))["url"].status is Status.OK


# STS

REACHED = NetworkPath("https://sts.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com", addresses=("10.0.1.2",))


def test_private_addresses_count_as_an_interface_endpoint() -> None:
    assert "private: an interface endpoint in this VPC" in by_name(sts.CHECKS, StsFacts(REACHED))["name"].observed
    public = REACHED._replace(addresses=("10.0.1.2", "52.1.2.3"))
    assert "private" not in by_name(sts.CHECKS, StsFacts(public))["name"].observed


def test_each_step_shows_its_own_duration() -> None:
    steps = ("name", "connect", "tls", "response")
    path = REACHED._replace(seconds=tuple((step, number / 1000) for number, step in enumerate(steps, start=11)))
    found = by_name(sts.CHECKS, StsFacts(path))
    for number, step in enumerate(steps, start=11):
        assert found[step].observed.endswith(f"({number} ms)"), step


@pytest.mark.parametrize("step", sts.STEPS)
def test_failed_step_is_a_warning_if_the_exchange_succeeded(step: str) -> None:
    path = REACHED._replace(failed_step=step, reason="some reason", proxy="proxy:3128")
    for succeeded, status in ((False, Status.FAILED), (True, Status.WARNING)):
        found = by_name(sts.CHECKS, StsFacts(path, exchange_succeeded=succeeded))
        assert [name for name, finding in found.items() if finding.status is status] == [step]
        assert "some reason" in found[step].observed


@pytest.mark.parametrize(
    ("skew", "status"), [(0.4, Status.OK), (-59, Status.OK), (61, Status.WARNING), (-301, Status.FAILED)]
)
def test_status_of_the_clock_depends_on_its_skew(skew: float, status: Status) -> None:
    assert by_name(sts.CHECKS, StsFacts(REACHED._replace(skew_seconds=skew)))["clock"].status is status


@pytest.mark.parametrize(("skew", "words"), [(7200.2, "is 7200 s behind STS's"), (-400.4, "is 400 s ahead of STS's")])
def test_clock_skew_is_shown_in_seconds(skew: float, words: str) -> None:
    assert words in by_name(sts.CHECKS, StsFacts(REACHED._replace(skew_seconds=skew)))["clock"].observed


def test_slow_connection_is_a_warning() -> None:
    slow = REACHED._replace(seconds=(("connect", 2.0),))
    assert by_name(sts.CHECKS, StsFacts(slow))["connect"].status is Status.WARNING


# The caller, the environment and the number of calls


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"arn": "arn:aws:sts::111122223333:assumed-role/app/shop.cart"}, Status.OK),
        ({"arn": "arn:aws:sts::111122223333:assumed-role/other/shop.cart"}, Status.FAILED),
        ({"arn": "arn:aws:iam::111122223333:root"}, Status.FAILED),
        ({"code": "SignatureDoesNotMatch", "error": "no"}, Status.FAILED),
        ({"code": "SomethingNew", "error": "no"}, Status.FAILED),
        ({"error": "no connection"}, Status.SKIPPED),
        ({"skipped": "needs botocore"}, Status.SKIPPED),
    ],
)
def test_caller_is_compared_with_the_role(changes: dict[str, str], status: Status) -> None:
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
def test_region_is_ok_in_both_variables_or_in_the_file(environ: dict[str, str], status: Status) -> None:
    assert by_name(environment.CHECKS, environment.EnvironmentFacts(environ))["region"].status is status
    in_file = environment.EnvironmentFacts(environ, has_region_file=True)
    assert by_name(environment.CHECKS, in_file)["region"].status is Status.OK


@pytest.mark.parametrize(("seconds", "chain"), list(product([900, 3600, 7200, 43_200], [0, 2])))
def test_calls_per_day_follow_the_refresh_schedule(seconds: int, chain: int) -> None:
    expected = round(86_400 / refresh_after_seconds(seconds, 0.5)) * (1 + chain)
    assert calls.calls_per_day(seconds, chain) == expected


def test_chain_adds_one_call_per_step_and_refresh() -> None:
    step = ChainStep("arn:aws:iam::444455556666:role/other")
    counts = calls.by_duration([ROLE._replace(duration_seconds=None, chain=(step,)), ROLE])
    assert str(counts["configured"]) == str(2 * 48 + 48)
    assert calls.by_duration([]) == {}


def test_no_proxy_must_include_loopback() -> None:
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
