"""
Create Pods with a sidecar in parallel and without a pause. Each request is a dry run, so Pods only pass admission.

The program runs in the cluster's network, because one kubectl per Pod would use 0.1 s of processor time. It prints one
line for each Pod: an empty line if the Pod got its sidecar, otherwise the error.
"""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sidecar.errors import KubernetesError
from sidecar.kubernetes.client import Kubernetes, open_cluster
from sidecar.kubernetes.kubeconfig import find_cluster
from tests.cluster.cluster import REPOSITORY, Cluster
from tests.cluster.namespace import Namespace
from tests.cluster.waiting import GUARD_SECONDS, wait_until
from tests.support.manifests import sidecar_of

AT_A_TIME = 8
PAUSE_SECONDS = 0.0


class Creations:
    """The results of the Pod creations so far."""

    def __init__(self, results: Path) -> None:
        self._output = results

    @property
    def all(self) -> list[str]:
        return self._output.read_text().split("\n")[:-1]

    @property
    def failed(self) -> list[str]:
        return [line for line in self.all if line]

    def wait_for_more(self, count: int = 40) -> None:
        """Wait until this number of further creations has finished."""
        wanted = len(self.all) + count
        wait_until(
            lambda: len(self.all) >= wanted,
            f"{count} more creations",
            pause_seconds=0.1,
            details=self._output.read_text,
        )


@contextmanager
def creations(cluster: Cluster, namespace: Namespace, pod: dict[str, Any], folder: Path) -> Iterator[Creations]:
    """Create copies of the Pod in the background until the block ends. Their names begin with the Pod's name."""
    metadata = {name: value for name, value in pod["metadata"].items() if name != "name"}
    named = pod | {"metadata": metadata | {"generateName": f"{pod['metadata']['name']}-"}}
    command = [*cluster.inside(), sys.executable, "-m", "tests.cluster.creations"]
    results = folder / "creations"
    with results.open("w") as output:
        program = subprocess.Popen(
            [*command, str(cluster.kubeconfig), namespace.name], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=output
        )
        assert program.stdin is not None
        with program.stdin:
            program.stdin.write(json.dumps(named).encode())
    try:
        found = Creations(results)
        found.wait_for_more()
        yield found
    finally:
        program.send_signal(signal.SIGTERM)
        assert program.wait(GUARD_SECONDS) == 0


def _main(kubeconfig: str, namespace: str) -> None:
    path, pod = f"/api/v1/namespaces/{namespace}/pods", json.load(sys.stdin)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [threading.Thread(target=_create_from, args=(kubeconfig, path, pod, stop)) for _ in range(AT_A_TIME)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _create_from(kubeconfig: str, path: str, pod: dict[str, Any], stop: threading.Event) -> None:
    """
    Create Pods in one thread, which has its own TLS context.

    With a shared context, one of eight handshakes failed once.
    """
    with open_cluster(find_cluster({"KUBECONFIG": kubeconfig})) as kubernetes:
        _create(kubernetes, path, pod, stop)


def _create(kubernetes: Kubernetes, path: str, pod: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(PAUSE_SECONDS):
        try:
            sidecar_of(kubernetes.create(path, pod, dry_run=True))
            results = ""
        except (KubernetesError, StopIteration, ValueError, KeyError) as error:
            results = f"{time.time():.3f} {type(error).__name__}: {' '.join(str(error).split())}"
        sys.stdout.write(f"{results}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
