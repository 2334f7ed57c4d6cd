"""Test the settings of injection: the kind of sidecar, the image, and variables for the sidecar."""

import pytest

from sidecar.errors import ConfigurationError
from sidecar.injection.flags import check_environment
from sidecar.injection.settings import check_image, check_variable, choose_kind
from tests.unit.injection.pods import (
    P,
)

KINDS = {
    "28": (False, ("1.28", "1.29")),
    "28+": (False, ("1.28", "1.29")),
    "29": (True, ("1.29", "nodes may still have 1.26", "--native-sidecars never")),
    "31+": (True, ("1.31", "nodes may still have 1.28", "--native-sidecars never")),
    "32": (True, ("1.32",)),
}


@pytest.mark.parametrize("minor", KINDS)
def test_kind_of_sidecar_follows_the_api_servers_version(minor: str) -> None:
    is_native, words = KINDS[minor]
    kind = choose_kind("auto", {"major": "1", "minor": minor})
    assert kind.is_native is is_native
    assert all(word in kind.reason for word in words)
    assert ("nodes" in kind.reason) is (minor in {"29", "31+"})
    for choice, is_native in (("always", True), ("never", False)):
        assert choose_kind(choice, {"major": "1", "minor": minor}) == (is_native, f"--native-sidecars {choice}")


@pytest.mark.parametrize("text", ["", "a b", "http:// x", "-a"])
def test_invalid_image_is_rejected(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--image is"):
        check_image("--image", text)
    assert check_image("--image", "r.example:5000/a/b:1@sha256:0")


def test_extra_variable_is_parsed_or_rejected() -> None:
    assert check_variable("--env", "HTTPS_PROXY=http://p?a=b") == ("HTTPS_PROXY", "http://p?a=b")
    for text, words in (
        ("HTTPS_PROXY", "NAME=VALUE"),
        ("A B=1", "NAME=VALUE"),
        ("AWS_ROLE_ARN=x", "sets AWS_ROLE_ARN"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            check_variable("--env", text)


@pytest.mark.parametrize(
    ("name", "ending"),
    {
        "AWS_REGION": "--region",
        "AWS_ROLE_ARN": f"the annotation {P}role-arn of a Pod",
        "AWS_ROLE_SESSION_NAME": f"the annotation {P}session-name of a Pod",
        "IRSA_SIDECAR_CONFIG": f"the annotation {P}roles of a Pod",
        "IRSA_SIDECAR_DURATION": f"the annotation {P}duration of a Pod",
        "IRSA_SIDECAR_LISTEN": "Remove it",
    }.items(),
)
def test_rejection_of_our_variable_names_the_alternative(name: str, ending: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_variable("--env", f"{name}=x")
    assert caught.value.setting == "--env"
    assert name in caught.value.problem
    assert caught.value.fix.endswith(ending)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"IRSA_SIDECAR_LOG_LEVEL": "trace"}, "--env: IRSA_SIDECAR_LOG_LEVEL is 'trace', "),
        ({"AWS_USE_FIPS_ENDPOINT": "yes"}, "--env: AWS_USE_FIPS_ENDPOINT is 'yes', "),
        ({"AWS_ENDPOINT_URL_STS": "sts"}, "--env: AWS_ENDPOINT_URL_STS is 'sts', which is neither http"),
        ({"IRSA_SIDECAR_STS_FALLBACK_REGIONS": "cn-north-1"}, "'cn-north-1', which is not a region of partition aws"),
        ({"IRSA_SIDECAR_IMDS_LISTEN": "0.0.0.0:80"}, "--env: IRSA_SIDECAR_IMDS_LISTEN is 0.0.0.0:80, "),
        (
            {"IRSA_SIDECAR_STS_FALBACK_REGIONS": "eu-central-1"},
            "(did you mean IRSA_SIDECAR_STS_FALLBACK_REGIONS?). Correct its name, or remove it.",
        ),
    ],
)
def test_variable_that_stops_every_sidecar_is_rejected(variables: dict[str, str], words: str) -> None:
    """Check the rejection. Without it, the variable would be in every Pod of a cluster."""
    with pytest.raises(ConfigurationError) as caught:
        check_environment("--env", "eu-west-1", tuple(variables.items()))
    assert words in str(caught.value)


def test_valid_variables_of_a_sidecar_are_accepted() -> None:
    right = {"HTTPS_PROXY": "http://p", "IRSA_SIDECAR_STS_FALLBACK_REGIONS": "eu-central-1", "ANY": "thing"}
    check_environment("--env", "eu-west-1", tuple(right.items()))
