"""
Test the webhook with a certificate of cert-manager, as in k8s/webhook/cert-manager.

cert-manager's own code issues and renews the certificate, and writes the caBundle. A real kubelet mounts the
certificate.
"""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.applications import authored_spec
from tests.cluster.cert_manager import REPLACING, cert_manager, renew
from tests.cluster.cluster import Cluster
from tests.cluster.creations import Creations, creations
from tests.cluster.namespace import Namespace
from tests.cluster.sts import ClusterSts
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import COMPONENT, ROLE, authorities, deployed_webhook, labelled_pod, served

SECRET = "secret/webhook-certificate"
AUTHORITY = "secret/webhook-ca"


@pytest.fixture(scope="module")
def issued(node: Cluster, sts: ClusterSts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """Return the webhook's namespace, where both replicas serve a certificate of cert-manager."""
    folder = tmp_path_factory.mktemp("issued")
    with cert_manager(node, REPLACING), deployed_webhook(node, sts, folder, ["cert-manager"]) as deployed:
        yield deployed


@pytest.fixture
def created(
    node: Cluster, issued: Namespace, namespace: Namespace, sts: ClusterSts, tmp_path: Path
) -> Iterator[Creations]:
    """Create Pods continuously until the test ends."""
    del issued
    with creations(node, namespace, labelled_pod(authored_spec(sts), annotations=ROLE), tmp_path) as found:
        yield found


def test_pod_has_credentials_with_a_cert_manager_certificate(
    node: Cluster, issued: Namespace, namespace: Namespace, sts: ClusterSts
) -> None:
    spec = authored_spec(sts, program="report(who_am_i())\nuntil_stopped()")
    namespace.apply(labelled_pod(spec, annotations=ROLE))
    assert "assumed-role/app/" in namespace.logged("web", "app", "arn:aws")
    assert served(node, issued) == {in_secret(issued, SECRET, "tls.crt")}
    assert trusted(issued) == in_secret(issued, SECRET, "ca.crt")


def issue_again(issued: Namespace) -> None:
    renew(issued, "webhook")


def delete(issued: Namespace) -> None:
    issued.kubectl("delete", SECRET)


def renew_the_authority_first(issued: Namespace) -> None:
    """
    Renew the CA before the certificate, as cert-manager does after seven years.

    The API server then trusts the new CA, even if the old CA signed the served certificate.
    """
    before, known = in_secret(issued, AUTHORITY, "tls.crt"), trusted(issued)
    renew(issued, "webhook-ca")
    wait_until(lambda: in_secret(issued, AUTHORITY, "tls.crt") != before, "another certificate of the authority")
    renew(issued, "webhook")
    wait_until(lambda: trusted(issued) != known, "trust in the new authority")


@pytest.mark.parametrize("change", [issue_again, delete, renew_the_authority_first])
def test_pods_are_admitted_during_a_certificate_renewal(
    node: Cluster, issued: Namespace, created: Creations, change: Callable[[Namespace], None]
) -> None:
    before, replicas = served(node, issued), running(issued)
    change(issued)
    wait_until(lambda: is_another_served(node, issued, before), "another certificate, the same at both replicas")
    created.wait_for_more()
    assert created.failed == []
    assert running(issued) == replicas
    assert trusted(issued) == in_secret(issued, SECRET, "ca.crt")


def test_webhook_with_cert_manager_has_necessary_permissions(issued: Namespace) -> None:
    output = issued.kubectl("logs", COMPONENT, "--tail=-1").stdout
    assert output.count("certificate_activated") >= 2
    assert "forbidden" not in output
    assert "certificate_rejected" not in output


def in_secret(issued: Namespace, secret: str, name: str) -> str:
    """Return the certificate in the Secret, or an empty string if the Secret does not exist."""
    template = f'--output=go-template={{{{index .data "{name}"}}}}'
    found = issued.kubectl("get", secret, "--ignore-not-found", template).stdout
    return base64.b64decode(found).decode().strip()


def trusted(issued: Namespace) -> str:
    return base64.b64decode(authorities(issued)).decode().strip()


def running(issued: Namespace) -> list[tuple[str, int]]:
    """Return the replicas with their numbers of restarts."""
    pods = issued.get("pods", COMPONENT)["items"]
    return [(pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in pods]


def is_another_served(node: Cluster, issued: Namespace, before: set[str]) -> bool:
    now = served(node, issued)
    return now != before and now == {in_secret(issued, SECRET, "tls.crt")}
