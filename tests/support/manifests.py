"""Read the manifests of k8s/, and build the Pods that they create."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"

SIDECAR = "irsa-sidecar"

_TEMPLATES = (("spec", "template"), ("spec", "jobTemplate", "spec", "template"))
"""The paths to the Pod template in workloads. The second path is for CronJobs."""


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def read(path: str) -> list[dict[str, Any]]:
    """Return the Kubernetes objects in a file of k8s/."""
    return documents((K8S / path).read_text())


def pods(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the Pod that each workload among the objects would create, without the Pod's name."""
    for document in objects:
        for path in _TEMPLATES:
            found: Any = document
            for key in path:
                found = found.get(key, {})
            if "spec" in found:
                yield {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {**found.get("metadata", {})},
                    "spec": found["spec"],
                }


def overlays(document: str) -> list[str]:
    """Return the YAML blocks of a document that extend the webhook's kustomization."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    return [block for block in blocks if block.startswith("resources: [../k8s/webhook]\n")]


def patches_for_other_ports() -> list[dict[str, Any]]:
    """Return the patches in the comment of the component k8s/webhook/host-network."""
    text = (K8S / "webhook/host-network/kustomization.yaml").read_text()
    found = re.search(r"^#     patches:\n(#       .*\n)+", text, re.MULTILINE)
    assert found
    patches: list[dict[str, Any]] = yaml.safe_load(found[0].replace("#     ", ""))["patches"]
    return patches


def sidecar_of(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the sidecar's container, which may be an init container or a plain container."""
    containers = [*pod["spec"].get("initContainers", ()), *pod["spec"].get("containers", ())]
    return next(container for container in containers if container["name"] == SIDECAR)


def variables_of(container: dict[str, Any]) -> dict[str, Any]:
    """Return the value or the source of each variable, by its name."""
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container.get("env", ())}
