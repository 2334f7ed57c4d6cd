"""Follow the tutorial for kind and the how-to guides of the webhook on a real kubelet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.reader import Reader
from tests.cluster.waiting import wait_until

FIRST_POD = "docs/first-pod.md"
INSTALL, MANIFESTS = "docs/install.md", "docs/manifests.md"
UPGRADE, UNINSTALL = "docs/upgrade.md", "docs/uninstall.md"


@pytest.fixture
def reader(node: Cluster, tmp_path: Path) -> Iterator[Reader]:
    person = Reader(node, tmp_path, "tests/cluster/test_guides.py")
    yield person
    person.close()


@pytest.fixture
def without_webhook(node: Cluster) -> Iterator[None]:
    """Remove the webhook at the end, even if the page did not remove it."""
    yield
    node.kubectl("delete", "mutatingwebhookconfiguration", "irsa-sidecar", "--ignore-not-found")
    node.kubectl("delete", "namespace", "irsa-sidecar", "--ignore-not-found")


def test_pod_on_kind_has_the_role_of_its_service_account(reader: Reader) -> None:
    _run_first_pod(reader)
    identity = f"arn:aws:sts::111122223333:assumed-role/cart/{reader.namespace}.cart-"
    logs = _until(reader, FIRST_POD, "4. Read the logs", identity)
    assert "exchange_granted" in logs


@pytest.mark.usefixtures("without_webhook")
def test_webhook_is_installed_upgraded_and_removed_as_documented(reader: Reader, node: Cluster) -> None:
    _run_first_pod(reader)
    reader.run(MANIFESTS, "Jobs")
    reader.run(MANIFESTS, "The network policy")

    reader.run(INSTALL, "The webhook with kustomize")
    _until(reader, INSTALL, "Check the installation", "name: irsa-sidecar")
    reader.run(UPGRADE, "3. Upgrade the webhook")
    reader.run(UPGRADE, "4. Upgrade the Pods")
    reader.run(UNINSTALL, "1. Remove the sidecar from Pods")
    reader.run(UNINSTALL, "2. Remove the webhook")
    reader.run(UNINSTALL, "3. Remove the roles")
    assert node.kubectl("get", "mutatingwebhookconfigurations", "--output=name").stdout == ""


def _run_first_pod(reader: Reader) -> None:
    for section in ("Before you start", "1. Create the cluster", "2. Start the local STS", "3. Run the Pod"):
        reader.run(FIRST_POD, section)


def _until(reader: Reader, page: str, section: str, text: str) -> str:
    """Run the section again until its output contains the text, and return the output."""

    def output() -> str | None:
        printed = reader.try_out(page, section).stdout
        return printed if text in printed else None

    return wait_until(output, f"{text!r} in the output of {section}")
