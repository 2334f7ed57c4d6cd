"""Check the effect of the chart's values on the rendered objects."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.injection.resources import check_resources
from tests.chart.rendering import CHART, DIGESTS, NAMESPACE, OPTIONS, REGION, Helm, by_name, container_of

STANDARD_LABELS = {
    "helm.sh/chart": "irsa-sidecar-0.1.0",
    "app.kubernetes.io/name": "irsa-sidecar",
    "app.kubernetes.io/instance": "irsa-sidecar",
    "app.kubernetes.io/version": "0.1.0",
    "app.kubernetes.io/component": "webhook",
    "app.kubernetes.io/part-of": "irsa-sidecar",
    "app.kubernetes.io/managed-by": "Helm",
}


def test_every_object_has_the_standard_labels(helm: Helm) -> None:
    for found in helm.render(**OPTIONS["monitoring"], certificate={"from": "cert-manager"}):
        assert found["metadata"]["labels"].items() >= STANDARD_LABELS.items(), found


def test_labels_and_annotations_are_on_every_object(helm: Helm) -> None:
    objects = helm.render(**OPTIONS["labels"], **OPTIONS["monitoring"])
    for found in objects:
        assert found["metadata"]["labels"]["team"] == "platform"
        assert found["metadata"]["annotations"]["owner"] == "platform"
    named = by_name(objects)
    service = named["Service", "webhook"]["metadata"]
    assert (service["annotations"]["mesh"], service["labels"]["kind"]) == ("off", "internal")
    configuration = named["MutatingWebhookConfiguration", "irsa-sidecar"]["metadata"]
    assert configuration["annotations"]["argocd.argoproj.io/sync-wave"] == "1"
    assert configuration["labels"]["kind"] == "admission"


def test_pod_keeps_the_labels_that_select_it(helm: Helm) -> None:
    deployment = by_name(helm.render(**OPTIONS["labels"]))["Deployment", "webhook"]
    template = deployment["spec"]["template"]["metadata"]
    assert template["labels"].items() > deployment["spec"]["selector"]["matchLabels"].items()
    assert template["labels"]["cost"] == "12"
    assert template["annotations"] == {"linkerd.io/inject": "disabled", "owner": "platform"}


def test_placement_values_are_in_the_deployment(helm: Helm) -> None:
    values = OPTIONS["placement"]
    objects = by_name(helm.render(**values, replicaCount=3))
    spec = objects["Deployment", "webhook"]["spec"]
    pod = spec["template"]["spec"]
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"):
        assert pod[name] == values[name]
    assert (spec["replicas"], spec["strategy"]) == (3, values["updateStrategy"])
    (constraint,) = pod["topologySpreadConstraints"]
    assert constraint == values["topologySpreadConstraints"][0] | {"labelSelector": spec["selector"]}
    budget = objects["PodDisruptionBudget", "webhook"]["spec"]
    assert ("maxUnavailable" in budget, budget["minAvailable"]) == (False, 1)
    assert ("PriorityClass", "irsa-sidecar-webhook") not in objects


def test_process_values_are_in_the_container(helm: Helm) -> None:
    values = OPTIONS["process"]
    objects = helm.render(**values)
    container = container_of(objects)
    assert container["args"][1:] == [
        f"--image=registry.example.com/irsa-sidecar@{DIGESTS[0]}",
        f"--region={REGION}",
        "--env=HTTPS_PROXY=http://proxy:3128",
        "--native-sidecars=never",
        '--sidecar-resources={"limits":{"cpu":"200m","memory":"96Mi"},"requests":{"cpu":0.05}}',
        "--log-level=debug",
        "--drain-seconds=5",
    ]
    flag, _, text = container["args"][5].partition("=")
    assert check_resources(flag, text)["requests"] == {"cpu": "0.05"}
    assert container["env"] == values["extraEnv"]
    assert container["volumeMounts"] == values["extraVolumeMounts"]
    assert container["resources"]["limits"] == {"memory": "512Mi"}
    pod = by_name(objects)["Deployment", "webhook"]["spec"]["template"]["spec"]
    assert pod["volumes"] == values["extraVolumes"]


@pytest.mark.parametrize(
    ("values", "injected", "own"),
    [
        ({}, "irsa-sidecar:0.1.0", "irsa-sidecar:0.1.0-tools"),
        ({"image": {"repository": "r.example/a"}}, "r.example/a:0.1.0", "r.example/a:0.1.0-tools"),
        ({"image": {"tag": "1-tools"}, "sidecar": {"image": {"tag": "1"}}}, "irsa-sidecar:1", "irsa-sidecar:1-tools"),
        (
            {
                "image": {"repository": "r.example/a", "digest": DIGESTS[1]},
                "sidecar": {"image": {"digest": DIGESTS[0]}},
            },
            f"r.example/a@{DIGESTS[0]}",
            f"r.example/a@{DIGESTS[1]}",
        ),
        (
            {"image": {"repository": "r.example/b", "tag": "2"}, "sidecar": {"image": {"repository": "r.example/c"}}},
            "r.example/c:0.1.0",
            "r.example/b:2",
        ),
    ],
)
def test_image_reference_has_the_tag_or_digest(helm: Helm, values: dict[str, Any], injected: str, own: str) -> None:
    container = container_of(helm.render(**values))
    assert container["args"][1] == f"--image={injected}"
    assert container["image"] == own


def test_override_renames_every_object_and_reference(helm: Helm) -> None:
    objects = helm.render(**OPTIONS["names"])
    named = by_name(objects)
    assert {name for kind, name in named} == {"injector", "injector-webhook", "injector-account"}
    (webhook,) = named["MutatingWebhookConfiguration", "injector"]["webhooks"]
    assert webhook["clientConfig"]["service"]["name"] == "injector"
    assert container_of(objects)["args"][-2:] == ["--configuration=injector", "--secret=injector-webhook"]
    pod = named["Deployment", "injector"]["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["priorityClassName"]) == ("injector-account", "injector-webhook")
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        binding = named[kind, "injector-webhook"]
        assert (binding["roleRef"]["name"], binding["subjects"][0]["name"]) == ("injector-webhook", "injector-account")
    rules = [*named["ClusterRole", "injector-webhook"]["rules"], *named["Role", "injector-webhook"]["rules"]]
    assert [name for rule in rules for name in rule.get("resourceNames", ())] == ["injector", "injector-webhook"]
    labels = named["Deployment", "injector"]["spec"]["selector"]["matchLabels"]
    assert labels["app.kubernetes.io/name"] == "credentials"


def test_existing_objects_are_not_created_again(helm: Helm) -> None:
    objects = helm.render(**OPTIONS["given"])
    assert {found["kind"] for found in objects} == {"Deployment", "Service", "MutatingWebhookConfiguration"}
    (deployment,) = [found for found in objects if found["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert ("priorityClassName" in pod, pod["serviceAccountName"]) == (False, "given")


def test_pod_without_a_user_id_leaves_the_choice_to_the_cluster(helm: Helm) -> None:
    deployment = by_name(helm.render(**OPTIONS["OpenShift"]))["Deployment", "webhook"]
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_webhook_keeps_the_required_selectors(helm: Helm) -> None:
    found = by_name(helm.render(**OPTIONS["admission"]))["MutatingWebhookConfiguration", "irsa-sidecar"]
    (webhook,) = found["webhooks"]
    wanted = [
        {"key": "irsa-sidecar.io/inject", "operator": "Exists"},
        {"key": "irsa-sidecar.io/inject", "operator": "NotIn", "values": ["false"]},
    ]
    old = {"key": "era", "operator": "DoesNotExist"}
    assert webhook["objectSelector"] == {"matchLabels": {"tier": "web"}, "matchExpressions": [*wanted, old]}
    own = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [NAMESPACE]}
    team = {"key": "team", "operator": "In", "values": ["shop"]}
    assert webhook["namespaceSelector"] == {"matchLabels": {"env": "production"}, "matchExpressions": [own, team]}
    assert webhook["failurePolicy"] == "Ignore"
    assert webhook["timeoutSeconds"] == 15


def test_release_namespace_is_used_everywhere(helm: Helm) -> None:
    objects = helm.render("aws", certificate={"from": "cert-manager"}, **OPTIONS["monitoring"])
    assert {found["metadata"].get("namespace", "aws") for found in objects} == {"aws"}
    configuration = by_name(objects)["MutatingWebhookConfiguration", "irsa-sidecar"]
    assert configuration["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": "aws/webhook"}
    (webhook,) = configuration["webhooks"]
    assert webhook["clientConfig"]["service"]["namespace"] == "aws"
    assert webhook["namespaceSelector"]["matchExpressions"][0]["values"] == ["aws"]
    assert by_name(objects)["Certificate", "webhook"]["spec"]["dnsNames"][0] == "webhook.aws.svc"


def test_monitoring_values_are_in_the_monitoring_objects(helm: Helm) -> None:
    found = by_name(helm.render(**OPTIONS["monitoring"]))
    for name in ("irsa-sidecar", "irsa-sidecar-webhook"):
        monitor = found["PodMonitor", name]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert (endpoint["interval"], endpoint["path"]) == ("15s", "/metrics")
        assert endpoint["relabelings"] == [{"action": "labeldrop", "regex": "node"}]
        assert "metricRelabelings" not in endpoint
        assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
        dashboard = found["ConfigMap", f"{name}-dashboard"]["metadata"]
        assert (dashboard["labels"]["grafana_dashboard"], dashboard["annotations"]) == ("1", {"grafana_folder": "AWS"})


@pytest.mark.parametrize("part", ["podMonitor", "prometheusRule", "dashboards"])
def test_each_monitoring_part_is_enabled_separately(helm: Helm, part: str) -> None:
    kinds = {"podMonitor": "PodMonitor", "prometheusRule": "PrometheusRule", "dashboards": "ConfigMap"}
    found = [each["kind"] for each in helm.render(monitoring={part: {"enabled": True}})]
    assert {kind: found.count(kind) for kind in kinds.values()} == {
        kind: 2 * (name == part) for name, kind in kinds.items()
    }


def test_external_certificate_limits_creation_to_events(helm: Helm) -> None:
    for name in ("cert-manager", "existingSecret"):
        found = by_name(helm.render(**OPTIONS[name]))
        rules = found["ClusterRole", "irsa-sidecar-webhook"]["rules"]
        assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch", "create"}
        assert [rule["resources"] for rule in rules if "create" in rule["verbs"]] == [["events"]]
        assert not {("Role", "irsa-sidecar-webhook"), ("RoleBinding", "irsa-sidecar-webhook")} & found.keys()


def test_webhook_monitor_selects_the_webhook_pods(helm: Helm) -> None:
    found = by_name(helm.render(**OPTIONS["names"], **OPTIONS["monitoring"]))
    labels = found["Deployment", "injector"]["spec"]["template"]["metadata"]["labels"]
    assert found["PodMonitor", "irsa-sidecar-webhook"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["PodMonitor", "irsa-sidecar"]["spec"]["selector"] == {}


def test_spread_constraint_may_have_a_label_selector(helm: Helm) -> None:
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    own = constraint | {"labelSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}
    objects = by_name(helm.render(topologySpreadConstraints=[own, constraint]))
    spec = objects["Deployment", "webhook"]["spec"]
    found = spec["template"]["spec"]["topologySpreadConstraints"]
    assert found == [own, constraint | {"labelSelector": spec["selector"]}]


@pytest.mark.parametrize("repository", ["irsa-sidecar", "localhost:5000/irsa-sidecar", "a.example/b-c/d__e/f.g"])
def test_repository_may_have_a_port_and_folders(helm: Helm, repository: str) -> None:
    assert container_of(helm.render(image={"repository": repository}))["image"] == f"{repository}:0.1.0-tools"


@pytest.mark.parametrize("interval", ["30s", "1m30s", "500ms"])
def test_interval_may_have_several_units(helm: Helm, interval: str) -> None:
    found = by_name(helm.render(monitoring={"podMonitor": {"enabled": True, "interval": interval}}))
    assert found["PodMonitor", "irsa-sidecar"]["spec"]["podMetricsEndpoints"][0]["interval"] == interval


@pytest.mark.parametrize("is_enabled", [True, False])
def test_parent_chart_may_use_a_condition(helm: Helm, tmp_path: Path, *, is_enabled: bool) -> None:
    """Helm passes the value of the parent chart's condition `irsa-sidecar.enabled` to this chart as `enabled`."""
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "irsa-sidecar").symlink_to(CHART)
    dependency = {"name": "irsa-sidecar", "version": "0.1.0", "condition": "irsa-sidecar.enabled"}
    parent = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(parent))
    values = yaml.safe_dump({"irsa-sidecar": {"enabled": is_enabled, "region": REGION}})
    done = helm.run("template", "platform", str(tmp_path), "--values=-", "--kube-version=1.34.0", stdin=values)
    assert ("kind: Deployment" in done.stdout) == is_enabled
