"""
Test the webhook on the network of its nodes, as in k8s/webhook/host-network, for API servers that cannot reach Pods.

The module test_chart.py tests two more properties of the same objects: a node runs only one replica, and the Pods of a
new version wait for the ports.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.applications import authored_spec
from tests.cluster.cluster import Cluster
from tests.cluster.layout import FAMILIES
from tests.cluster.namespace import Namespace
from tests.cluster.policies import Place, reached_from
from tests.cluster.sts import ClusterSts
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import (
    ROLE,
    apply_webhook,
    deployed_webhook,
    labelled_pod,
    node_ports,
    tried,
    write_kustomization,
)
from tests.support.manifests import patches_for_other_ports

COMPONENTS = ["host-network"]

AS_MANY_AS_NODES = {"replicas": [{"name": "webhook", "count": 1}]}


@pytest.fixture(scope="module")
def on_its_node(node: Cluster, sts: ClusterSts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """Return the namespace of a webhook on the network of its node."""
    with deployed_webhook(node, sts, tmp_path_factory.mktemp("node"), COMPONENTS, **AS_MANY_AS_NODES) as deployed:
        yield deployed


def test_webhook_listens_on_its_node_and_pods_have_credentials(
    node: Cluster, on_its_node: Namespace, namespace: Namespace, sts: ClusterSts
) -> None:
    assert node_ports(on_its_node) == [8443, 8080]
    places = {f"{port} by {name}": Place(by.node, port) for name, by in FAMILIES.items() for port in (8443, 8080)}
    assert reached_from(node.inside(), places) == set(places)
    spec = authored_spec(sts, program="report(who_am_i())\nuntil_stopped()")
    namespace.apply(labelled_pod(spec, annotations=ROLE))
    assert f"assumed-role/app/{namespace.name}.web\n" in namespace.logged("web", "app", "arn:aws")


def test_documented_patches_change_the_ports(
    on_its_node: Namespace, namespace: Namespace, sts: ClusterSts, tmp_path: Path
) -> None:
    more = AS_MANY_AS_NODES | {"patches": patches_for_other_ports()}
    apply_webhook(on_its_node, write_kustomization(tmp_path, sts, COMPONENTS, **more))
    assert node_ports(on_its_node) == [9443, 9080]
    pod = labelled_pod(authored_spec(sts), annotations=ROLE)
    wait_until(lambda: "created" in tried(namespace, pod), "an admitted Pod")
