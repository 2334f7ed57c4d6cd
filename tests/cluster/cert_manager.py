"""Run cert-manager beside a cluster: its certificates and issuers, and its component that writes the caBundles."""

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
"""Versions before cert-manager 1.18 replace a caBundle. Since 1.18 a new CA is added to it."""


@contextmanager
def cert_manager(cluster: Cluster, features: str) -> Iterator[None]:
    """Run cert-manager with these feature gates until the block ends, and show its output with the tests."""
    program = binaries.cert_manager()
    install(cluster, CERT_MANAGER)
    running = subprocess.Popen([*cluster.inside(), str(program), str(cluster.kubeconfig), features])
    try:
        yield
    finally:
        running.terminate()
        assert running.wait(GUARD_SECONDS) == 0


def renew(namespace: Namespace, certificate: str) -> None:
    """Have the certificate issued again, as `cmctl renew` does."""
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
