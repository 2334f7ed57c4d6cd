"""What a cluster of IPv6 has that this one, whose first family is IPv4, has not by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.layout import IPV6
from tests.cluster.namespace import Namespace
from tests.cluster.policies import Place, reached_from
from tests.cluster.waiting import wait_until
from tests.support.manifests import read

NAME = "kubernetes-ipv6"
HOST = "KUBERNETES_SERVICE_HOST"


@contextmanager
def apiserver_of_ipv6(node: Cluster) -> Iterator[None]:
    """The API server's Service: `kubernetes` has the first family only."""
    default = Namespace(node, "default")
    default.apply(_service(), _endpoints(node))
    place = {"it": Place(IPV6.apiserver, 443)}
    try:
        wait_until(lambda: reached_from(node.inside(), place), "kube-proxy's way to the API server")
        yield
    finally:
        default.kubectl("delete", f"service/{NAME}", f"endpointslice/{NAME}")


@contextmanager
def webhook_of_ipv6(webhook: Namespace) -> Iterator[None]:
    """Its Service has no other family, and its replicas, which are others, know the API server by no other."""
    (service,) = [found for found in read("webhook/deployment.yaml") if found["kind"] == "Service"]
    _change(webhook, service | {"spec": service["spec"] | {"ipFamilies": ["IPv6"]}}, f"{HOST}={IPV6.apiserver}")
    try:
        yield
    finally:
        _change(webhook, service, f"{HOST}-")


def _service() -> dict[str, Any]:
    spec = {"clusterIP": IPV6.apiserver, "ipFamilies": ["IPv6"], "ports": [{"name": "https", "port": 443}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": spec}


def _endpoints(node: Cluster) -> dict[str, Any]:
    assert node.layout is not None
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv6",
        "ports": [{"name": "https", "port": node.layout.ports.apiserver}],
        "endpoints": [{"addresses": [IPV6.node]}],
    }


def _change(webhook: Namespace, service: dict[str, Any], variable: str) -> None:
    """A Service keeps its first family until it is another."""
    webhook.kubectl("delete", "service", "webhook")
    webhook.apply(service)
    webhook.kubectl("set", "env", "deployment/webhook", variable)
    webhook.kubectl("rollout", "status", "deployment/webhook", "--timeout=120s")
