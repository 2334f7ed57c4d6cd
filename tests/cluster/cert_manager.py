"""cert-manager itself, beside a cluster: its certificates and issuers, and who writes the caBundles."""

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
"""A caBundle takes the place of the one before, as until cert-manager 1.18, or is added to it, as since then."""


@contextmanager
def cert_manager(cluster: Cluster, features: str) -> Iterator[None]:
    """Running until the end of the block, with these feature gates; what it tells is told with the tests."""
    program = binaries.cert_manager()
    install(cluster, CERT_MANAGER)
    running = subprocess.Popen([*cluster.inside(), str(program), str(cluster.kubeconfig), features])
    try:
        yield
    finally:
        running.terminate()
        assert running.wait(GUARD_SECONDS) == 0


def renew(namespace: Namespace, certificate: str) -> None:
    """Have it issued anew, as `cmctl renew` has."""
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
