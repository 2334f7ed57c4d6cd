"""
Provide a real cluster and a fake AWS to the tests of this folder. `make test` does not run them.

CLUSTER selects the cluster. With `full` (the default) or `control`, the tests use the cluster of
`python -m tests.cluster up`, or start a cluster. With `existing`, they use the cluster that KUBECONFIG selects. Tests
that use `node` are skipped if the tests did not start the cluster's node.
"""

import faulthandler
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.applications import pod, remove_variable, set_token_lifetime
from tests.cluster.cluster import Cluster, cluster_for_tests
from tests.cluster.images import save_images
from tests.cluster.namespace import Namespace, new_namespace
from tests.cluster.person import Person
from tests.cluster.policies import policies_in_force
from tests.cluster.sts import ClusterSts, cluster_sts, role_arn
from tests.cluster.vpc import Vpc, new_vpc
from tests.cluster.webhook import deployed_webhook


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    yield from cluster_for_tests(os.environ.get("CLUSTER", "full"))


@pytest.fixture(scope="session")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Return the cluster, with a node that has the images of this checkout."""
    if not cluster.has_node:
        pytest.skip("needs a node of ours: CLUSTER=full")
    cluster.load_image(save_images(tmp_path_factory.mktemp("images")))
    return cluster


@pytest.fixture(scope="session")
def sts(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSts]:
    with cluster_sts(cluster, tmp_path_factory.mktemp("sts")) as serving:
        yield serving


@pytest.fixture(scope="session")
def rotating(node: Cluster, sts: ClusterSts) -> Iterator[Namespace]:
    """
    Run a Pod `web` whose token is renewed after eight minutes, the shortest time that Kubernetes allows.

    The sidecar saves no credentials, so it exchanges its token again when it restarts.
    """
    if "ROTATION" not in os.environ:
        pytest.skip("waits eight minutes for the kubelet: ROTATION=1")
    with new_namespace(node) as new:
        rotating_pod = pod("pod/example.yaml", "web", sts, app="report(who_am_i())\nuntil_stopped()")
        set_token_lifetime(rotating_pod, 600)
        remove_variable(rotating_pod, "IRSA_SIDECAR_STATE_DIR")
        new.apply(rotating_pod)
        yield new


@pytest.fixture(scope="session", autouse=True)
def _start_renewal(request: pytest.FixtureRequest) -> None:
    """Start the slow renewal of the token before all other tests. The test of the renewal runs last."""
    if "ROTATION" in os.environ and any("rotating" in item.fixturenames for item in _items(request.session)):
        request.getfixturevalue("rotating")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Run the tests of the chart before the tests of the webhook, because both create objects with the same names.

    The test of the token's renewal runs last.
    """
    items.sort(key=lambda item: [name in getattr(item, "fixturenames", ()) for name in ("rotating", "webhook")])


def _items(session: pytest.Session) -> list[pytest.Function]:
    return [item for item in session.items if isinstance(item, pytest.Function)]


@pytest.fixture(scope="module")
def in_force(node: Cluster) -> Iterator[None]:
    """Enforce network policies until the tests of the module end."""
    with policies_in_force(node):
        yield


@pytest.fixture(scope="module")
def vpc(node: Cluster) -> Iterator[Vpc]:
    with new_vpc(node) as new:
        yield new


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """Return a new namespace with the strictest Pod Security level and the ServiceAccount `app`."""
    with new_namespace(cluster) as new:
        yield new


@pytest.fixture(scope="session")
def webhook(node: Cluster, sts: ClusterSts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """Return the namespace of the deployed webhook, with two ready replicas."""
    with deployed_webhook(node, sts, tmp_path_factory.mktemp("webhook")) as deployed:
        yield deployed


@pytest.fixture
def annotated(webhook: Namespace, namespace: Namespace) -> Namespace:
    """Return a namespace whose ServiceAccount `app` has the annotation with the role, as on EKS."""
    namespace.kubectl("annotate", "serviceaccount", "app", f"eks.amazonaws.com/role-arn={role_arn('app')}")
    return namespace


@pytest.fixture
def person(node: Cluster, tmp_path: Path) -> Person:
    return Person(node, tmp_path)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Remove the time limit, because the build and the start of a cluster take minutes."""
    faulthandler.cancel_dump_traceback_later()
