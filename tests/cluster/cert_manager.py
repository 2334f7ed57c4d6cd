"""Run cert-manager beside a cluster: the controllers of certificates and issuers, and the one that writes caBundles."""

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
"""Feature gates for a caBundle. cert-manager before 1.18 replaces it, and since 1.18 adds the new CA."""


@contextmanager
def cert_manager(cluster: Cluster, features: str) -> Iterator[None]:
    """Run cert-manager with these feature gates until the block ends. Its output is shown with the test's output."""
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
