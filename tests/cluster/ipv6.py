"""Add the parts of an IPv6 cluster to the cluster of the tests, whose first family is IPv4."""

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
    """Create an IPv6 Service of the API server. The Service `kubernetes` has only the first family."""
    default = Namespace(node, "default")
    default.apply(_service(), _endpoints(node))
    place = {"it": Place(IPV6.apiserver, 443)}
    try:
        wait_until(lambda: reached_from(node.inside(), place), "kube-proxy's rule for the API server")
        yield
    finally:
        default.kubectl("delete", f"service/{NAME}", f"endpointslice/{NAME}")


@contextmanager
def webhook_of_ipv6(webhook: Namespace) -> Iterator[None]:
    """Restrict the webhook's Service to IPv6, and restart the replicas with only the API server's IPv6 address."""
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
    """Replace the Service, because a Service cannot change its first family, and set the variable in all replicas."""
    webhook.kubectl("delete", "service", "webhook")
    webhook.apply(service)
    webhook.kubectl("set", "env", "deployment/webhook", variable)
    webhook.kubectl("rollout", "status", "deployment/webhook", "--timeout=120s")
