"""Test the variables of the application's containers: sources of credentials, regions and proxies."""

from typing import Any

import pytest

from sidecar.doctor.checks import environment
from sidecar.doctor.checks.environment import EnvironmentFacts
from sidecar.doctor.finding import Status
from sidecar.injection.app_container import OWN_CREDENTIALS, READ_WHEN_EMPTY
from sidecar.injection.inject import inject
from sidecar.injection.json_patch import json_patch
from sidecar.injection.warning import reason_of
from sidecar.kubernetes.document import Document
from tests.unit.injection.pods import (
    ACCOUNT,
    EMPTY,
    SETTINGS,
    VALUE_FROM,
    P,
    app,
    container,
    injected,
    pod,
    rejection,
    variables,
)


def test_container_gets_endpoint_secret_and_region() -> None:
    assert variables(container(injected(pod()), "app")) == {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:4772/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/run/irsa-sidecar/token",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_variable_that_a_user_set_stays_unchanged() -> None:
    env_values = variables(
        container(injected(pod(app(("AWS_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "no")))), "app")
    )
    assert env_values["AWS_REGION"] == "us-east-1"
    assert "AWS_DEFAULT_REGION" not in env_values
    assert env_values["AWS_EC2_METADATA_DISABLED"] == "no"


@pytest.mark.parametrize("empty", ["an empty text", "null", "no value"])
@pytest.mark.parametrize(
    ("name", "other"), [("AWS_REGION", "AWS_DEFAULT_REGION"), ("AWS_DEFAULT_REGION", "AWS_REGION")]
)
def test_empty_region_stays_and_the_other_variable_is_set(name: str, other: str, empty: str) -> None:
    original = pod(app() | {"env": [{"name": name, **EMPTY[empty]}]})
    result = injected(original)
    assert container(result, "app")["env"][0] == {"name": name, **EMPTY[empty]}
    assert variables(container(result, "app"))[other] == "eu-west-1"
    assert json_patch(result, injected(result)) == []


@pytest.mark.parametrize(
    ("env", "more", "exempt"),
    [
        ([], {}, {}),
        ([("HTTP_PROXY", "http://p")], {}, {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}),
        ([("HTTP_PROXY", "http://p")], {"envFrom": [{"configMapRef": {"name": "c"}}]}, {}),
        ([("NO_PROXY", ".svc")], {}, {"NO_PROXY": ".svc,127.0.0.1"}),
        ([("no_proxy", "*")], {}, {"no_proxy": "*"}),
        ([("NO_PROXY", "a, 127.0.0.1")], {}, {"NO_PROXY": "a, 127.0.0.1"}),
    ],
)
def test_requests_to_the_sidecar_bypass_the_proxy(
    env: list[tuple[str, str]], more: Document, exempt: dict[str, str]
) -> None:
    env_values = variables(container(injected(pod(app(*env, **more))), "app"))
    assert {name: value for name, value in env_values.items() if name.lower() == "no_proxy"} == exempt


@pytest.mark.parametrize(
    "name",
    [
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ACCESS_KEY_ID",
    ],
)
def test_container_with_own_credentials_stays_unchanged(name: str) -> None:
    mine = {"name": "mine", "image": "m", "env": [{"name": name, "value": "/mine"}]}
    result = inject(pod(mine, app()), ACCOUNT, SETTINGS)
    assert container(result.pod, "mine") == mine
    (warning,) = result.warnings
    assert warning.startswith(f"Container mine gets no credentials from irsa-sidecar because it sets {name}, which")
    assert "mine" not in result.pod["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"]
    assert f"the container sets {name}" in rejection(pod(mine, annotations={f"{P}containers": "mine"}))
    assert f"it sets {name}" in rejection(pod(mine))


@pytest.mark.parametrize("is_init", [False, True])
@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("name", OWN_CREDENTIALS)
def test_empty_variable_is_not_a_source_of_credentials(name: str, empty: str, is_init: bool) -> None:  # noqa: FBT001
    mine: Document = {
        "name": "mine",
        "image": "m",
        "env": [{"name": "A", "value": "1"}, {"name": name, **EMPTY[empty]}],
    }
    result = inject(pod(app(), initContainers=[mine]) if is_init else pod(mine), ACCOUNT, SETTINGS)
    env_values = variables(container(result.pod, "mine"))
    assert result.warnings == ()
    assert env_values["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:4772/v1/credentials"
    assert env_values["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == "/run/irsa-sidecar/token"
    assert (name in env_values) == (name not in READ_WHEN_EMPTY)
    assert env_values["A"] == "1"
    assert_doctor_accepts(env_values)


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("name", READ_WHEN_EMPTY)
def test_earlier_value_of_an_empty_variable_is_removed(name: str, empty: str) -> None:
    """The kubelet uses the last of several variables with one name. If only that was removed, the first would apply."""
    mine: Document = {"name": "mine", "env": [{"name": name, "value": "/other"}, {"name": name, **EMPTY[empty]}]}
    env = container(inject(pod(mine), ACCOUNT, SETTINGS).pod, "mine")["env"]
    assert name not in {variable["name"] for variable in env}


def assert_doctor_accepts(env_values: dict[str, Any]) -> None:
    """Assert that doctor's checks of an environment find no problem."""
    environ = {name: value or "" for name, value in env_values.items()}
    found = [check.evaluate(EnvironmentFacts(environ)) for check in environment.CHECKS]
    assert {finding.status for finding in found if finding} == {Status.OK}


@pytest.mark.parametrize("source", VALUE_FROM)
@pytest.mark.parametrize("name", OWN_CREDENTIALS)
def test_variable_with_value_from_is_a_credential_source(name: str, source: Document) -> None:
    mine = {"name": "mine", "image": "m", "env": [{"name": name, **source}]}
    result = inject(pod(mine, app()), ACCOUNT, SETTINGS)
    assert container(result.pod, "mine") == mine
    assert f"sets {name}" in result.warnings[0]


@pytest.mark.parametrize(("first", "last", "is_served"), [("", "AKIA", False), ("AKIA", "", True)])
def test_last_of_several_variables_with_one_name_is_used(first: str, last: str, is_served: bool) -> None:  # noqa: FBT001
    """Check that injection reads the same variable as the kubelet."""
    mine = {**app(("AWS_ACCESS_KEY_ID", first), ("AWS_ACCESS_KEY_ID", last)), "name": "mine"}
    result = inject(pod(mine, app()), ACCOUNT, SETTINGS)
    assert (result.warnings == ()) is is_served


def test_container_without_credentials_keeps_its_empty_variables() -> None:
    mine = {**app(("AWS_WEB_IDENTITY_TOKEN_FILE", ""), ("AWS_ACCESS_KEY_ID", "")), "name": "mine"}
    assert container(injected(pod(mine, app(), annotations={f"{P}containers": "app"})), "mine") == mine


PROXY_VARIABLES = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]


@pytest.mark.parametrize("source", VALUE_FROM)
@pytest.mark.parametrize("name", PROXY_VARIABLES)
def test_proxy_variable_with_value_from_counts_as_a_proxy(name: str, source: Document) -> None:
    for original in (
        pod(app() | {"env": [{"name": name, **source}]}),
        pod(initContainers=[{"name": "i", "image": "i"}]),
    ):
        result = inject(original, ACCOUNT, SETTINGS)
        env_values = variables(container(result.pod, "app"))
        is_proxied = name in env_values
        assert [env_values.get("NO_PROXY"), env_values.get("no_proxy")] == (
            ["127.0.0.1"] * 2 if is_proxied else [None, None]
        )
        assert result.warnings == ()


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("name", PROXY_VARIABLES)
def test_empty_proxy_variable_is_not_a_proxy(name: str, empty: str) -> None:
    env_values = variables(container(injected(pod(app() | {"env": [{"name": name, **EMPTY[empty]}]})), "app"))
    assert not {"NO_PROXY", "no_proxy"} & env_values.keys()


@pytest.mark.parametrize("empty", EMPTY)
def test_empty_no_proxy_gets_loopback(empty: str) -> None:
    env = [{"name": "HTTP_PROXY", "value": "http://p"}, {"name": "NO_PROXY", **EMPTY[empty]}]
    env_values = variables(container(injected(pod(app() | {"env": env})), "app"))
    assert env_values["NO_PROXY"] == "127.0.0.1"


@pytest.mark.parametrize("source", VALUE_FROM)
@pytest.mark.parametrize("names", [("NO_PROXY",), ("no_proxy",), ("NO_PROXY", "no_proxy")])
@pytest.mark.parametrize("is_init", [False, True])
def test_no_proxy_with_value_from_causes_a_warning(
    names: tuple[str, ...],
    source: Document,
    is_init: bool,  # noqa: FBT001
) -> None:
    env: list[Document] = [{"name": "HTTP_PROXY", "value": "http://p"}, *({"name": name, **source} for name in names)]
    mine: Document = {"name": "mine", "image": "i", "env": env}
    result = inject(pod(app(), initContainers=[mine]) if is_init else pod(mine), ACCOUNT, SETTINGS)
    (warning,) = result.warnings
    assert warning.startswith(f"Container mine sets {' and '.join(names)} by valueFrom")
    assert "127.0.0.1" in warning
    assert reason_of(warning) == "ProxyExemptionUnknown"
    assert container(result.pod, "mine")["env"][: len(env)] == env
    assert not {"NO_PROXY", "no_proxy"} - set(names) & variables(container(result.pod, "mine")).keys()


def test_no_proxy_is_extended_if_lower_case_has_value_from() -> None:
    env: list[Document] = [{"name": "NO_PROXY", "value": ".svc"}, {"name": "no_proxy", **VALUE_FROM[1]}]
    result = inject(pod(app() | {"env": env}), ACCOUNT, SETTINGS)
    assert variables(container(result.pod, "app"))["NO_PROXY"] == ".svc,127.0.0.1"
    assert "sets no_proxy by valueFrom" in result.warnings[0]
