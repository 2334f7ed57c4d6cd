"""What a Pod is given, case by case, and the sentence for each that is refused."""

import json
import re
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml

from sidecar.doctor.checks import environment
from sidecar.doctor.checks.environment import EnvironmentFacts
from sidecar.doctor.finding import Status
from sidecar.errors import ConfigurationError
from sidecar.injection.app_container import OWN_CREDENTIALS, READ_WHEN_EMPTY
from sidecar.injection.flags import check_environment
from sidecar.injection.inject import inject
from sidecar.injection.json_patch import json_patch
from sidecar.injection.names import ANNOTATIONS
from sidecar.injection.settings import ServiceAccount, Settings, check_image, check_variable, choose_kind
from sidecar.injection.warning import reason_of
from sidecar.kubernetes.document import Document
from tests.support.fakes import amazons_webhook
from tests.unit.injection.pods import (
    ACCOUNT,
    AMAZONS_MOUNT,
    AMAZONS_VARIABLES,
    AMAZONS_VOLUME,
    ARN,
    OTHER_ARN,
    PLAIN,
    POD_IDENTITY_MOUNT,
    POD_IDENTITY_VARIABLES,
    SETTINGS,
    container,
    pod,
    variables,
)

P = "irsa-sidecar.io/"
DOCUMENT = Path(__file__).parents[3] / "docs/injection.md"


def injected(
    given: Document, settings: Settings = SETTINGS, service_account: ServiceAccount | None = ACCOUNT
) -> Document:
    return inject(given, service_account, settings).pod


def refusal(given: Document, settings: Settings = SETTINGS, service_account: ServiceAccount | None = ACCOUNT) -> str:
    with pytest.raises(ConfigurationError) as caught:
        inject(given, service_account, settings)
    return str(caught.value)


def app(*env: tuple[str, str], **more: Any) -> Document:
    return {"name": "app", "image": "app", "env": [{"name": name, "value": value} for name, value in env], **more}


# The sidecar


def test_a_native_sidecar_is_the_first_of_the_init_containers() -> None:
    result = injected(pod(initContainers=[{"name": "migrate", "image": "app"}]))
    assert [each["name"] for each in result["spec"]["initContainers"]] == ["irsa-sidecar", "migrate"]
    assert container(result, "irsa-sidecar")["restartPolicy"] == "Always"
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in variables(container(result, "migrate"))


def test_before_native_sidecars_it_is_the_first_container_and_init_containers_stay_as_they_are() -> None:
    given = pod(initContainers=[{"name": "migrate", "image": "app"}], terminationGracePeriodSeconds=6)
    result = inject(given, ACCOUNT, PLAIN)
    spec = result.pod["spec"]
    assert spec["initContainers"] == given["spec"]["initContainers"]
    assert [each["name"] for each in spec["containers"]] == ["irsa-sidecar", "app"]
    assert "restartPolicy" not in spec["containers"][0]
    assert spec["containers"][0]["lifecycle"] == {
        "postStart": {"exec": {"command": ["irsa-sidecar", "probe", "--wait", "60"]}}
    }
    assert variables(spec["containers"][0])["IRSA_SIDECAR_DRAIN_SECONDS"] == "4"
    assert result.pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "app"
    assert "runs before the sidecar" in result.warnings[0]


