"""The network policies of k8s/ where they are enforced: what they close is closed, and nothing else is."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.cluster.applications import PRELUDE, authored_spec, pod
from tests.cluster.cluster import Cluster
from tests.cluster.layout import KUBERNETES_SERVICE, NODE_ADDRESS
from tests.cluster.namespace import Namespace
from tests.cluster.policies import Place, reached_by, reached_from
from tests.cluster.sts import ClusterSts
from tests.cluster.vpc import ADDRESS, CONTAINERS, METADATA, POD_IDENTITY, Vpc
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import COMPONENT, asking_pod, tried
from tests.manifests import SIDECAR, read, sidecar_of

pytestmark = pytest.mark.usefixtures("in_force", "vpc")

TELL = "tell(who_am_i())\nuntil_told_to_stop()"

METADATA_POLICY, WEBHOOK_POLICY = "network-policy.yaml", "webhook/network-policy.yaml"

OTHER_PORT = 9000
"""Of a Pod of the webhook, where something listens for a test."""


@pytest.fixture
def replicas(webhook: Namespace) -> list[str]:
    """The webhook's Pods."""
    return [found["metadata"]["name"] for found in webhook.get("pods", COMPONENT)["items"]]


def test_a_pod_is_kept_from_the_metadata_service_and_from_nothing_else(
    node: Cluster, namespace: Namespace, sts: ClusterSts
) -> None:
    for name in ("web", "another"):
        namespace.apply(pod("pod/example.yaml", name, sts, app=TELL))
        namespace.logged(name, "app", "arn:aws")
    places = {
        "metadata": Place(METADATA, 80),
        "ECS's agent": Place(CONTAINERS, 80),
        "EKS's agent": Place(POD_IDENTITY, 80),
        "STS": _sts(sts),
        "the VPC": Place(ADDRESS, 5432),
        "DNS": Place(ADDRESS, 53, "udp"),
        "a Service": Place(KUBERNETES_SERVICE, 443),
        "another Pod": Place(namespace.pod("another")["status"]["podIP"], 4773),
    }
    assert reached_by(namespace, "web", "app", places) == set(places)
    namespace.apply(*read(METADATA_POLICY))
    wait_until(lambda: "metadata" not in reached_by(namespace, "web", "app", places), "the policy's effect")
    assert reached_by(namespace, "web", "app", places) == set(places) - {"metadata"}
    assert reached_from(node.inside(), places) == set(places), "what is on the node's network is kept from nothing"


def test_a_pod_that_is_kept_from_the_metadata_service_has_credentials_anew(
    namespace: Namespace, sts: ClusterSts
) -> None:
    namespace.apply(*read(METADATA_POLICY), pod("pod/example.yaml", "web", sts, app=TELL))
    arn = f"assumed-role/app/{namespace.name}.web\n"
    namespace.logged("web", "app", arn)
    metadata = {"metadata": Place(METADATA, 80)}
    wait_until(lambda: not reached_by(namespace, "web", "app", metadata), "the policy's effect")
    namespace.kill("web", SIDECAR)
    assert len(sts.events("exchange_granted", arn=f"arn:aws:sts::111122223333:{arn.strip()}")) == 2
    done = namespace.kubectl("exec", "web", "--container=app", "--", "python", "-c", f"{PRELUDE}tell(who_am_i())")
    assert arn in done.stdout


def test_the_webhook_is_let_out_to_the_api_server_and_dns(
    webhook: Namespace, replicas: list[str], sts: ClusterSts
) -> None:
    """Its Service has 443, which is 6443 here by the time that a policy is looked at."""
    places = {
        "the API server": Place(KUBERNETES_SERVICE, 443),
        "the API server elsewhere": Place(ADDRESS, 443),
        "DNS": Place(ADDRESS, 53, "udp"),
        "DNS by TCP": Place(ADDRESS, 53),
        "metadata": Place(METADATA, 80),
        "STS": _sts(sts),
        "a database": Place(ADDRESS, 5432),
    }
    found = _under_its_policy(webhook, lambda: reached_by(webhook, replicas[0], "webhook", places), set(places))
    assert found == {"the API server", "the API server elsewhere", "DNS", "DNS by TCP"}


def test_the_webhook_is_reached_at_its_two_ports_from_where_an_api_server_of_eks_is(
    vpc: Vpc, webhook: Namespace, replicas: list[str]
) -> None:
    address = webhook.pod(replicas[0])["status"]["podIP"]
    places = {name: Place(address, port) for name, port in {"https": 8443, "admin": 8080, "other": OTHER_PORT}.items()}
    with _listening(webhook, replicas[0]):
        found = _under_its_policy(webhook, lambda: reached_from(vpc.inside, places), set(places))
    assert found == {"https", "admin"}


def test_a_webhook_that_starts_under_its_policy_injects(
    webhook: Namespace, replicas: list[str], annotated: Namespace, sts: ClusterSts
) -> None:
    for name in replicas:
        places = {"a database": Place(ADDRESS, 5432)}
        wait_until(lambda: not reached_by(webhook, name, "webhook", places), "the policy's effect")  # noqa: B023
        webhook.kill(name, "webhook")
    wait_until(lambda: "created" in tried(annotated, asking_pod(authored_spec(sts))), "a Pod that is let in")
    annotated.apply(asking_pod(authored_spec(sts)))
    assert sidecar_of(annotated.pod("web"))


def _sts(sts: ClusterSts) -> Place:
    port = urlsplit(sts.url).port
    assert port is not None
    return Place(NODE_ADDRESS, port)


def _under_its_policy(webhook: Namespace, look: Callable[[], set[str]], everything: set[str]) -> set[str]:
    """What is found where, without the policy, everything is."""
    webhook.kubectl("delete", "networkpolicy", "webhook")
    try:
        wait_until(lambda: look() == everything, "all, without the policy")
    finally:
        webhook.apply(*read(WEBHOOK_POLICY))
    wait_until(lambda: look() != everything, "the policy's effect")
    return look()


@contextmanager
def _listening(webhook: Namespace, replica: str) -> Iterator[None]:
    """One more port, in a Pod of the webhook, until the end."""
    program = f"import socket, sys; one = socket.create_server(('', {OTHER_PORT})); print('listens'); sys.stdin.read()"
    command = webhook.command("exec", "--stdin", replica, "--", "python", "-u", "-c", program)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdin is not None
        assert listener.stdout is not None
        with listener.stdin:
            assert listener.stdout.readline() == "listens\n"
            yield
