"""Apply every manifest of k8s/ to a real API server. It rejects unknown fields, and Pods with too many permissions."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar import __version__
from sidecar.injection.inject import inject
from sidecar.injection.resources import check_resources
from sidecar.injection.settings import Settings
from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace
from tests.support.manifests import K8S, ROOT, documents, overlays, pods, read, sidecar_of, variables_of

PLAIN = ["pod/example.yaml", "pod/before-1.29.yaml", "pod/roles.yaml", "network-policy.yaml"]
KUSTOMIZATIONS = ["job"]
POLICIES = {
    "policies/gatekeeper/constraints",
    "policies/gatekeeper/templates",
    "policies/kyverno/enforce",
    "policies/kyverno/warn",
    "policies/validating-admission-policy",
}
ELSEWHERE = {
    "audit",
    "pod",
    "monitoring",
    "monitoring/webhook",
    "policy",
    "webhook",
    "webhook/cert-manager",
    "webhook/host-network",
    *POLICIES,
}
"""
The manifests that other tests cover, below and in test_audit.py, test_monitoring.py, test_policy.py,
test_policy_samples.py, test_webhook.py and test_chart.py. The policies for Kyverno and Gatekeeper have their own tests
in tests/policies.

Each of these manifests is a component, needs the Prometheus operator or cert-manager, has its own namespace, or is less
strict.
"""


def test_every_manifest_is_covered() -> None:
    """Count a kustomization as one manifest."""
    folders = {str(path.parent.relative_to(K8S)) for path in K8S.rglob("kustomization.yaml")}
    assert folders == {*KUSTOMIZATIONS, *ELSEWHERE}
    parts = {f"{folder}/{name}" for folder in folders for name in _named_in(K8S / folder / "kustomization.yaml")}
    alone = {str(path.relative_to(K8S)) for path in K8S.rglob("*.yaml") if path.name != "kustomization.yaml"}
    chart = {name for name in alone if name.startswith("chart/")}  # test_chart.py
    assert alone - parts - chart == set(PLAIN)


@pytest.mark.core
@pytest.mark.parametrize("name", [*PLAIN, *KUSTOMIZATIONS])
def test_manifest_and_its_pods_are_admitted(cluster: Cluster, namespace: Namespace, name: str) -> None:
    objects = read(name) if name in PLAIN else documents(cluster.kustomize(K8S / name))
    assert "Warning" not in namespace.apply(*objects, dry_run=True).stderr
    for number, pod in enumerate(pods(objects)):
        pod["metadata"]["name"] = f"pod-{number}"
        assert "Warning" not in namespace.apply(pod, dry_run=True).stderr


def test_less_strict_pod_is_rejected(namespace: Namespace) -> None:
    """Show that the previous test fails for a less strict Pod."""
    (pod,) = pods(read("pod/example.yaml"))
    pod["metadata"]["name"] = "loose"
    del sidecar_of(pod)["securityContext"]["capabilities"]
    manifest = yaml.safe_dump(pod)
    done = namespace.kubectl("apply", "--dry-run=server", "--filename=-", stdin=manifest, check=False)
    assert 'container "irsa-sidecar" must set securityContext.capabilities.drop' in done.stderr


ALL: dict[str, Any] = {"limits": {"cpu": "1", "memory": "1Gi"}}


@pytest.mark.parametrize(
    ("resources", "more", "wanted"),
    [
        (ALL, {}, "Guaranteed"),
        ({}, {"resources": ALL}, "Guaranteed"),
        # The application requests as much as the Pod. A request of the sidecar would exceed the Pod's request.
        ({"requests": {"cpu": "1"}}, {"resources": {**ALL, "requests": {"cpu": "1"}}}, "Guaranteed"),
        ({}, {}, "Burstable"),
    ],
)
@pytest.mark.parametrize("is_native", [True, False])
def test_sidecar_keeps_the_qos_class_of_the_pod(
    namespace: Namespace, resources: dict[str, Any], more: dict[str, Any], wanted: str, *, is_native: bool
) -> None:
    """Use resources of the container and of the Pod. In a Burstable Pod, the sidecar requests less than its limits."""
    app = {"name": "app", "image": "app", "resources": resources}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": {"containers": [app], **more}}
    settings = Settings(image="x", region="eu-west-1", is_native=is_native, role_arn="arn:aws:iam::111122223333:role/a")
    injected = inject(pod, None, settings).pod
    injected["spec"]["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    injected["spec"]["containers"][-1]["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    command = ("create", "--dry-run=server", "--output=json", "--filename=-")
    assert json.loads(namespace.kubectl(*command, stdin=json.dumps(injected)).stdout)["status"]["qosClass"] == wanted


def test_documented_overlay_names_images_and_accepts_flags(cluster: Cluster, tmp_path: Path) -> None:
    """Use the documented overlay in a folder outside of k8s/, with the patch for the webhook's settings."""
    shutil.copytree(K8S / "webhook", tmp_path / "k8s/webhook")
    (overlay,) = overlays("docs/install.md")
    (flags,) = re.findall(r"```yaml\n(patches:.*?)```", (ROOT / "docs/install.md").read_text(), re.DOTALL)
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster/kustomization.yaml").write_text(overlay + flags)
    objects = documents(cluster.kubectl("kustomize", str(tmp_path / "cluster")).stdout)
    (settings,) = [found for found in objects if found["kind"] == "ConfigMap"]
    image = f"registry.example.com/irsa-sidecar:{__version__}"
    assert settings["data"] == {"SIDECAR_IMAGE": image, "AWS_REGION": "eu-west-1"}
    (container,) = next(pods(objects))["spec"]["containers"]
    assert container["image"] == f"{image}-tools"
    assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
    assert container["args"][-2] == "--native-sidecars=never"
    flag, _, text = container["args"][-1].partition("=")
    assert check_resources(flag, text)["limits"] == {"memory": "96Mi"}


