"""The webhook as `kubectl apply -k k8s/webhook` deploys it, and the Pods that its users write."""

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
"""Its Pods."""

ROLE = {"irsa-sidecar.io/role-arn": role_arn("app")}
ASKS = {"irsa-sidecar.io/inject": "true"}


@contextmanager
def deployed_webhook(
    node: Cluster, sts: ClusterSts, folder: Path, components: Sequence[str] = (), **more: Any
) -> Iterator[Namespace]:
    """Its namespace, once its replicas are ready. In the end all that is in it is gone, whoever made it."""
    kustomization = write_kustomization(folder, sts, components, **more)
    deployed = Namespace(node, "irsa-sidecar")
    try:
        apply_webhook(deployed, kustomization)
        # As a ServiceAccount that there is: without it, the API server refuses the Pod before it asks a webhook.
        elsewhere, pod = Namespace(node, "default"), asking_pod(authored_spec(sts) | {"serviceAccountName": "default"})
        wait_until(lambda: "There is no role" in tried(elsewhere, pod), "kube-proxy's way to it")
        yield deployed
    finally:
        # First, and at once: a namespace looks again for Pods that take their time after fifteen seconds only.
        deployed.kubectl("delete", "deployments,replicasets", "--all", "--cascade=orphan")
        deployed.kubectl("delete", "pods", "--all", "--grace-period=1")
        node.kubectl("delete", kustomization, "--wait=false", "--ignore-not-found")
        node.kubectl("wait", "--for=delete", f"namespace/{deployed.name}", "--timeout=120s")


def apply_webhook(deployed: Namespace, kustomization: str) -> None:
    """Return when its replicas are those that were asked for."""
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
    One over k8s/webhook, with these of the components that are there, patches and other fields.

    Returns kubectl's flag for it.
    """
    overlay = _overlay(folder, sts, components)
    overlay["patches"] += patches
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay | more))
    return f"--kustomize={folder}"


def _overlay(folder: Path, sts: ClusterSts, components: Sequence[str]) -> dict[str, Any]:
    """As a user's, with the images of this checkout and the STS of the tests."""
    base = Path("../" * (len(folder.parts) - 1), *(K8S / "webhook").parts[1:])  # kustomize wants a relative path
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


def asking_pod(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": ASKS} | metadata, "spec": spec}


def asking_deployment(spec: dict[str, Any]) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web", **ASKS}}, "spec": spec}
    whole = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": whole}


def tried(namespace: Namespace, pod: dict[str, Any]) -> str:
    """What kubectl says of it, through admission and no further."""
    done = namespace.kubectl("create", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump(pod), check=False)
    return done.stdout + done.stderr


def pod_of(namespace: Namespace, selector: str) -> dict[str, Any]:
    """The one Pod of it, once it is made."""
    found: list[dict[str, Any]] = wait_until(
        lambda: namespace.get("pods", f"--selector={selector}")["items"], f"a Pod of {selector}"
    )
    return found[0]


def authorities(webhook: Namespace) -> str:
    bundle: str = webhook.get(CONFIGURATION)["webhooks"][0]["clientConfig"]["caBundle"]
    return bundle


def served(node: Cluster, webhook: Namespace) -> set[str]:
    """The certificates of its replicas."""
    program = "import ssl, sys; print(ssl.get_server_certificate((sys.argv[1], 8443)))"
    addresses = [pod["status"]["podIP"] for pod in replicas(webhook)]
    command = [*node.inside(), sys.executable, "-c", program]
    return {subprocess.check_output([*command, address], text=True).strip() for address in addresses}


def node_ports(webhook: Namespace) -> list[int]:
    """Where its one replica listens, which is on the network of its node."""
    (replica,) = replicas(webhook)
    assert replica["status"]["podIP"] == replica["status"]["hostIP"]
    return [port["hostPort"] for port in replica["spec"]["containers"][0]["ports"]]


def replicas(webhook: Namespace) -> list[dict[str, Any]]:
    """Its Pods, without those that end."""
    found = webhook.get("pods", COMPONENT)["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
