"""
A real cluster, and AWS's side of it, for the tests of this folder. Not part of `make test`.

CLUSTER says which. `full` (the default) or `control` is started here, unless `python -m tests.cluster up` did so
before; `existing` is the one that KUBECONFIG names. Tests that ask for `node` are skipped where no node is ours.
"""

import faulthandler
import os
from collections.abc import Iterator

import pytest

from tests.cluster.applications import pod, set_token_lifetime
from tests.cluster.cluster import Cluster, cluster_for_tests
from tests.cluster.images import save_images
from tests.cluster.namespace import Namespace, new_namespace
from tests.cluster.policies import policies_in_force
from tests.cluster.sts import ClusterSts, cluster_sts, role_arn
from tests.cluster.vpc import Vpc, new_vpc
from tests.cluster.webhook import deployed_webhook


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    yield from cluster_for_tests(os.environ.get("CLUSTER", "full"))


@pytest.fixture(scope="session")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The cluster, with a node that has the images of this checkout."""
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
    """Where a Pod `web` runs whose token is renewed after eight minutes, as soon as Kubernetes can have it."""
    if "ROTATION" not in os.environ:
        pytest.skip("waits eight minutes for the kubelet: ROTATION=1")
    with new_namespace(node) as made:
        rotating_pod = pod("pod/example.yaml", "web", sts, app="tell(who_am_i())\nuntil_told_to_stop()")
        set_token_lifetime(rotating_pod, 600)
        made.apply(rotating_pod)
        yield made


@pytest.fixture(scope="session", autouse=True)
def _begin_to_wait(request: pytest.FixtureRequest) -> None:
    """What takes long to come is begun first, and waited for last, beside all other tests."""
    if "ROTATION" in os.environ and any("rotating" in item.fixturenames for item in _items(request.session)):
        request.getfixturevalue("rotating")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Charts are installed before the webhook is, which stays to the end: both make objects of the same names."""
    items.sort(key=lambda item: [name in getattr(item, "fixturenames", ()) for name in ("rotating", "webhook")])


def _items(session: pytest.Session) -> list[pytest.Function]:
    return [item for item in session.items if isinstance(item, pytest.Function)]


@pytest.fixture(scope="module")
def in_force(node: Cluster) -> Iterator[None]:
    """Network policies are."""
    with policies_in_force(node):
        yield


@pytest.fixture(scope="module")
def vpc(node: Cluster) -> Iterator[Vpc]:
    with new_vpc(node) as made:
        yield made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """A new one, as strict as Pod Security has it, with the ServiceAccount `app`."""
    with new_namespace(cluster) as made:
        yield made


@pytest.fixture(scope="session")
def webhook(node: Cluster, sts: ClusterSts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """The namespace of the webhook, which is deployed, with two replicas that are ready."""
    with deployed_webhook(node, sts, tmp_path_factory.mktemp("webhook")) as deployed:
        yield deployed


@pytest.fixture
def annotated(webhook: Namespace, namespace: Namespace) -> Namespace:
    """Where the ServiceAccount `app` names its role, as on EKS."""
    namespace.kubectl("annotate", "serviceaccount", "app", f"eks.amazonaws.com/role-arn={role_arn('app')}")
    return namespace


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Lift the time limit, because a cluster is built and awaited for minutes."""
    faulthandler.cancel_dump_traceback_later()
