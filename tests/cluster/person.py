"""Run commands as a person who uses the cluster from a machine with kubectl and irsa-sidecar."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster


class Person:
    """A person with a kubeconfig, kubectl and irsa-sidecar."""

    def __init__(self, node: Cluster, folder: Path) -> None:
        self._inside = node.inside()
        node.put_kubectl(folder)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "IRSA_SIDECAR_"))}
        path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = kept | {"KUBECONFIG": str(node.kubeconfig), "PATH": path}

    def run(self, command: str) -> tuple[int, str]:
        """Run the command, and return its exit status and output."""
        done = subprocess.run(
            [*self._inside, "sh", "-c", command], env=self._environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def first_failure(self, command: str) -> dict[str, Any]:
        status, output = self.run(f"{command} --json")
        assert status == 1, output
        found: dict[str, Any] = json.loads(output)["first_failure"]
        return found
