"""
Pods that ask for a sidecar, made without pause and several at a time: through admission, and no further.

As a program it runs in the cluster's network, as kubectl for each would be a tenth of a second of a processor. It
writes a line for each Pod: nothing for one that came out with its sidecar, else what was wrong.
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
    """What became of those so far."""

    def __init__(self, told: Path) -> None:
        self._told = told

    @property
    def all(self) -> list[str]:
        return self._told.read_text().split("\n")[:-1]

    @property
    def failed(self) -> list[str]:
        return [line for line in self.all if line]

    def wait_for_more(self, count: int = 40) -> None:
        """Return when so many more were tried."""
        wanted = len(self.all) + count
        wait_until(lambda: len(self.all) >= wanted, f"{count} more", pause_seconds=0.1, told=self._told.read_text)


@contextmanager
def creations(cluster: Cluster, namespace: Namespace, pod: dict[str, Any], folder: Path) -> Iterator[Creations]:
    """Begun, and gone on with until the end of the block. Each has a name of its own, beginning with the Pod's."""
    metadata = {name: value for name, value in pod["metadata"].items() if name != "name"}
    named = pod | {"metadata": metadata | {"generateName": f"{pod['metadata']['name']}-"}}
    command = [*cluster.inside(), sys.executable, "-m", "tests.cluster.creations"]
    told = folder / "creations"
    with told.open("w") as output:
        program = subprocess.Popen(
            [*command, str(cluster.kubeconfig), namespace.name], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=output
        )
        assert program.stdin is not None
        with program.stdin:
            program.stdin.write(json.dumps(named).encode())
    try:
        found = Creations(told)
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
    """Each thread has a TLS context of its own: of eight handshakes at once in a shared one, one failed (once)."""
    with open_cluster(find_cluster({"KUBECONFIG": kubeconfig})) as kubernetes:
        _create(kubernetes, path, pod, stop)


def _create(kubernetes: Kubernetes, path: str, pod: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(PAUSE_SECONDS):
        try:
            sidecar_of(kubernetes.create(path, pod, dry_run=True))
            told = ""
        except (KubernetesError, StopIteration, ValueError, KeyError) as error:
            told = f"{time.time():.3f} {type(error).__name__}: {' '.join(str(error).split())}"
        sys.stdout.write(f"{told}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
