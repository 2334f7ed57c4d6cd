"""Test how the exchange checks explain the response of STS."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sidecar.doctor.checks import exchange
from sidecar.doctor.checks.exchange import ExchangeFacts
from sidecar.doctor.finding import Finding, Status
from sidecar.errors import ExchangeError, NextStep
from tests.support.fakes.clock import EPOCH as NOW
from tests.unit.doctor.facts import ROLE, TOKEN, by_name


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
    assert words in finding.observed
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
    token = TOKEN._replace(audiences=aud, authorized_party=azp)
    error = ExchangeError("InvalidIdentityToken", "It could not be validated", NextStep.WAIT, status=400)
    facts = ExchangeFacts(ROLE, token, "k1", 3600, "sts.example", error=error, client_ids=client_ids)
    assert words in by_name(exchange.CHECKS, facts)["granted"].observed


def test_denial_by_another_policy_names_that_policy() -> None:
    message = (
        "Not authorized to perform sts:AssumeRoleWithWebIdentity with an explicit deny in a resource control policy"
    )
    finding = rejected("AccessDenied", message, policy_mismatch="the trust policy does not allow this")
    assert "trust policy" not in finding.observed
    assert "resource control policy (RCP)" in finding.next_step


def test_short_sessions_are_a_warning() -> None:
    issued = exchange.Issued("ASIA", datetime.fromtimestamp(NOW + 900, UTC), 0.1)
    facts = ExchangeFacts(ROLE, TOKEN, "k1", 900, "sts.example", issued=issued)
    assert by_name(exchange.CHECKS, facts)["duration"].status is Status.WARNING
