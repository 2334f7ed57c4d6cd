"""Install the policies of `irsa-sidecar setup policy` in a cluster, and create Pods for tests of these policies."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import yaml

from sidecar.injection.settings import Settings
from sidecar.policy.manifest import manifest
from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace
from tests.cluster.policy_pods import ACCOUNTS
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import ROLE, labelled_pod, tried
from tests.support.manifests import documents

GROUP = "admissionregistration.k8s.io"
MUTATING, VALIDATING = "mutatingadmissionpolicy/irsa-sidecar", "validatingadmissionpolicy/irsa-sidecar"


def policy_version(cluster: Cluster) -> str:
    """Return the API version of MutatingAdmissionPolicy. Skip the test if the API server has no such kind."""
    for version in ("v1", "v1beta1"):  # Kubernetes 1.34 and 1.35 have v1beta1, with the feature gate
        found = cluster.kubectl("get", "--raw", f"/apis/{GROUP}/{version}", check=False).stdout
        if "mutatingadmissionpolicies" in found:
            return version
    pytest.skip("needs MutatingAdmissionPolicy: Kubernetes 1.36")


def policy_text(cluster: Cluster, settings: Settings) -> str:
    """Return the manifest of the policies in a version that the API server has."""
    objects = documents(manifest(settings))
    for found in objects:
        if found["kind"].startswith("Mutating"):
            found["apiVersion"] = f"{GROUP}/{policy_version(cluster)}"
    return yaml.safe_dump_all(objects)


@contextmanager
def installed_policy(cluster: Cluster, settings: Settings) -> Iterator[None]:
    """Install the policies, and yield when they add sidecars. At the end, remove the policies."""
    text, default = policy_text(cluster, settings), Namespace(cluster, "default")
    try:
        apply_policy(cluster, text)
        wait_until(lambda: "initContainers" in _created_by_policy(default), "the policies' effect")
        yield
    finally:
        delete_policy(cluster, text)
        wait_until(lambda: "initContainers" not in _created_by_policy(default), "the policies' removal")


def dry_run(namespace: Namespace, pod: Mapping[str, Any]) -> dict[str, Any] | str:
    """Return the Pod that a dry run creates, or the rejection."""
    text = yaml.safe_dump(dict(pod))
    done = namespace.kubectl("create", "--dry-run=server", "--output=json", "--filename=-", stdin=text, check=False)
    created: dict[str, Any] | str = json.loads(done.stdout) if done.returncode == 0 else done.stderr
    return created


def apply_policy(cluster: Cluster, text: str) -> None:
    cluster.kubectl("apply", "--server-side", "--validate=strict", "--filename=-", stdin=text)


def delete_policy(cluster: Cluster, text: str) -> None:
    cluster.kubectl("delete", "--filename=-", "--ignore-not-found", stdin=text)


def _created_by_policy(namespace: Namespace) -> str:
    """Return the YAML of a labelled Pod that a dry run creates, or an empty string if the Pod is rejected."""
    pod = yaml.safe_dump(labelled_pod({"containers": [{"name": "app", "image": "app"}]}, annotations=ROLE))
    done = namespace.kubectl("create", "--dry-run=server", "--output=yaml", "--filename=-", stdin=pod, check=False)
    return done.stdout


@contextmanager
def namespace_with_accounts(cluster: Cluster) -> Iterator[Namespace]:
    """Create a namespace without a Pod Security level, with the ServiceAccounts of the generated Pods."""
    namespace = Namespace(cluster, f"policy-{uuid.uuid4().hex[:8]}")
    cluster.kubectl("create", "namespace", namespace.name)
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "annotations": annotations}}
        for name, annotations in ACCOUNTS.items()
    ]
    namespace.apply(*accounts)
    last = labelled_pod({"serviceAccountName": "wrong-expiration", "containers": [{"name": "app", "image": "app"}]})
    try:
        wait_until(
            lambda: "does not know" not in tried(namespace, last), "the ServiceAccounts in the API server's cache"
        )
        yield namespace
    finally:
        cluster.kubectl("delete", "namespace", namespace.name, "--wait=false")


def cart(*containers: Mapping[str, Any], annotations: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a labelled Pod of the ServiceAccount `cart`, by default with one container."""
    listed = [deepcopy(dict(each)) for each in containers or ({"name": "app", "image": "app"},)]
    pod = labelled_pod({"serviceAccountName": "cart", "containers": listed} | spec, annotations=dict(annotations or {}))
    pod["metadata"]["name"] = "cart"
    return pod


@contextmanager
def changed_variable(cluster: Cluster, position: int, expression: str) -> Iterator[None]:
    """Replace the expression of a variable of the mutating policy until the block ends."""
    path = f"/spec/variables/{position}/expression"
    before = cluster.get(MUTATING)["spec"]["variables"][position]["expression"]

    def patch(value: str) -> None:
        operations = yaml.safe_dump([{"op": "replace", "path": path, "value": value}])
        cluster.kubectl("patch", MUTATING, "--type=json", f"--patch={operations}")

    patch(expression)
    try:
        yield
    finally:
        patch(before)
