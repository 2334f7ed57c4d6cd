"""Test a running webhook that changes from its own certificate to a certificate of cert-manager, and back."""

from pathlib import Path

from tests.cluster.applications import authored_spec
from tests.cluster.cert_manager import ADDING, cert_manager
from tests.cluster.cluster import Cluster
from tests.cluster.creations import creations
from tests.cluster.namespace import Namespace
from tests.cluster.sts import ClusterSts
from tests.cluster.webhook import ROLE, apply_webhook, deployed_webhook, labelled_pod, served, write_kustomization


def test_pods_are_admitted_while_the_issuer_changes(
    node: Cluster, sts: ClusterSts, namespace: Namespace, tmp_path: Path
) -> None:
    pod = labelled_pod(authored_spec(sts), annotations=ROLE)
    own, theirs = (tmp_path / name for name in ("own", "theirs"))
    for folder in (own, theirs):
        folder.mkdir()
    with (
        cert_manager(node, ADDING),
        deployed_webhook(node, sts, own) as deployed,
        creations(node, namespace, pod, tmp_path) as created,
    ):
        certificates = [served(node, deployed)]
        for folder, components in ((theirs, ["cert-manager"]), (own, [])):
            apply_webhook(deployed, write_kustomization(folder, sts, components))
            created.wait_for_more()
            assert created.failed == []
            certificates.append(served(node, deployed))
    first, second, third = certificates
    assert first == third
    assert not first & second
