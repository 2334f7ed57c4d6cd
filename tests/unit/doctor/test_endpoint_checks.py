"""Test that the endpoint checks reject the addresses and responses that SDKs reject."""

from typing import Any

import pytest

from sidecar.doctor.checks import endpoint
from sidecar.doctor.checks.endpoint import EndpointFacts, EndpointResponse
from sidecar.doctor.finding import Status
from tests.support.fakes.clock import EPOCH as NOW
from tests.unit.doctor.facts import ROLE, by_name

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
        ("http://10.0.0.1/v1", Status.FAILED),
        ("http://169.254.170.2/v2", Status.FAILED),
        ("", Status.FAILED),
        ("127.0.0.1:4772", Status.FAILED),
        ("https://127.0.0.1:4772/v1/credentials", Status.FAILED),
        ("https://localhost:4772/v1/credentials", Status.FAILED),
        ("HTTPS://[::1]:4772/v1/credentials", Status.FAILED),
        ("https://127.9.9.9/v1/credentials", Status.FAILED),
        ("http://[::1", Status.FAILED),
        ("http://127.0.0.1:99999", Status.FAILED),
    ],
)
def test_address_that_sdks_reject_is_a_failure(url: str, status: Status) -> None:
    assert by_name(endpoint.CHECKS, endpoint_facts(url))["address"].status is status


def test_printed_url_has_no_user_and_no_query() -> None:
    assert endpoint.shown("http://user:password@127.0.0.1:1/v1?token=secret") == "http://127.0.0.1:1/v1"
    assert endpoint.shown("http://[::1") == "(a URL that cannot be read)"


@pytest.mark.parametrize(
    ("changes", "check", "status"),
    [
        ({"expires_at": NOW + 600}, "remaining", Status.WARNING),
        ({"expires_at": NOW}, "remaining", Status.FAILED),
        ({"expires_at": None}, "remaining", Status.FAILED),
        ({"seconds": 0.6}, "latency", Status.WARNING),
        ({"seconds": 0.8, "status": 503}, "latency", Status.SKIPPED),  # a daemon without credentials holds the request
        ({"role_arn": "arn:aws:iam::111122223333:role/other"}, "role", Status.FAILED),
        ({"fields": SERVED.fields | {"Code"}}, "credentials", Status.WARNING),
        ({"empty": ("Token",)}, "credentials", Status.FAILED),
        ({"error": "it broke off"}, "connection", Status.FAILED),
        ({"status": 500}, "credentials", Status.FAILED),
    ],
)
def test_unusual_response_is_a_warning_or_a_failure(changes: dict[str, Any], check: str, status: Status) -> None:
    facts = endpoint_facts(response=SERVED._replace(**changes), role_arn=ROLE.role_arn)
    assert by_name(endpoint.CHECKS, facts)[check].status is status