def test_the_sidecar_meets_the_restricted_pod_security_standard() -> None:
    sidecar = container(injected(pod()), "irsa-sidecar")
    security = sidecar["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == security["runAsGroup"] == 65532
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert set(sidecar["resources"]["requests"]) == {"cpu", "memory"}
    assert set(sidecar["resources"]["limits"]) == {"memory"}


def test_annotations_reach_the_sidecar_and_its_token() -> None:
    said = {
        "audience": "vault",
        "token-expiration": "600",
        "duration": "max",
        "session-name": "{pod}",
        "role-arn": OTHER_ARN,
    }
    result = injected(pod(annotations={P + name: value for name, value in said.items()}))
    told = variables(container(result, "irsa-sidecar"))
    assert told["AWS_ROLE_ARN"] == OTHER_ARN
    assert told["IRSA_SIDECAR_DURATION"] == "max"
    assert told["AWS_ROLE_SESSION_NAME"] == "{pod}"
    (source,) = result["spec"]["volumes"][0]["projected"]["sources"]
    assert source["serviceAccountToken"] == {"audience": "vault", "expirationSeconds": 600, "path": "token"}


def test_amazons_annotations_of_the_service_account_count_as_amazon_reads_them() -> None:
    theirs = {"role-arn": ARN, "audience": "sts.cn", "token-expiration": "60", "sts-regional-endpoints": "true"}
    service_account = ServiceAccount(
        "shop", "cart", {f"eks.amazonaws.com/{name}": value for name, value in theirs.items()}
    )
    result = injected(pod(), service_account=service_account)
    (source,) = result["spec"]["volumes"][0]["projected"]["sources"]
    assert source["serviceAccountToken"] == {"audience": "sts.cn", "expirationSeconds": 600, "path": "token"}
    assert variables(container(result, "app"))["AWS_STS_REGIONAL_ENDPOINTS"] == "regional"
    of_the_pod = pod(annotations={"eks.amazonaws.com/token-expiration": "90000"})
    (source,) = injected(of_the_pod, service_account=service_account)["spec"]["volumes"][0]["projected"]["sources"]
    assert source["serviceAccountToken"]["expirationSeconds"] == 86_400


def test_more_variables_for_the_sidecar_and_a_role_may_come_with_the_settings() -> None:
    settings = SETTINGS._replace(role_arn=OTHER_ARN, environment=(("HTTPS_PROXY", "http://proxy:3128"),))
    told = variables(container(injected(pod(), settings, None), "irsa-sidecar"))
    assert told["HTTPS_PROXY"] == "http://proxy:3128"
    assert told["AWS_ROLE_ARN"] == OTHER_ARN


def test_what_others_added_to_the_sidecar_stays_and_what_is_not_wanted_any_more_goes() -> None:
    first = injected(pod(annotations={f"{P}session-name": "cart"}))
    sidecar = first["spec"]["initContainers"][0]
    sidecar["env"].append({"name": "OTHERS", "value": "x"})
    sidecar["volumeMounts"].append({"name": "others", "mountPath": "/others"})
    sidecar["livenessProbe"]["successThreshold"] = 1
    del first["metadata"]["annotations"][f"{P}session-name"]
    again = container(injected(first), "irsa-sidecar")
    assert "AWS_ROLE_SESSION_NAME" not in variables(again)
    assert variables(again)["OTHERS"] == "x"
    assert again["volumeMounts"][-1]["name"] == "others"
    assert again["livenessProbe"]["successThreshold"] == 1


def test_the_sidecar_has_no_token_of_the_kubernetes_api() -> None:
    mounts = {mount["mountPath"]: mount for mount in container(injected(pod()), "irsa-sidecar")["volumeMounts"]}
    # The API server adds its token where nothing is mounted at this path.
    mount = mounts["/var/run/secrets/kubernetes.io/serviceaccount"]
    assert mount["name"] == "irsa-sidecar-authorization"
    assert mount["readOnly"]


# Containers


def test_a_container_is_told_where_to_ask_and_with_what() -> None:
    assert variables(container(injected(pod()), "app")) == {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:4772/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/run/irsa-sidecar/token",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_what_a_user_set_stays() -> None:
    told = variables(
        container(injected(pod(app(("AWS_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "no")))), "app")
    )
    assert told["AWS_REGION"] == "us-east-1"
    assert "AWS_DEFAULT_REGION" not in told
    assert told["AWS_EC2_METADATA_DISABLED"] == "no"


@pytest.mark.parametrize("empty", ["an empty text", "null", "no value"])
@pytest.mark.parametrize(
    ("name", "other"), [("AWS_REGION", "AWS_DEFAULT_REGION"), ("AWS_DEFAULT_REGION", "AWS_REGION")]
)
def test_empty_region_stays_and_the_other_name_has_one(name: str, other: str, empty: str) -> None:
    given = pod(app() | {"env": [{"name": name, **EMPTY[empty]}]})
    result = injected(given)
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
def test_a_proxy_never_sees_the_request(env: list[tuple[str, str]], more: Document, exempt: dict[str, str]) -> None:
    told = variables(container(injected(pod(app(*env, **more))), "app"))
    assert {name: value for name, value in told.items() if name.lower() == "no_proxy"} == exempt


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
def test_a_container_that_has_its_own_credentials_is_left_alone_unless_it_is_named(name: str) -> None:
    mine = {"name": "mine", "image": "m", "env": [{"name": name, "value": "/mine"}]}
    result = inject(pod(mine, app()), ACCOUNT, SETTINGS)
    assert container(result.pod, "mine") == mine
    (warning,) = result.warnings
    assert warning.startswith(f"Container mine gets no credentials of irsa-sidecar, as it sets {name}, which")
    assert "mine" not in result.pod["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"]
    assert f"it sets {name}" in refusal(pod(mine, annotations={f"{P}containers": "mine"}))
    assert f"it sets {name}" in refusal(pod(mine))


EMPTY: dict[str, Document] = {
    "an empty text": {"value": ""},
    "null": {"value": None},
    "no value": {},
    "no value and no source": {"valueFrom": None},
    "an empty text and no source": {"value": "", "valueFrom": None},
}
FROM_ELSEWHERE: list[Document] = [
    {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    {"valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
    {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    {"value": "", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
]


@pytest.mark.parametrize("is_init", [False, True])
@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("name", OWN_CREDENTIALS)
def test_empty_variable_is_no_source_of_credentials(name: str, empty: str, is_init: bool) -> None:  # noqa: FBT001
    mine: Document = {
        "name": "mine",
        "image": "m",
        "env": [{"name": "A", "value": "1"}, {"name": name, **EMPTY[empty]}],
    }
    result = inject(pod(app(), initContainers=[mine]) if is_init else pod(mine), ACCOUNT, SETTINGS)
    told = variables(container(result.pod, "mine"))
    assert result.warnings == ()
    assert told["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:4772/v1/credentials"
    assert told["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == "/run/irsa-sidecar/token"
    assert (name in told) == (name not in READ_WHEN_EMPTY)
    assert told["A"] == "1"
    assert_environment_is_well(told)


def assert_environment_is_well(told: dict[str, Any]) -> None:
    """By the judgement of `doctor`."""
    environ = {name: value or "" for name, value in told.items()}
    found = [check.judge(EnvironmentFacts(environ)) for check in environment.CHECKS]
    assert {finding.status for finding in found if finding} == {Status.OK}


@pytest.mark.parametrize("source", FROM_ELSEWHERE)
@pytest.mark.parametrize("name", OWN_CREDENTIALS)
def test_variable_from_elsewhere_is_a_source_of_credentials(name: str, source: Document) -> None:
    mine = {"name": "mine", "image": "m", "env": [{"name": name, **source}]}
    result = inject(pod(mine, app()), ACCOUNT, SETTINGS)
    assert container(result.pod, "mine") == mine
    assert f"sets {name}" in result.warnings[0]


@pytest.mark.parametrize(("first", "last", "is_given"), [("", "AKIA", False), ("AKIA", "", True)])
def test_last_variable_of_a_name_counts(first: str, last: str, is_given: bool) -> None:  # noqa: FBT001
    """As in the kubelet."""
    mine = {**app(("AWS_ACCESS_KEY_ID", first), ("AWS_ACCESS_KEY_ID", last)), "name": "mine"}
    result = inject(pod(mine, app()), ACCOUNT, SETTINGS)
    assert (result.warnings == ()) is is_given


def test_container_without_credentials_keeps_its_empty_variables() -> None:
    mine = {**app(("AWS_WEB_IDENTITY_TOKEN_FILE", ""), ("AWS_ACCESS_KEY_ID", "")), "name": "mine"}
    assert container(injected(pod(mine, app(), annotations={f"{P}containers": "app"})), "mine") == mine


PROXY_VARIABLES = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]


@pytest.mark.parametrize("source", FROM_ELSEWHERE)
@pytest.mark.parametrize("name", PROXY_VARIABLES)
def test_proxy_from_elsewhere_is_a_proxy(name: str, source: Document) -> None:
    for given in (pod(app() | {"env": [{"name": name, **source}]}), pod(initContainers=[{"name": "i", "image": "i"}])):
        result = inject(given, ACCOUNT, SETTINGS)
        told = variables(container(result.pod, "app"))
        is_proxied = name in told
        assert [told.get("NO_PROXY"), told.get("no_proxy")] == (["127.0.0.1"] * 2 if is_proxied else [None, None])
        assert result.warnings == ()


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("name", PROXY_VARIABLES)
def test_empty_proxy_is_no_proxy(name: str, empty: str) -> None:
    told = variables(container(injected(pod(app() | {"env": [{"name": name, **EMPTY[empty]}]})), "app"))
    assert not {"NO_PROXY", "no_proxy"} & told.keys()


@pytest.mark.parametrize("empty", EMPTY)
def test_empty_exemption_gets_loopback(empty: str) -> None:
    env = [{"name": "HTTP_PROXY", "value": "http://p"}, {"name": "NO_PROXY", **EMPTY[empty]}]
    told = variables(container(injected(pod(app() | {"env": env})), "app"))
    assert told["NO_PROXY"] == "127.0.0.1"


@pytest.mark.parametrize("source", FROM_ELSEWHERE)
@pytest.mark.parametrize("names", [("NO_PROXY",), ("no_proxy",), ("NO_PROXY", "no_proxy")])
@pytest.mark.parametrize("is_init", [False, True])
def test_exemption_from_elsewhere_is_a_warning(
    names: tuple[str, ...],
    source: Document,
    is_init: bool,  # noqa: FBT001
) -> None:
    env: list[Document] = [{"name": "HTTP_PROXY", "value": "http://p"}, *({"name": name, **source} for name in names)]
    mine: Document = {"name": "mine", "image": "i", "env": env}
    result = inject(pod(app(), initContainers=[mine]) if is_init else pod(mine), ACCOUNT, SETTINGS)
    (warning,) = result.warnings
    assert warning.startswith(f"Container mine has {' and '.join(names)} by valueFrom")
    assert "127.0.0.1" in warning
    assert reason_of(warning) == "ProxyExemptionUnknown"
    assert container(result.pod, "mine")["env"][: len(env)] == env
    assert not {"NO_PROXY", "no_proxy"} - set(names) & variables(container(result.pod, "mine")).keys()


def test_known_exemption_beside_an_unknown_one_is_extended() -> None:
    env: list[Document] = [{"name": "NO_PROXY", "value": ".svc"}, {"name": "no_proxy", **FROM_ELSEWHERE[1]}]
    result = inject(pod(app() | {"env": env}), ACCOUNT, SETTINGS)
    assert variables(container(result.pod, "app"))["NO_PROXY"] == ".svc,127.0.0.1"
    assert "has no_proxy by valueFrom" in result.warnings[0]


# Users in a shared process namespace

SHARED = "TokenReadableByContainer"


def user(number: Any) -> Document:
    return {"securityContext": {"runAsUser": number}}


def root(**capabilities: list[str]) -> Document:
    return {"securityContext": {"runAsUser": 0, "capabilities": capabilities}}


@pytest.mark.parametrize(
    ("of_container", "of_pod", "warns"),
    [
        ({}, {}, True),
        ({}, user(65532), True),
        (user(65532), {}, True),
        (user(65532), user(1000), True),
        (user(None), {}, True),
        ({"securityContext": None}, {"securityContext": {"runAsNonRoot": True}}, True),
        (user(1000), {}, False),
        (user(1000), user(65532), False),
        (user(None), user(1000), False),
        ({}, user(1000), False),
        ({}, user(65533), False),
        (user(0), {}, True),
        ({}, user(0), True),
        (root(drop=["NET_RAW", "CHOWN"]), {}, True),
        (root(drop=["ALL"], add=["SYS_PTRACE"]), {}, True),
        (root(drop=["ALL"], add=["CAP_SETUID"]), {}, True),
        (root(drop=["SETUID"], add=["ALL"]), {}, True),
        ({"securityContext": {"runAsUser": 0, "privileged": True, "capabilities": {"drop": ["ALL"]}}}, {}, True),
        (root(drop=["ALL"]), {}, False),
        (root(drop=["all"], add=["NET_BIND_SERVICE"]), {}, False),
        (root(drop=["CAP_SETUID"]), user(65532), False),
    ],
)
@pytest.mark.parametrize("is_init", [False, True])
def test_container_that_can_read_the_token_is_a_warning(
    of_container: Document,
    of_pod: Document,
    warns: bool,  # noqa: FBT001
    is_init: bool,  # noqa: FBT001
) -> None:
    mine: Document = {"name": "mine", "image": "i", **of_container}
    safe = app() | user(7)
    given = pod(safe, initContainers=[mine], **of_pod) if is_init else pod(safe, mine, **of_pod)
    assert inject(given, ACCOUNT, SETTINGS).warnings == ()
    for value in (False, None):
        given["spec"]["shareProcessNamespace"] = value
        assert inject(given, ACCOUNT, SETTINGS).warnings == ()
    given["spec"]["shareProcessNamespace"] = True
    warnings = inject(given, ACCOUNT, SETTINGS).warnings
    assert [reason_of(warning) for warning in warnings] == ([SHARED] if warns else [])
    assert all(warning.startswith("Container mine ") and "65532" in warning for warning in warnings)


def test_container_left_out_can_read_the_token_too() -> None:
    given = pod(app() | user(7), {"name": "log", "image": "i"}, shareProcessNamespace=True)
    given["metadata"]["annotations"] = {f"{P}skip-containers": "log"}
    assert [reason_of(warning) for warning in inject(given, ACCOUNT, SETTINGS).warnings] == [SHARED]


def test_init_container_before_a_plain_sidecar_reads_no_token() -> None:
    given = pod(app() | user(7), initContainers=[{"name": "setup", "image": "i"}], shareProcessNamespace=True)
    assert SHARED not in [reason_of(warning) for warning in inject(given, ACCOUNT, PLAIN).warnings]


ROLES_OF_TWO_DURATIONS = json.dumps(
    [
        {"name": "a", "role_arn": ARN, "duration": 900, "containers": ["log"]},
        {"name": "b", "role_arn": ARN, "duration": 7200},
    ]
)
CHAINED = f"[{{name: a, role_arn: '{ARN}', chain: [{{role_arn: '{OTHER_ARN}', duration: 900}}]}}]"


@pytest.mark.parametrize(
    ("annotations", "most"),
    [
        ({}, 86_400 // 5 + 3600),
        ({"token-expiration": "600"}, 120 + 3600),
        ({"token-expiration": "3600", "duration": "900"}, 720 + 900),
        ({"token-expiration": "3600", "duration": "43200"}, 720 + 43_200),
        ({"token-expiration": "3600", "duration": "max"}, 720 + 3600),
        ({"token-expiration": "3600", "roles": ROLES_OF_TWO_DURATIONS}, 720 + 900),
        ({"token-expiration": "3600", "roles": CHAINED}, 720 + 900),
    ],
)
def test_termination_beyond_the_credentials_is_a_warning(annotations: dict[str, str], most: int) -> None:
    def warnings(grace: int | None) -> tuple[str, ...]:
        given = pod(app(), {"name": "log", "image": "i"}, terminationGracePeriodSeconds=grace)
        given["metadata"]["annotations"] = {P + name: value for name, value in annotations.items()}
        return inject(given, ACCOUNT, SETTINGS).warnings

    assert [warnings(grace) for grace in (None, 0, 30, most)] == [()] * 4
    for grace in (most + 1, 10**18):
        (warning,) = warnings(grace)
        assert reason_of(warning) == "TerminationOutlivesCredentials"
        assert f"terminationGracePeriodSeconds is {grace}" in warning
        assert f"after {most} s" in warning


def test_containers_are_chosen_by_name() -> None:
    three = [{"name": name, "image": "i"} for name in ("web", "log", "app")]
    for annotation, names in (("containers", "web, app"), ("skip-containers", "log")):
        result = injected(pod(*three, annotations={P + annotation: names}))
        given = [each["name"] for each in result["spec"]["containers"] if "env" in each]
        assert given == ["web", "app"]
        assert result["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] == "irsa-sidecar,web,app"


def test_a_container_that_is_skipped_from_now_on_loses_what_it_was_given() -> None:
    first = injected(pod(app(), {"name": "log", "image": "i"}))
    first["metadata"]["annotations"][f"{P}skip-containers"] = "log"
    log = container(injected(first), "log")
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" not in variables(log)
    assert "volumeMounts" not in log


def test_a_variable_for_the_sidecar_of_one_pod_stays_with_it() -> None:
    (told,) = re.findall(r"```yaml\n(initContainers:\n  - name: irsa-sidecar\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (own,) = yaml.safe_load(told)["initContainers"]
    result = injected(pod(initContainers=[{"name": "migrate", "image": "i"}, own]))
    first = result["spec"]["initContainers"][0]
    assert first["name"] == "irsa-sidecar"
    assert variables(first) == variables(injected(pod())["spec"]["initContainers"][0]) | variables(own)
    assert first["image"] == container(injected(pod()), "irsa-sidecar")["image"]


def test_each_container_sees_the_secret_of_its_role_alone() -> None:
    roles = f"- {{name: default, role_arn: '{ARN}'}}\n- {{name: reports, role_arn: '{OTHER_ARN}', containers: [log]}}"
    result = injected(pod(app(), {"name": "log", "image": "i"}, annotations={f"{P}roles": roles}))
    mounts = {name: container(result, name)["volumeMounts"] for name in ("app", "log")}
    assert [mount["subPath"] for mount in mounts["app"]] == ["default"]
    assert [mount["subPath"] for mount in mounts["log"]] == ["reports"]
    log = variables(container(result, "log"))
    assert log["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:4772/v1/credentials/reports"
    assert log["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == "/run/irsa-sidecar/reports/token"
    told = variables(container(result, "irsa-sidecar"))
    assert "AWS_ROLE_ARN" not in told
    assert told["IRSA_SIDECAR_CONFIG"] == "/var/run/secrets/irsa-sidecar/roles.yaml"
    item = result["spec"]["volumes"][0]["projected"]["sources"][1]["downwardAPI"]["items"][0]
    assert item == {"path": "roles.yaml", "fieldRef": {"fieldPath": f"metadata.annotations['{P}roles']"}}


# Amazon's webhook


def test_what_amazons_webhook_put_in_before_is_taken_away() -> None:
    named = [{"name": name, "value": value} for name, value in (("A", "1"), ("AWS_DEFAULT_REGION", "us-east-1"))]
    mutated = app(volumeMounts=[AMAZONS_MOUNT]) | {"env": [*named, *AMAZONS_VARIABLES]}
    result = injected(pod(mutated, volumes=[AMAZONS_VOLUME, {"name": "data", "emptyDir": {}}]))
    told = variables(container(result, "app"))
    assert not {"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"} & set(told)
    assert told["AWS_DEFAULT_REGION"] == "us-east-1"
    assert "aws-iam-token" not in str(result)
    assert result["spec"]["volumes"][0]["name"] == "data"


def test_pod_identity_too_is_taken_away_whichever_webhook_ran_first() -> None:
    mutated = app(volumeMounts=[POD_IDENTITY_MOUNT]) | {"env": POD_IDENTITY_VARIABLES}
    found = container(injected(pod(mutated)), "app")
    assert variables(found)["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:4772/v1/credentials"
    assert [mount["name"] for mount in found["volumeMounts"]] == ["irsa-sidecar-authorization"]


def test_a_container_that_is_left_out_keeps_amazons() -> None:
    mutated = {"name": "log", "image": "i", "env": AMAZONS_VARIABLES, "volumeMounts": [AMAZONS_MOUNT]}
    result = injected(pod(app(), mutated, volumes=[AMAZONS_VOLUME], annotations={f"{P}skip-containers": "log"}))
    assert container(result, "log") == mutated
    assert AMAZONS_VOLUME in result["spec"]["volumes"]


def test_a_web_identity_by_hand_is_the_users_and_stays() -> None:
    env = [
        {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/mine/token"},
        {"name": "AWS_ROLE_ARN", "value": ARN},
    ]
    mount = {"name": "mine", "mountPath": "/var/run/mine"}
    by_hand = {"name": "mine", "image": "i", "env": env, "volumeMounts": [mount]}
    assert container(injected(pod(by_hand, app())), "mine") == by_hand


def test_amazons_webhook_is_told_to_leave_ours_alone_and_what_it_was_told_before_stays() -> None:
    result = injected(pod(annotations={"eks.amazonaws.com/skip-containers": "log, other"}))
    assert result["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] == "log, other,irsa-sidecar,app"


POD_IDENTITY = "eks.amazonaws.com/pod-identity"


def labels_of(found: Document) -> Document:
    return dict(found["metadata"]["labels"])


@pytest.mark.parametrize("labels", [None, {}, {"app": "cart"}, {POD_IDENTITY: "enabled"}])
@pytest.mark.parametrize("settings", [SETTINGS, PLAIN], ids=["native", "plain"])
@pytest.mark.parametrize("skipped", ["", "log", "app,log,setup"])
def test_pod_identity_label_goes_with_its_last_container(
    labels: Document | None, settings: Settings, skipped: str
) -> None:
    """`skipped` is what Amazon's webhook was told to leave alone before."""
    given = pod(app(), {"name": "log", "image": "i"})
    given["metadata"] |= ({"labels": labels} if labels is not None else {}) | (
        {"annotations": {"eks.amazonaws.com/skip-containers": skipped}} if skipped else {}
    )
    amazons = amazons_webhook.mutated_for_pod_identity(given, region="eu-west-1")
    assert labels_of(amazons)[POD_IDENTITY] == "enabled"
    result = injected(amazons, settings)
    assert labels_of(result) == {name: value for name, value in (labels or {}).items() if name != POD_IDENTITY}
    assert "pod-identity" not in str(result)
    assert jsonpatch.apply_patch(amazons, json_patch(amazons, result)) == result


@pytest.mark.parametrize("annotation", ["skip-containers", "containers"])
@pytest.mark.parametrize("is_init", [False, True])
def test_pod_identity_label_stays_while_a_container_uses_it(annotation: str, is_init: bool) -> None:  # noqa: FBT001
    log: Document = {"name": "log", "image": "i"}
    annotations = {P + annotation: "log" if annotation == "skip-containers" else "app"}
    given = pod(app(), initContainers=[log], annotations=annotations) if is_init else pod(app(), log)
    given["metadata"]["annotations"] = annotations
    amazons = amazons_webhook.mutated_for_pod_identity(given, region="eu-west-1")
    result = injected(amazons)
    assert labels_of(result) == {POD_IDENTITY: "enabled"}
    assert container(result, "log") == container(amazons, "log")


@pytest.mark.parametrize("value", ["enabled", "disabled", "x"])
def test_pod_identity_label_of_the_user_stays(value: str) -> None:
    """A selector may need it. Amazon's webhook sets its label together with its volume."""
    given = pod()
    given["metadata"]["labels"] = {POD_IDENTITY: value}
    assert labels_of(injected(given)) == {POD_IDENTITY: value}


# Refusals

ROLE = f"name: a, role_arn: '{ARN}'"

WRONG_ANNOTATIONS: dict[str, tuple[str, str]] = {
    "role-arn": (
        "arn:aws:iam::1:role/a",
        "annotation irsa-sidecar.io/role-arn is 'arn:aws:iam::1:role/a': give the ARN",
    ),
    "roles": (
        f"- {{{ROLE}}}\n- {{name: a, role_arm: x}}",
        "annotation irsa-sidecar.io/roles, line 2: role_arm is no setting: did you mean role_arn?",
    ),
    "containers": (
        "app,lgo",
        "annotation irsa-sidecar.io/containers names 'lgo', which is no container of the Pod: it has app.",
    ),
    "skip-containers": ("app,,", "annotation irsa-sidecar.io/skip-containers is 'app,,': give names"),
    "audience": ("", "annotation irsa-sidecar.io/audience is '': give the audience"),
    "token-expiration": (
        "1h",
        "annotation irsa-sidecar.io/token-expiration is '1h': give whole seconds from 600 to 86400.",
    ),
    "duration": ("899", "annotation irsa-sidecar.io/duration is '899': give whole seconds from 900 to 43200, or max"),
    "session-name": ("{podd}", "annotation irsa-sidecar.io/session-name is '{podd}', and {podd} is no field"),
}


def test_every_annotation_has_a_wrong_value_here() -> None:
    assert {P + name for name in WRONG_ANNOTATIONS} == set(ANNOTATIONS)


@pytest.mark.parametrize("name", WRONG_ANNOTATIONS)
def test_a_wrong_annotation_is_refused_with_its_name_its_value_and_the_fix(name: str) -> None:
    value, words = WRONG_ANNOTATIONS[name]
    message = refusal(pod(annotations={P + name: value}))
    assert words in message
    assert "\n" not in message


def roles(*items: str) -> Document:
    return pod(
        app(), {"name": "log", "image": "i"}, annotations={f"{P}roles": "\n".join(f"- {{{each}}}" for each in items)}
    )


def said(**annotations: Any) -> Document:
    return pod(annotations={P + name.replace("_", "-"): value for name, value in annotations.items()})


REFUSED: dict[str, tuple[Document, str]] = {
    "an annotation misspelt": (
        said(role_arm=ARN),
        "irsa-sidecar.io/role-arm is none of irsa-sidecar's: did you mean irsa-sidecar.io/role-arn?",
    ),
    "an annotation of another name": (said(xyzzy=""), "after irsa-sidecar.io/ there are role-arn, "),
    "the label as an annotation": (said(inject="true"), "move it to metadata.labels"),
    "two ways to name roles": (said(roles=f"- {{{ROLE}}}", role_arn=ARN), "put the one role into the list"),
    "two ways to choose": (said(containers="app", skip_containers="app"), "keep one"),
    "nobody": (
        said(skip_containers="app"),
        "No container would get credentials: the annotations leave all of them out.",
    ),
    "an application by the sidecar's name": (
        pod({"name": "irsa-sidecar", "image": "i"}),
        "No container would get credentials: the Pod has none but irsa-sidecar, whose name is the sidecar's.",
    ),
    "no text": (said(duration=900), "irsa-sidecar.io/duration is 900, which is no text: put it in quotes."),
    "a token file": (roles(f"{ROLE}, token_file: /x"), "leave it out; irsa-sidecar.io/audience chooses"),
    "a secret's file": (roles(f"{ROLE}, authorization_token_file: /x"), "leave it out, as each role gets one"),
    "a role for nobody": (roles(f"{ROLE}, containers: []"), "role a to no container"),
    "a role for a stranger": (
        roles(f"{ROLE}, containers: [lgo]"),
        "role a names 'lgo', which is no container of the Pod: it has app, log.",
    ),
    "two roles for all": (roles(ROLE, f"name: b, role_arn: '{ARN}'"), "several roles without `containers`, a, b,"),
    "two roles for one": (
        roles(f"{ROLE}, containers: [app]", f"name: b, role_arn: '{ARN}', containers: [app]"),
        "container app the roles a and b",
    ),
    "max for a chain": (roles(f"{ROLE}, duration: max, chain: [{{role_arn: '{ARN}'}}]"), "an hour at most"),
    "more roles than a parser has time for": (
        said(roles="[" + "a," * 40_000 + "]"),
        "irsa-sidecar.io/roles has 80002 characters: give at most 8192",
    ),
    "more annotations than Kubernetes takes": (
        pod(annotations={"a": "x" * 262_144}),
        "metadata.annotations has 262145 characters, and Kubernetes takes 262144",
    ),
    "more containers than etcd takes": (
        pod(*[app()] * 1000, initContainers=[app()]),
        "The Pod has 1001 containers: give it at most 1000.",
    ),
    "a name that no container may have, and that would be remembered": (
        pod(app(), {"name": "x" * 2_000_000, "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "x"}]}),
        f"spec.containers[1] has a name of 2000000 characters, {'x' * 63}…: give it at most 63.",
    ),
    "a variable that is no text, and may be a password": (
        pod({"name": "app", "env": [{"name": "PASSWORD", "value": 12345}]}),
        "spec.containers[0].env: PASSWORD has a value that is no text (int): put it in quotes.",
    ),
    "a static Pod": (pod(annotations={"kubernetes.io/config.mirror": "x"}), "static one"),
    "the token's volume, of another kind": (
        pod(volumes=[{"name": "irsa-sidecar-token", "secret": {"secretName": "mine"}}]),
        "The Pod's volume irsa-sidecar-token is secret, and irsa-sidecar makes one of that name",
    ),
    "the secret's volume, of another kind": (
        pod(volumes=[{"name": "irsa-sidecar-authorization", "hostPath": {"path": "/"}}]),
        "The Pod's volume irsa-sidecar-authorization is hostPath",
    ),
    "the state's volume, of another kind": (
        pod(volumes=[{"name": "irsa-sidecar-state", "persistentVolumeClaim": {"claimName": "mine"}}]),
        "The Pod's volume irsa-sidecar-state is persistentVolumeClaim",
    ),
    "another program by the sidecar's name": (
        pod(app(), {"name": "irsa-sidecar", "image": "i", "command": ["sh"], "envFrom": []}),
        "Container irsa-sidecar has a command, and the name is the sidecar's",
    ),
    "another program by the sidecar's name, to begin with": (
        pod(initContainers=[{"name": "irsa-sidecar", "image": "i", "command": ["sh"]}]),
        "give yours another name.",
    ),
    "no containers": ({"spec": {}}, "no spec.containers"),
    "a container without a name": (pod({"image": "i"}), "spec.containers[0] has no name"),
    "Windows by its field": (pod(os={"name": "windows"}), "for Windows"),
    "Windows by a label": (pod(nodeSelector={"kubernetes.io/os": "windows"}), "for Windows"),
    "the node's network": (pod(hostNetwork=True), "hostNetwork"),
    "the sidecar's port": (pod(app(ports=[{"containerPort": 4773}])), "Container app has port 4773"),
    "the endpoint's port": (pod(app(ports=[{"containerPort": 4772}])), "Container app has port 4772"),
    "the token": (pod(app(volumeMounts=[{"name": "irsa-sidecar-token", "mountPath": "/t"}])), "for the sidecar alone"),
    "the state": (
        pod(app(volumeMounts=[{"name": "irsa-sidecar-state", "mountPath": "/s"}])),
        "Container app mounts irsa-sidecar-state, whose credentials are for the sidecar alone: take the mount away.",
    ),
    "the secret's place": (
        pod(app(volumeMounts=[{"name": "x", "mountPath": "/run/irsa-sidecar/"}])),
        "mounts x at /run/irsa-sidecar/",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_pod_that_cannot_be_injected_is_refused_in_one_sentence(what: str) -> None:
    given, words = REFUSED[what]
    message = refusal(given)
    assert words in message
    assert "\n" not in message
    assert message.endswith((".", "?"))


def test_a_port_of_the_same_number_and_another_protocol_is_no_clash() -> None:
    ports = [{"containerPort": 4772, "protocol": "UDP"}, {"containerPort": 4773, "protocol": "SCTP"}]
    assert container(injected(pod(app(ports=ports))), "app")["ports"] == ports


def test_what_is_chosen_and_left_out_at_once_is_refused() -> None:
    given = roles(f"{ROLE}, containers: [log]")
    for annotation, names in (("containers", "app"), ("skip-containers", "log")):
        annotations = {**given["metadata"]["annotations"], P + annotation: names}
        message = refusal(given | {"metadata": {"annotations": annotations}})
        assert f"container log, which {P}{annotation} leaves out" in message


def test_no_role_at_all_says_where_one_is_looked_for() -> None:
    assert "annotation eks.amazonaws.com/role-arn of ServiceAccount shop/cart" in refusal(
        pod(), service_account=ACCOUNT._replace(annotations={})
    )
    assert "annotation irsa-sidecar.io/role-arn, or its ServiceAccount" in refusal(pod(), service_account=None)
    bad = ACCOUNT._replace(annotations={"eks.amazonaws.com/role-arn": "app"})
    assert "annotation eks.amazonaws.com/role-arn of ServiceAccount shop/cart is 'app'" in refusal(
        pod(), service_account=bad
    )


def test_a_job_before_native_sidecars_is_refused() -> None:
    assert "irsa-sidecar exec" in refusal(pod(restartPolicy="Never"), PLAIN)
    assert "Container migrate is to get credentials, but it runs before" in refusal(
        pod(initContainers=[{"name": "migrate", "image": "i"}], annotations={f"{P}containers": "migrate"}), PLAIN
    )


# Settings


NODES = (
    "and has them; its nodes may be of 1.{} still, and have none before 1.29: --native-sidecars never until all of "
    "them are"
)

KINDS = {
    "28": (False, "the API server is of 1.28, and 1.29 is the first with them"),
    "28+": (False, "the API server is of 1.28, and 1.29 is the first with them"),
    "29": (True, f"the API server is of 1.29, {NODES.format(26)}"),
    "31+": (True, f"the API server is of 1.31, {NODES.format(28)}"),
    "32": (True, "the API server is of 1.32, and has them"),
}


@pytest.mark.parametrize("minor", KINDS)
def test_native_sidecars_are_there_from_129_and_nodes_may_be_three_versions_behind(minor: str) -> None:
    assert choose_kind("auto", {"major": "1", "minor": minor}) == KINDS[minor]
    for choice, is_native in (("always", True), ("never", False)):
        assert choose_kind(choice, {"major": "1", "minor": minor}) == (is_native, f"--native-sidecars {choice}")


@pytest.mark.parametrize("text", ["", "a b", "http:// x", "-a"])
def test_an_image_is_named_or_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--image is"):
        check_image("--image", text)
    assert check_image("--image", "r.example:5000/a/b:1@sha256:0")


def test_a_variable_is_one_and_not_one_of_ours() -> None:
    assert check_variable("--env", "HTTPS_PROXY=http://p?a=b") == ("HTTPS_PROXY", "http://p?a=b")
    for text, words in (("HTTPS_PROXY", "NAME=VALUE"), ("A B=1", "NAME=VALUE"), ("AWS_ROLE_ARN=x", "by itself")):
        with pytest.raises(ConfigurationError, match=words):
            check_variable("--env", text)


@pytest.mark.parametrize(
    ("name", "ending"),
    {
        "AWS_REGION": ": leave it out, and give --region.",
        "AWS_ROLE_ARN": f": leave it out, and give a Pod the annotation {P}role-arn.",
        "AWS_ROLE_SESSION_NAME": f": leave it out, and give a Pod the annotation {P}session-name.",
        "IRSA_SIDECAR_CONFIG": f": leave it out, and give a Pod the annotation {P}roles.",
        "IRSA_SIDECAR_DURATION": f": leave it out, and give a Pod the annotation {P}duration.",
        "IRSA_SIDECAR_LISTEN": ": leave it out.",
    }.items(),
)
def test_who_sets_a_variable_of_ours_is_told_what_does(name: str, ending: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_variable("--env", f"{name}=x")
    assert str(caught.value) == f"--env sets {name}, which injection sets by itself{ending}"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"IRSA_SIDECAR_LOG_LEVEL": "trace"}, "--env: IRSA_SIDECAR_LOG_LEVEL is 'trace': give one of"),
        ({"AWS_USE_FIPS_ENDPOINT": "yes"}, "--env: AWS_USE_FIPS_ENDPOINT is 'yes': give true or false."),
        ({"AWS_ENDPOINT_URL_STS": "sts"}, "--env: AWS_ENDPOINT_URL_STS is 'sts', which is neither http"),
        ({"IRSA_SIDECAR_STS_FALLBACK_REGIONS": "cn-north-1"}, "'cn-north-1', which is no region of partition aws"),
        ({"IRSA_SIDECAR_IMDS_LISTEN": "0.0.0.0:80"}, "--env: IRSA_SIDECAR_IMDS_LISTEN is 0.0.0.0:80, which others"),
        (
            {"IRSA_SIDECAR_STS_FALBACK_REGIONS": "eu-central-1"},
            "(did you mean IRSA_SIDECAR_STS_FALLBACK_REGIONS?): correct it, or leave it out.",
        ),
    ],
)
def test_a_variable_with_which_no_sidecar_would_start_is_told_before_there_is_one(
    variables: dict[str, str], words: str
) -> None:
    """Every Pod of a cluster would have it."""
    with pytest.raises(ConfigurationError) as caught:
        check_environment("--env", "eu-west-1", tuple(variables.items()))
    assert words in str(caught.value)


def test_variables_that_a_sidecar_can_start_with_are_taken() -> None:
    right = {"HTTPS_PROXY": "http://p", "IRSA_SIDECAR_STS_FALLBACK_REGIONS": "eu-central-1", "ANY": "thing"}
    check_environment("--env", "eu-west-1", tuple(right.items()))
