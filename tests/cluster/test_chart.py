"""
Test the chart k8s/chart in a cluster.

The chart creates the same objects as k8s/webhook, an API server accepts its options, and an installed chart injects
sidecars. tests/chart has the tests that need no cluster.
"""

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.go_programs import HELM_3, HELM_4, GoProgram, built
from tests.chart.rendering import CHART, NAMESPACE, OPTIONS, Objects, by_name
from tests.cluster.applications import IMAGE, TOOLS_IMAGE, authored_spec
from tests.cluster.certificates import Certificates
from tests.cluster.cluster import Cluster, Done
from tests.cluster.definitions import CERT_MANAGER, OPERATOR, install
from tests.cluster.namespace import Namespace
from tests.cluster.sts import REGION, ClusterSts
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import COMPONENT, ROLE, labelled_pod, node_ports, replicas
from tests.support.manifests import K8S, documents, patches_for_other_ports, sidecar_of

VERSION = "--kube-version=1.34.0"
"""The flag for the version of Kubernetes that Helm assumes without a cluster."""

OF_HELM = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
"""The labels that only the chart's objects have."""

Helm = Callable[..., Done]


@pytest.fixture(scope="module", params=[HELM_3, HELM_4], ids=["helm3", "helm4"])
def helm(cluster: Cluster, request: pytest.FixtureRequest) -> Helm:
    """Return a function that runs Helm in the cluster's network, as the administrator."""
    program: GoProgram = request.param
    command = [*cluster.inside(), str(built(program))]
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}

    def run(*arguments: str, stdin: str | None = None, check: bool = True) -> Done:
        done = subprocess.run(
            [*command, *arguments], input=stdin, env=environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"helm {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done

    return run


def rendered(helm: Helm, *flags: str, namespace: str = NAMESPACE, **values: Any) -> list[dict[str, Any]]:
    """Return the objects that `helm template` renders from these values. The flags may contain --set."""
    command = [
        "template",
        "irsa-sidecar",
        CHART,
        VERSION,
        f"--namespace={namespace}",
        "--values=-",
        "--no-hooks",
        *flags,
    ]
    objects = documents(helm(*command, stdin=yaml.safe_dump({"region": REGION} | values)).stdout)
    return [_without_helms_labels(found) for found in objects]


def _without_helms_labels(value: Any) -> Any:
    """Return the value without the labels that only the chart sets, at any depth."""
    if isinstance(value, list):
        return [_without_helms_labels(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_helms_labels(each) for name, each in value.items() if name not in OF_HELM}
    return value


# The chart and the kustomizations create the same objects.


def test_chart_equals_the_kustomization(cluster: Cluster, helm: Helm) -> None:
    assert by_name(rendered(helm)) == _wanted(cluster, K8S / "webhook")


def test_chart_with_cert_manager_equals_the_component(cluster: Cluster, helm: Helm, tmp_path: Path) -> None:
    _write_overlay(tmp_path, "cert-manager")
    assert by_name(rendered(helm, certificate={"from": "cert-manager"})) == _wanted(cluster, tmp_path)


def test_chart_on_the_host_network_equals_the_component(cluster: Cluster, helm: Helm, tmp_path: Path) -> None:
    """Use other ports, with the patches that a comment in the component shows."""
    _write_overlay(tmp_path, "host-network", patches=patches_for_other_ports())
    allowed = _kustomized(cluster, tmp_path)["Namespace", NAMESPACE]["metadata"]["labels"]
    assert {name: level for name, level in allowed.items() if "pod-security" in name and level != "privileged"} == {}
    wanted = _wanted(cluster, tmp_path)
    assert ("NetworkPolicy", "webhook") not in wanted
    assert by_name(rendered(helm, **OPTIONS["host network"])) == wanted


def test_chart_with_monitoring_equals_both_folders(cluster: Cluster, helm: Helm) -> None:
    plain = by_name(rendered(helm))
    found = by_name(
        rendered(helm, monitoring={part: {"enabled": True} for part in ("podMonitor", "prometheusRule", "dashboards")})
    )
    wanted = _kustomized(cluster, K8S / "monitoring") | _kustomized(cluster, K8S / "monitoring/webhook")
    assert found.keys() - plain.keys() == wanted.keys()
    for name, each in wanted.items():
        metadata = found[name].pop("metadata")
        assert metadata["namespace"] == NAMESPACE
        assert metadata["labels"].items() >= each.pop("metadata")["labels"].items()
        assert found[name] == each


@pytest.fixture(scope="module")
def knowing(cluster: Cluster) -> Cluster:
    """Return the cluster with the definitions of cert-manager and the Prometheus operator."""
    install(cluster, CERT_MANAGER)
    install(cluster, OPERATOR)
    return cluster


@pytest.mark.parametrize("name", OPTIONS)
def test_api_server_accepts_every_option(knowing: Cluster, namespace: Namespace, helm: Helm, name: str) -> None:
    """Reject unknown fields. The namespace has the strictest Pod Security level that the option allows."""
    del knowing
    if OPTIONS[name].get("hostNetwork"):
        _allow_everything(namespace)
    objects = rendered(helm, namespace=namespace.name, **OPTIONS[name])
    priority = [found for found in objects if found["kind"] == "PriorityClass"]
    assert bool(priority) != ("priorityClassName" in OPTIONS[name])
    assert "Warning" not in namespace.apply(*objects, dry_run=True).stderr


def test_host_network_install_fails_in_a_restricted_namespace(namespace: Namespace, helm: Helm) -> None:
    """Check that the chart shows the reason. Helm itself would only wait for the Pods."""
    command = (
        "install",
        "irsa-sidecar",
        CHART,
        "--dry-run=server",
        f"--namespace={namespace.name}",
        f"--set=region={REGION}",
    )
    done = helm(*command, "--set=hostNetwork=true", check=False)
    assert f"namespace {namespace.name} enforces the Pod Security Standard restricted" in done.stderr
    _allow_everything(namespace)
    assert "enforces" not in helm(*command, "--set=hostNetwork=true", check=False).stderr


def _allow_everything(namespace: Namespace) -> None:
    """Label the namespace with the command from the chart's message."""
    labels = [f"pod-security.kubernetes.io/{mode}=privileged" for mode in ("enforce", "warn")]
    namespace.kubectl("label", "--overwrite", "namespace", namespace.name, *labels)


def test_chart_notes_show_the_next_step(helm: Helm) -> None:
    def notes(*flags: str) -> str:
        values = [f"--set=region={REGION}", f"--namespace={NAMESPACE}", *flags]
        return helm("install", "irsa-sidecar", CHART, "--dry-run=client", *values).stdout.partition("NOTES:")[2]

    output = notes()
    assert "kubectl --namespace irsa-sidecar rollout status deployment/webhook" in output
    assert "helm test --namespace irsa-sidecar irsa-sidecar" in output
    assert 'irsa-sidecar.io/inject: "true"' in output
    assert "image.repository is `irsa-sidecar`, which no registry serves" in output
    output = notes("--set=image.repository=r.example/a,failurePolicy=Ignore,certificate.from=cert-manager")
    assert "no registry" not in output
    assert "may get the node's role" in output
    assert "certificate/webhook" in output
    assert "the network of its nodes" not in output
    output = notes("--set=hostNetwork=true,ports.https=9443")
    assert "The webhook uses the network of its nodes" in output
    assert "port 9443 of the nodes" in output
    assert "namespace irsa-sidecar pod-security.kubernetes.io/enforce=privileged" in output


# These tests run Pods on a node.


@pytest.fixture(scope="module")
def installed(node: Cluster, helm: Helm) -> Iterator[Namespace]:
    """Install the chart with `helm install`, in a namespace that Helm creates."""
    values = [f"--set=region={REGION},replicaCount=1,{_images()}"]
    helm("install", "irsa-sidecar", CHART, "--namespace=aws", "--create-namespace", "--wait", "--timeout=120s", *values)
    try:
        yield Namespace(node, "aws")
    finally:
        helm("uninstall", "irsa-sidecar", "--namespace=aws", "--wait")
        node.kubectl("delete", "namespace", "aws")  # the next version of Helm creates the namespace again


def test_installed_chart_injects_sidecars(installed: Namespace, namespace: Namespace, sts: ClusterSts) -> None:
    wait_until(lambda: _admitted(namespace, sts) == IMAGE, "a Pod with a sidecar")


def test_hook_reports_that_the_webhook_injects(installed: Namespace, helm: Helm) -> None:
    done = helm("test", "irsa-sidecar", f"--namespace={installed.name}", "--logs", "--timeout=120s")
    assert "Phase:          Succeeded" in done.stdout


def test_mounted_certificate_is_reloaded_without_a_restart(
    installed: Namespace, namespace: Namespace, helm: Helm, sts: ClusterSts, tmp_path: Path
) -> None:
    """Trust two CAs first, and then only the second CA. A review then fails if the first CA signed the certificate."""
    first, second = (_authority(tmp_path / name) for name in ("first", "second"))
    _put_secret(installed, first)
    (tmp_path / "ca.pem").write_bytes(b"".join((each / "ca.crt").read_bytes() for each in (first, second)))
    values = ["--set=certificate.from=existingSecret,certificate.existingSecret=mounted", "--reuse-values"]
    if "v4." in helm("version", "--short").stdout:
        values.append("--force-conflicts")  # Helm 4 applies on the server, where the webhook owns the caBundle
    trust = [f"--set-file=certificate.caBundle={tmp_path}/ca.pem"]
    helm("upgrade", "irsa-sidecar", CHART, "--namespace=aws", "--wait", "--timeout=120s", *values, *trust)
    wait_until(lambda: _admitted(namespace, sts) == IMAGE, "a Pod with a sidecar")
    before = _webhook_pod(installed)
    _put_secret(installed, second)
    trust = [f"--set-file=certificate.caBundle={second}/ca.crt"]
    wait_until(lambda: _certificates_taken(installed, before) == 2, "the second certificate")
    helm("upgrade", "irsa-sidecar", CHART, "--namespace=aws", "--wait", "--timeout=120s", "--reuse-values", *trust)
    wait_until(lambda: _admitted(namespace, sts) == IMAGE, "a Pod with a sidecar")
    assert _webhook_pod(installed) == before


def test_host_network_webhook_has_one_replica_per_node(
    installed: Namespace, namespace: Namespace, helm: Helm, sts: ClusterSts
) -> None:
    """Use other ports than a Pod with its own network. The API server and the kubelet reach these ports."""
    upgrade = ("upgrade", "irsa-sidecar", CHART, "--namespace=aws", "--reuse-values")
    values = "--set=hostNetwork=true,ports.https=9443,ports.admin=9080"
    helm(*upgrade, "--wait", "--timeout=120s", values)
    assert node_ports(installed) == [9443, 9080]
    wait_until(lambda: _admitted(namespace, sts) == IMAGE, "a Pod with a sidecar")
    helm(*upgrade, "--set=replicaCount=2")
    wait_until(lambda: "didn't have free ports" in _unscheduled(installed), "a replica without a node")
    assert _admitted(namespace, sts) == IMAGE
    # The next version uses the same ports.
    helm(*upgrade, "--wait", "--timeout=120s", "--set=replicaCount=1,podLabels.round=second")
    assert installed.pod(_webhook_pod(installed))["metadata"]["labels"]["round"] == "second"
    wait_until(lambda: _admitted(namespace, sts) == IMAGE, "a Pod with a sidecar")


def _unscheduled(installed: Namespace) -> str:
    """Return the reasons why Pods of the webhook have no node."""
    found = installed.get("pods", COMPONENT)["items"]
    conditions = [each for pod in found for each in pod["status"].get("conditions", ())]
    return " ".join(each.get("message", "") for each in conditions if each["type"] == "PodScheduled")


def _authority(folder: Path) -> Path:
    """Return a new CA, with a certificate for the webhook."""
    Certificates(folder).make_server("webhook", ["webhook.aws.svc"], [])
    return folder


def _put_secret(installed: Namespace, folder: Path) -> None:
    files = {"tls.crt": folder / "webhook.crt", "tls.key": folder / "webhook.key"}
    data = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mounted"}, "type": "kubernetes.io/tls"}
    installed.apply(secret | {"data": data})


def _webhook_pod(installed: Namespace) -> str:
    """Return the webhook's Pod that is not terminating."""
    (found,) = replicas(installed)
    return str(found["metadata"]["name"])


def _certificates_taken(installed: Namespace, pod: str) -> int:
    return installed.logs(pod, "webhook").count('"certificate_activated"')


def _admitted(namespace: Namespace, sts: ClusterSts) -> str:
    """Return the sidecar's image in an admitted Pod, or an empty string if the Pod is rejected."""
    pod = labelled_pod(authored_spec(sts), annotations=ROLE)
    create = ["create", "--dry-run=server", "--output=json", "--filename=-"]
    done = namespace.kubectl(*create, stdin=yaml.safe_dump(pod), check=False)
    return str(sidecar_of(json.loads(done.stdout))["image"]) if done.returncode == 0 else ""


def _images() -> str:
    repository, _, tag = TOOLS_IMAGE.partition(":")
    return f"image.repository={repository},image.tag={tag},sidecar.image.tag={IMAGE.partition(':')[2]}"


def _write_overlay(folder: Path, component: str, **more: Any) -> None:
    """Write a kustomization that adds the component and these fields to the webhook's kustomization."""
    base = Path("../" * (len(folder.parts) - 1), *(K8S / "webhook").parts[1:])  # kustomize requires a relative path
    overlay = {"resources": [str(base)], "components": [str(base / component)]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay | more))


def _wanted(cluster: Cluster, folder: Path) -> Objects:
    """Return the kustomization's objects as in the chart: arguments instead of variables, and no Namespace."""
    wanted = _kustomized(cluster, folder)
    del wanted["Namespace", NAMESPACE]  # Helm creates the namespace with --create-namespace
    (settings,) = [key for key in wanted if key[0] == "ConfigMap"]
    values = wanted.pop(settings)["data"]
    (container,) = wanted["Deployment", "webhook"]["spec"]["template"]["spec"]["containers"]
    del container["envFrom"]
    for name, value in values.items():
        container["args"] = [argument.replace(f"$({name})", value) for argument in container["args"]]
    return wanted


def _kustomized(cluster: Cluster, folder: Path) -> Objects:
    return by_name(documents(cluster.kubectl("kustomize", str(folder)).stdout))
