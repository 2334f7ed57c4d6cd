"""Run cert-manager's controllers in a cluster's network. They issue certificates and write caBundles."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import yaml

from tests.cluster import binaries
from tests.cluster.cluster import Cluster
from tests.cluster.definitions import CERT_MANAGER, install
from tests.cluster.namespace import Namespace
from tests.cluster.waiting import GUARD_SECONDS

REPLACING, ADDING = "CAInjectorMerging=false", "CAInjectorMerging=true"
"""The feature gates for a new CA. Before 1.18, cert-manager replaces the caBundle. Since 1.18, it adds the CA."""


@contextmanager
def cert_manager(cluster: Cluster, features: str) -> Iterator[None]:
    """Run cert-manager with these feature gates until the block ends. Its output is part of the test's output."""
    program = binaries.cert_manager()
    install(cluster, CERT_MANAGER)
    running = subprocess.Popen([*cluster.inside(), str(program), str(cluster.kubeconfig), features])
    try:
        yield
    finally:
        running.terminate()
        assert running.wait(GUARD_SECONDS) == 0


def renew(namespace: Namespace, certificate: str) -> None:
    """Request a new certificate from cert-manager, as `cmctl renew` does."""
    condition = {
        "type": "Issuing",
        "status": "True",
        "reason": "ManuallyTriggered",
        "message": "Certificate re-issuance manually triggered",
        "lastTransitionTime": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    wanted = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": certificate},
        "status": {"conditions": [condition]},
    }
    flags = ["--server-side", "--force-conflicts", "--subresource=status", "--filename=-"]
    namespace.kubectl("apply", *flags, stdin=yaml.safe_dump(wanted))
