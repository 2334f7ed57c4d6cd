"""Test that the network policies of k8s/ block the intended traffic, and no other traffic."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from urllib.parse import urlsplit

import pytest

from tests.cluster.applications import PRELUDE, authored_spec, pod, set_variable
from tests.cluster.cluster import Cluster
from tests.cluster.ipv6 import apiserver_of_ipv6, webhook_of_ipv6
from tests.cluster.layout import FAMILIES
from tests.cluster.namespace import Namespace, address_of
from tests.cluster.policies import Place, reached_by, reached_from
from tests.cluster.sts import ClusterSts, cluster_sts
from tests.cluster.vpc import BEYOND, CONTAINERS, Vpc
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import labelled_pod, replicas, tried
from tests.support.manifests import SIDECAR, read, sidecar_of

pytestmark = pytest.mark.usefixtures("in_force", "vpc")

REPORT = "report(who_am_i())\nuntil_stopped()"

METADATA_POLICY, WEBHOOK_POLICY = "network-policy.yaml", "webhook/network-policy.yaml"

OTHER_PORT = 9000
"""A port that no policy allows. A test listens on this port in a Pod of the webhook."""


LISTEN = """
import socket, sys
where = socket.getaddrinfo(*sys.argv[1:], type=socket.SOCK_STREAM)[0]
listener = socket.create_server(where[4], family=where[0])
print("listens")
sys.stdin.read()
"""

ENDPOINTS = {"IPv4": "http://127.0.0.1:4772/v1/credentials", "IPv6": "http://[::1]:4772/v1/credentials"}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, node: Cluster) -> Iterator[str]:
    """Return the address family of a test run. The API server has a Service of this family."""
    with apiserver_of_ipv6(node) if request.param == "IPv6" else nullcontext():
        yield request.param


@pytest.fixture(scope="module")
def sts_there(
    family: str, node: Cluster, sts: ClusterSts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterSts]:
    """Run STS at an address of this family."""
    if family == "IPv4":
        yield sts
        return
    with cluster_sts(node, tmp_path_factory.mktemp("sts"), FAMILIES[family].node) as serving:
        yield serving


@pytest.fixture(scope="module")
def webhook_there(family: str, webhook: Namespace) -> Iterator[Namespace]:
    """Return the webhook's namespace in a cluster of this family."""
    with webhook_of_ipv6(webhook) if family == "IPv6" else nullcontext():
        yield webhook


def test_policy_blocks_only_the_metadata_service(
    node: Cluster, namespace: Namespace, family: str, sts_there: ClusterSts
) -> None:
    for name in ("web", "another"):
        namespace.apply(pod("pod/example.yaml", name, sts_there, app=REPORT))
        namespace.logged(name, "app", "arn:aws")
    beyond = BEYOND[family]
    places = {
        "metadata": Place(beyond.metadata, 80),
        "ECS's agent": Place(CONTAINERS, 80),
        "EKS's agent": Place(beyond.pod_identity, 80),
        "STS": _sts(sts_there),
        "the VPC": Place(beyond.address, 5432),
        "DNS": Place(beyond.address, 53, "udp"),
        "a Service": Place(FAMILIES[family].apiserver, 443),
        "another Pod": Place(address_of(namespace.pod("another"), family), 4773),
    }
    assert reached_by(namespace, "web", "app", places) == set(places)
    namespace.apply(*read(METADATA_POLICY))
    wait_until(lambda: "metadata" not in reached_by(namespace, "web", "app", places), "the policy's effect")
    assert reached_by(namespace, "web", "app", places) == set(places) - {"metadata"}
    assert reached_from(node.inside(), places) == set(places), "the policy must not affect the node's network"


