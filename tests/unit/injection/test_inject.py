"""Test the whole injection: the sidecar, its annotations, and the containers that get credentials."""

import re
from pathlib import Path

import yaml

from sidecar.injection.inject import inject
from sidecar.injection.settings import ServiceAccount
from tests.unit.injection.pods import (
    ACCOUNT,
    ARN,
    OTHER_ARN,
    PLAIN,
    SETTINGS,
    P,
    app,
    container,
    injected,
    pod,
    variables,
)

DOCUMENT = Path(__file__).parents[3] / "docs/injection.md"


def test_native_sidecar_is_the_first_init_container() -> None:
    result = injected(pod(initContainers=[{"name": "migrate", "image": "app"}]))
    assert [each["name"] for each in result["spec"]["initContainers"]] == ["irsa-sidecar", "migrate"]
    assert container(result, "irsa-sidecar")["restartPolicy"] == "Always"
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in variables(container(result, "migrate"))


def test_plain_sidecar_is_the_first_container() -> None:
    original = pod(initContainers=[{"name": "migrate", "image": "app"}], terminationGracePeriodSeconds=6)
    result = inject(original, ACCOUNT, PLAIN)
    spec = result.pod["spec"]
    assert spec["initContainers"] == original["spec"]["initContainers"]
    assert [each["name"] for each in spec["containers"]] == ["irsa-sidecar", "app"]
    assert "restartPolicy" not in spec["containers"][0]
    assert spec["containers"][0]["lifecycle"] == {
        "postStart": {"exec": {"command": ["irsa-sidecar", "probe", "--wait", "60"]}}
    }
    assert variables(spec["containers"][0])["IRSA_SIDECAR_DRAIN_SECONDS"] == "4"
    assert result.pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "app"
    assert "runs before the sidecar" in result.warnings[0]


def test_sidecar_complies_with_the_restricted_standard() -> None:
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


def test_annotations_configure_the_sidecar_and_its_token() -> None:
    values = {
        "audience": "vault",
        "token-expiration": "600",
        "duration": "max",
        "session-name": "{pod}",
        "role-arn": OTHER_ARN,
    }
    result = injected(pod(annotations={P + name: value for name, value in values.items()}))
    env_values = variables(container(result, "irsa-sidecar"))
    assert env_values["AWS_ROLE_ARN"] == OTHER_ARN
    assert env_values["IRSA_SIDECAR_DURATION"] == "max"
    assert env_values["AWS_ROLE_SESSION_NAME"] == "{pod}"
    (source,) = result["spec"]["volumes"][0]["projected"]["sources"]
    assert source["serviceAccountToken"] == {"audience": "vault", "expirationSeconds": 600, "path": "token"}


def test_service_account_annotations_mean_the_same_as_in_eks() -> None:
    eks_values = {"role-arn": ARN, "audience": "sts.cn", "token-expiration": "60", "sts-regional-endpoints": "true"}
    service_account = ServiceAccount(
        "shop", "cart", {f"eks.amazonaws.com/{name}": value for name, value in eks_values.items()}
    )
    result = injected(pod(), service_account=service_account)
    (source,) = result["spec"]["volumes"][0]["projected"]["sources"]
    assert source["serviceAccountToken"] == {"audience": "sts.cn", "expirationSeconds": 600, "path": "token"}
    assert variables(container(result, "app"))["AWS_STS_REGIONAL_ENDPOINTS"] == "regional"
    of_the_pod = pod(annotations={"eks.amazonaws.com/token-expiration": "90000"})
    (source,) = injected(of_the_pod, service_account=service_account)["spec"]["volumes"][0]["projected"]["sources"]
    assert source["serviceAccountToken"]["expirationSeconds"] == 86_400


def test_settings_may_add_variables_and_a_role() -> None:
    settings = SETTINGS._replace(role_arn=OTHER_ARN, environment=(("HTTPS_PROXY", "http://proxy:3128"),))
    env_values = variables(container(injected(pod(), settings, None), "irsa-sidecar"))
    assert env_values["HTTPS_PROXY"] == "http://proxy:3128"
    assert env_values["AWS_ROLE_ARN"] == OTHER_ARN


def test_second_injection_keeps_only_additions_of_others() -> None:
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


def test_sidecar_has_no_token_for_the_kubernetes_api() -> None:
    mounts = {mount["mountPath"]: mount for mount in container(injected(pod()), "irsa-sidecar")["volumeMounts"]}
    # The API server adds a token only if nothing else is mounted at this path.
    mount = mounts["/var/run/secrets/kubernetes.io/serviceaccount"]
    assert mount["name"] == "irsa-sidecar-authorization"
    assert mount["readOnly"]


def test_containers_are_chosen_by_name() -> None:
    three = [{"name": name, "image": "i"} for name in ("web", "log", "app")]
    for annotation, names in (("containers", "web, app"), ("skip-containers", "log")):
        result = injected(pod(*three, annotations={P + annotation: names}))
        changed = [each["name"] for each in result["spec"]["containers"] if "env" in each]
        assert changed == ["web", "app"]
        assert result["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] == "irsa-sidecar,web,app"


def test_newly_skipped_container_loses_only_the_endpoint() -> None:
    """A user can have written the other variables, so they stay."""
    proxied = {"name": "log", "image": "i", "env": [{"name": "HTTP_PROXY", "value": "http://proxy:3128"}]}
    first = injected(pod(app(), proxied))
    first["metadata"]["annotations"][f"{P}skip-containers"] = "log"
    log = container(injected(first), "log")
    assert "volumeMounts" not in log
    assert set(variables(log)) == {
        *("HTTP_PROXY", "NO_PROXY", "no_proxy"),
        *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED"),
    }


def test_stub_in_the_template_sets_variables_of_the_sidecar() -> None:
    (block,) = re.findall(
        r"```yaml\n(initContainers:\n  - name: irsa-sidecar\n.*?)```", DOCUMENT.read_text(), re.DOTALL
    )
    (own,) = yaml.safe_load(block)["initContainers"]
    result = injected(pod(initContainers=[{"name": "migrate", "image": "i"}, own]))
    first = result["spec"]["initContainers"][0]
    assert first["name"] == "irsa-sidecar"
    assert variables(first) == variables(injected(pod())["spec"]["initContainers"][0]) | variables(own)
    assert first["image"] == container(injected(pod()), "irsa-sidecar")["image"]


def test_container_mounts_only_the_secret_of_its_role() -> None:
    roles = f"- {{name: default, role_arn: '{ARN}'}}\n- {{name: reports, role_arn: '{OTHER_ARN}', containers: [log]}}"
    result = injected(pod(app(), {"name": "log", "image": "i"}, annotations={f"{P}roles": roles}))
    mounts = {name: container(result, name)["volumeMounts"] for name in ("app", "log")}
    assert [mount["subPath"] for mount in mounts["app"]] == ["default"]
    assert [mount["subPath"] for mount in mounts["log"]] == ["reports"]
    log = variables(container(result, "log"))
    assert log["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:4772/v1/credentials/reports"
    assert log["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == "/run/irsa-sidecar/reports/token"
    env_values = variables(container(result, "irsa-sidecar"))
    assert "AWS_ROLE_ARN" not in env_values
    assert env_values["IRSA_SIDECAR_CONFIG"] == "/var/run/secrets/irsa-sidecar/roles.yaml"
    item = result["spec"]["volumes"][0]["projected"]["sources"][1]["downwardAPI"]["items"][0]
    assert item == {"path": "roles.yaml", "fieldRef": {"fieldPath": f"metadata.annotations['{P}roles']"}}
