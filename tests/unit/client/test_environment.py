"""Test that an application's environment has our variables and no variables with a higher priority."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.client.environment import WINS_OVER_US, Offer, client_environment, client_variables

OFFER = Offer("http://127.0.0.1:4772/v1/credentials", "s3cret", "/run/irsa-sidecar/token", "eu-west-1")


def test_client_gets_url_secret_and_secret_file() -> None:
    variables = client_variables(OFFER)
    assert variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == OFFER.url
    assert variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] == OFFER.secret
    assert variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == OFFER.secret_file


def test_node_role_and_profiles_are_disabled() -> None:
    variables = client_variables(OFFER)
    assert variables["AWS_EC2_METADATA_DISABLED"] == "true"
    assert variables["AWS_SHARED_CREDENTIALS_FILE"] == variables["AWS_CONFIG_FILE"] == "/dev/null"


def test_region_is_in_both_variables_or_in_none() -> None:
    variables = client_variables(OFFER)
    assert (variables["AWS_REGION"], variables["AWS_DEFAULT_REGION"]) == ("eu-west-1", "eu-west-1")
    assert client_variables(OFFER._replace(region=None)).keys().isdisjoint({"AWS_REGION", "AWS_DEFAULT_REGION"})


@pytest.mark.parametrize("name", WINS_OVER_US)
def test_variable_with_a_higher_priority_is_removed(name: str) -> None:
    assert name not in client_environment({name: "x"}, OFFER)


@pytest.mark.parametrize("name", ["IRSA_SIDECAR_LISTEN", "AWS_CONTAINER_SOMETHING_NEW"])
def test_variable_of_another_sidecar_is_removed(name: str) -> None:
    assert name not in client_environment({name: "x"}, OFFER)


def test_earlier_endpoint_url_is_replaced() -> None:
    environment = client_environment({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1"}, OFFER)
    assert environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == OFFER.url


@pytest.mark.parametrize("name", ["PATH", "HOME", "HTTPS_PROXY", "AWS_CA_BUNDLE", "AWS_STS_REGIONAL_ENDPOINTS", "TZ"])
def test_other_variables_stay_unchanged(name: str) -> None:
    assert client_environment({name: "as it was"}, OFFER)[name] == "as it was"


def test_application_keeps_its_region_if_ours_is_unknown() -> None:
    assert client_environment({"AWS_REGION": "us-east-1"}, OFFER._replace(region=None))["AWS_REGION"] == "us-east-1"


@pytest.mark.parametrize(
    ("environ", "no_proxy"),
    [
        ({}, "127.0.0.1"),
        ({"NO_PROXY": "10.0.0.0/8,.svc"}, "10.0.0.0/8,.svc,127.0.0.1"),
        ({"no_proxy": ".svc"}, ".svc,127.0.0.1"),
        ({"NO_PROXY": "", "no_proxy": ".svc"}, ".svc,127.0.0.1"),
        ({"NO_PROXY": "127.0.0.1,.svc"}, "127.0.0.1,.svc"),
        ({"NO_PROXY": ".svc, 127.0.0.1"}, ".svc, 127.0.0.1"),
        ({"NO_PROXY": "127.0.0.11"}, "127.0.0.11,127.0.0.1"),
        # curl and Python read `*` as all hosts only if the list has no other entry.
        ({"NO_PROXY": "*"}, "*"),
        ({"NO_PROXY": " * "}, " * "),
    ],
)
def test_loopback_is_added_to_no_proxy(environ: dict[str, str], no_proxy: str) -> None:
    environment = client_environment(environ, OFFER)
    assert environment["NO_PROXY"] == environment["no_proxy"] == no_proxy


@given(st.dictionaries(st.sampled_from([*WINS_OVER_US, "NO_PROXY", "no_proxy", "PATH", "AWS_REGION"]), st.text()))
def test_nested_application_gets_the_same_environment(environ: dict[str, str]) -> None:
    once = client_environment(environ, OFFER)
    assert client_environment(once, OFFER) == once
    assert once.keys().isdisjoint(WINS_OVER_US)
    assert client_variables(OFFER, once["NO_PROXY"]).items() <= once.items()