def test_pod_without_metadata_service_gets_credentials(
    namespace: Namespace, family: str, sts_there: ClusterSts
) -> None:
    """Use an STS endpoint of this family, and no saved credentials."""
    web = pod("pod/example.yaml", "web", sts_there, app=REPORT)
    set_variable(web, "IRSA_SIDECAR_STATE_DIR", "")
    set_variable(web, "AWS_CONTAINER_CREDENTIALS_FULL_URI", ENDPOINTS[family], of="app")
    namespace.apply(*read(METADATA_POLICY), web)
    arn = f"assumed-role/app/{namespace.name}.web\n"
    namespace.logged("web", "app", arn)
    metadata = {"metadata": Place(BEYOND[family].metadata, 80)}
    wait_until(lambda: not reached_by(namespace, "web", "app", metadata), "the policy's effect")
    namespace.kill("web", SIDECAR)
    assert len(sts_there.events("exchange_granted", arn=f"arn:aws:sts::111122223333:{arn.strip()}")) == 2
    done = namespace.kubectl("exec", "web", "--container=app", "--", "python", "-c", f"{PRELUDE}report(who_am_i())")
    assert arn in done.stdout


def test_webhook_can_connect_only_to_the_api_server_and_dns(
    family: str, webhook_there: Namespace, sts_there: ClusterSts
) -> None:
    """Use port 443 of the API server's Service. The policy applies to 6443, because kube-proxy translates the port."""
    beyond, name = BEYOND[family], _names(webhook_there)[0]
    places = {
        "the API server": Place(FAMILIES[family].apiserver, 443),
        "the API server elsewhere": Place(beyond.address, 443),
        "DNS": Place(beyond.address, 53, "udp"),
        "DNS by TCP": Place(beyond.address, 53),
        "metadata": Place(beyond.metadata, 80),
        "STS": _sts(sts_there),
        "a database": Place(beyond.address, 5432),
    }
    found = _under_its_policy(webhook_there, lambda: reached_by(webhook_there, name, "webhook", places), set(places))
    assert found == {"the API server", "the API server elsewhere", "DNS", "DNS by TCP"}


def test_vpc_reaches_only_the_https_port_of_the_webhook(vpc: Vpc, family: str, webhook_there: Namespace) -> None:
    name = _names(webhook_there)[0]
    address = address_of(webhook_there.pod(name), family)
    places = {name: Place(address, port) for name, port in {"https": 8443, "admin": 8080, "other": OTHER_PORT}.items()}
    with _listening(webhook_there, name, address):
        found = _under_its_policy(webhook_there, lambda: reached_from(vpc.inside, places), set(places))
    assert found == {"https"}


def test_webhook_started_under_its_policy_injects_sidecars(
    family: str, webhook_there: Namespace, annotated: Namespace, sts: ClusterSts
) -> None:
    places = {"a database": Place(BEYOND[family].address, 5432)}
    for name in _names(webhook_there):
        wait_until(lambda: not reached_by(webhook_there, name, "webhook", places), "the policy's effect")  # noqa: B023
        webhook_there.kill(name, "webhook")
    wait_until(lambda: "created" in tried(annotated, labelled_pod(authored_spec(sts))), "an admitted Pod")
    annotated.apply(labelled_pod(authored_spec(sts)))
    assert sidecar_of(annotated.pod("web"))


def _names(webhook: Namespace) -> list[str]:
    return [replica["metadata"]["name"] for replica in replicas(webhook)]


def _sts(sts: ClusterSts) -> Place:
    url = urlsplit(sts.url)
    assert url.hostname is not None
    assert url.port is not None
    return Place(url.hostname, url.port)


def _under_its_policy(webhook: Namespace, reached: Callable[[], set[str]], everything: set[str]) -> set[str]:
    """Return the listeners that respond under the policy. Check first that all respond without the policy."""
    webhook.kubectl("delete", "networkpolicy", "webhook")
    try:
        wait_until(lambda: reached() == everything, "responses of all listeners without the policy")
    finally:
        webhook.apply(*read(WEBHOOK_POLICY))
    wait_until(lambda: reached() != everything, "the policy's effect")
    return reached()


@contextmanager
def _listening(webhook: Namespace, replica: str, address: str) -> Iterator[None]:
    """Listen on OTHER_PORT in a Pod of the webhook until the block ends."""
    command = webhook.command("exec", "--stdin", replica, "--", "python", "-u", "-c", LISTEN, address, str(OTHER_PORT))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdin is not None
        assert listener.stdout is not None
        with listener.stdin:
            assert listener.stdout.readline() == "listens\n"
            yield