WORKLOADS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}


@pytest.mark.parametrize("kind", WORKLOADS)
def test_component_adds_a_sidecar_first_to_every_workload_kind(
    cluster: Cluster, namespace: Namespace, tmp_path: Path, kind: str
) -> None:
    objects = _with_component(cluster, tmp_path, _workload(kind))
    assert "Warning" not in namespace.apply(*objects, dry_run=True).stderr
    (pod,) = pods(objects)
    assert [container["name"] for container in pod["spec"]["initContainers"]] == ["irsa-sidecar", "first"]
    (settings,) = [document for document in objects if document["kind"] == "ConfigMap"]
    region = variables_of(sidecar_of(pod))["AWS_REGION"]["configMapKeyRef"]["name"]
    assert region == pod["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"] == settings["metadata"]["name"]
    example = variables_of(next(pods(read("pod/example.yaml")))["spec"]["containers"][0])
    assert settings["data"] == example


def test_component_accepts_an_image_of_another_registry(cluster: Cluster, tmp_path: Path) -> None:
    images = [{"name": "irsa-sidecar", "newName": "registry.example.com/irsa-sidecar", "newTag": "1.2.3"}]
    (pod,) = pods(_with_component(cluster, tmp_path, _workload("Deployment"), images=images))
    assert sidecar_of(pod)["image"] == "registry.example.com/irsa-sidecar:1.2.3"


def _workload(kind: str) -> dict[str, Any]:
    strict = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    spec: dict[str, Any] = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{"name": "first", "image": "app", "securityContext": strict}],
        "containers": [
            {
                "name": "web",
                "image": "app",
                "envFrom": [{"configMapRef": {"name": "irsa-sidecar"}}],
                "securityContext": strict,
                "volumeMounts": [{"name": "irsa-sidecar-authorization", "mountPath": "/run/irsa-sidecar"}],
            }
        ],
    }
    role = {"irsa-sidecar.io/role-arn": "arn:aws:iam::111122223333:role/app"}
    template: dict[str, Any] = {"metadata": {"annotations": role}, "spec": spec}
    if kind in {"Job", "CronJob"}:
        spec["restartPolicy"] = "Never"
        inner: dict[str, Any] = {"template": template}
        outer: dict[str, Any] = inner if kind == "Job" else {"schedule": "0 0 * * *", "jobTemplate": {"spec": inner}}
    else:
        template["metadata"]["labels"] = {"app": "web"}
        outer = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
        if kind == "StatefulSet":
            outer["serviceName"] = "web"
    return {"apiVersion": WORKLOADS[kind], "kind": kind, "metadata": {"name": "web"}, "spec": outer}


def _with_component(cluster: Cluster, folder: Path, workload: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Return the objects of a user's kustomization that adds the component to the workload."""
    (folder / "workload.yaml").write_text(yaml.safe_dump(workload))
    component = Path("../" * (len(folder.parts) - 1), *(K8S / "pod").parts[1:])  # kustomize requires a relative path
    kustomization = {
        "resources": ["workload.yaml"],
        "components": [str(component)],
        "configMapGenerator": [
            {"name": "irsa-sidecar", "literals": ["AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1"]}
        ],
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return documents(cluster.kubectl("kustomize", str(folder)).stdout)


def _named_in(kustomization: Path) -> list[str]:
    document = yaml.safe_load(kustomization.read_text())
    patches = [patch["path"] for patch in document.get("patches", ()) if "path" in patch]
    files = [name for each in document.get("configMapGenerator", ()) for name in each.get("files", ())]
    return [*document.get("resources", ()), *patches, *files]
