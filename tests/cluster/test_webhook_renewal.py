"""Test changes of the webhook's certificate and replicas while a program creates Pods continuously."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidecar.webhook.certificate.issue import CertificateBundle, from_secret, renewed, to_secret
from tests.cluster.applications import authored_spec
from tests.cluster.cluster import Cluster
from tests.cluster.creations import Creations, creations
from tests.cluster.namespace import Namespace
from tests.cluster.sts import ClusterSts
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import COMPONENT, SECRET, labelled_pod, served

NAME = "webhook.irsa-sidecar.svc"


@pytest.fixture
def created(node: Cluster, annotated: Namespace, sts: ClusterSts, tmp_path: Path) -> Iterator[Creations]:
    """Create Pods continuously until the test ends."""
    with creations(node, annotated, labelled_pod(authored_spec(sts)), tmp_path) as found:
        yield found


def make_due(webhook: Namespace) -> None:
    """Make the certificate due for renewal, as if 61 days had passed."""
    held = bundle(webhook)
    put(webhook, renewed(held, [NAME], datetime.now(UTC) - timedelta(days=61)))


def delete(webhook: Namespace) -> None:
    webhook.kubectl("delete", SECRET)


def replace_with_another(webhook: Namespace) -> None:
    """Replace the certificate, as a restore from another cluster's backup does."""
    put(webhook, renewed(None, [NAME], datetime.now(UTC)))


@pytest.mark.parametrize("change", [delete, replace_with_another, make_due])
def test_pods_are_admitted_while_the_certificate_changes(
    node: Cluster, webhook: Namespace, created: Creations, change: Callable[[Namespace], None]
) -> None:
    before = served(node, webhook)
    change(webhook)
    wait_until(lambda: is_another_served(node, webhook, before), "another certificate, the same at both replicas")
    created.wait_for_more()
    assert created.failed == []


def test_pods_are_admitted_while_replicas_are_replaced(webhook: Namespace, created: Creations) -> None:
    """Check that new replicas serve the latest certificate from their start."""
    webhook.kubectl("rollout", "restart", "deployment/webhook")
    webhook.kubectl("rollout", "status", "deployment/webhook", "--timeout=120s")
    wait_until(lambda: len(webhook.get("pods", COMPONENT)["items"]) == 2, "the removal of the previous replicas")
    created.wait_for_more()
    assert created.failed == []


def bundle(webhook: Namespace) -> CertificateBundle:
    data = webhook.get(SECRET)["data"]
    found = from_secret({name: base64.b64decode(value) for name, value in data.items()})
    assert found is not None
    return found


def put(webhook: Namespace, wanted: CertificateBundle) -> None:
    data = {name: base64.b64encode(value).decode() for name, value in to_secret(wanted).items()}
    webhook.kubectl("patch", SECRET, f"--patch={json.dumps({'data': data})}")


def is_another_served(node: Cluster, webhook: Namespace, before: set[str]) -> bool:
    now = served(node, webhook)
    return len(now) == 1 and now != before and now == {bundle(webhook).serving.certificate.decode().strip()}
