"""Deploy the webhook with `kubectl apply -k k8s/webhook`, and build the Pods that its users write."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.applications import IMAGE, TOOLS_IMAGE, authored_spec
from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace
from tests.cluster.sts import REGION, ClusterSts, role_arn
from tests.cluster.waiting import wait_until
from tests.support.manifests import K8S

CONFIGURATION = "mutatingwebhookconfiguration/irsa-sidecar"
SECRET = "secret/irsa-sidecar-webhook"
COMPONENT = "--selector=app.kubernetes.io/component=webhook"
"""The kubectl flag that selects the webhook's Pods."""

ROLE = {"irsa-sidecar.io/role-arn": role_arn("app")}
INJECT_LABEL = {"irsa-sidecar.io/inject": "true"}


@contextmanager
def deployed_webhook(
    node: Cluster, sts: ClusterSts, folder: Path, components: Sequence[str] = (), **more: Any
) -> Iterator[Namespace]:
    """Deploy the webhook, and yield its namespace when the replicas are ready. At the end, delete the deployment."""
    kustomization = write_kustomization(folder, sts, components, **more)
    deployed = Namespace(node, "irsa-sidecar")
    try:
        apply_webhook(deployed, kustomization)
        # The Pod uses an existing ServiceAccount. Otherwise the API server rejects the Pod before it calls a webhook.
        elsewhere, pod = (
            Namespace(node, "default"),
            labelled_pod(authored_spec(sts) | {"serviceAccountName": "default"}),
        )
        wait_until(lambda: "There is no role" in tried(elsewhere, pod), "kube-proxy's rule for the webhook")
        yield deployed
    finally:
        # Delete these objects first and without a delay. A namespace checks slow Pods again only after 15 seconds.
        deployed.kubectl("delete", "deployments,replicasets", "--all", "--cascade=orphan")
        deployed.kubectl("delete", "pods", "--all", "--grace-period=1")
        node.kubectl("delete", kustomization, "--wait=false", "--ignore-not-found")
        node.kubectl("wait", "--for=delete", f"namespace/{deployed.name}", "--timeout=120s")


def apply_webhook(deployed: Namespace, kustomization: str) -> None:
    """Apply the kustomization, and return when the requested replicas run."""
    applied = deployed.kubectl("apply", kustomization, "--validate=strict")
    assert "Warning" not in applied.stderr
    deployed.kubectl("rollout", "status", "deployment/webhook", "--timeout=120s")


def write_kustomization(
    folder: Path,
    sts: ClusterSts,
    components: Sequence[str] = (),
    patches: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> str:
    """
    Write a kustomization over k8s/webhook, with these of its components, these patches and other fields.

    Returns kubectl's flag for the kustomization.
    """
    overlay = _overlay(folder, sts, components)
    overlay["patches"] += patches
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay | more))
    return f"--kustomize={folder}"


def _overlay(folder: Path, sts: ClusterSts, components: Sequence[str]) -> dict[str, Any]:
    """Return the overlay of a user, with the images of this checkout and the STS of the tests."""
    base = Path("../" * (len(folder.parts) - 1), *(K8S / "webhook").parts[1:])  # kustomize requires a relative path
    name, _, tag = TOOLS_IMAGE.partition(":")
    endpoint = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-"}]
    endpoint[0]["value"] = f"--env=AWS_ENDPOINT_URL_STS={sts.url}"
    literals = [f"SIDECAR_IMAGE={IMAGE}", f"AWS_REGION={REGION}"]
    return {
        "resources": [str(base)],
        "components": [str(base / component) for component in components],
        "images": [{"name": "irsa-sidecar", "newName": name, "newTag": tag}],
        "configMapGenerator": [
            {"name": "webhook", "namespace": "irsa-sidecar", "behavior": "merge", "literals": literals}
        ],
        "patches": [{"target": {"kind": "Deployment"}, "patch": json.dumps(endpoint)}],
    }


def labelled_pod(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": INJECT_LABEL} | metadata,
        "spec": spec,
    }


def labelled_deployment(spec: dict[str, Any]) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web", **INJECT_LABEL}}, "spec": spec}
    whole = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": whole}


def tried(namespace: Namespace, pod: dict[str, Any]) -> str:
    """Return kubectl's output for a dry run of the Pod's creation."""
    done = namespace.kubectl("create", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump(pod), check=False)
    return done.stdout + done.stderr


def pod_of(namespace: Namespace, selector: str) -> dict[str, Any]:
    """Wait for a Pod that the selector matches, and return the Pod."""
    found: list[dict[str, Any]] = wait_until(
        lambda: namespace.get("pods", f"--selector={selector}")["items"], f"a Pod of {selector}"
    )
    return found[0]


def authorities(webhook: Namespace) -> str:
    bundle: str = webhook.get(CONFIGURATION)["webhooks"][0]["clientConfig"]["caBundle"]
    return bundle


def served(node: Cluster, webhook: Namespace) -> set[str]:
    """Return the certificates that the replicas serve."""
    program = "import ssl, sys; print(ssl.get_server_certificate((sys.argv[1], 8443)))"
    addresses = [pod["status"]["podIP"] for pod in replicas(webhook)]
    command = [*node.inside(), sys.executable, "-c", program]
    return {subprocess.check_output([*command, address], text=True).strip() for address in addresses}


def node_ports(webhook: Namespace) -> list[int]:
    """Return the ports of the only replica, which uses the network of its node."""
    (replica,) = replicas(webhook)
    assert replica["status"]["podIP"] == replica["status"]["hostIP"]
    return [port["hostPort"] for port in replica["spec"]["containers"][0]["ports"]]


def replicas(webhook: Namespace) -> list[dict[str, Any]]:
    """Return the webhook's Pods, except terminating Pods."""
    found = webhook.get("pods", COMPONENT)["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
