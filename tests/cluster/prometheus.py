"""Run Prometheus, with the alerts of k8s/monitoring, in the network of a cluster's Pods."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import Cluster, Done
from tests.cluster.waiting import wait_until
from tests.support.monitoring import rule_groups
from tests.support.processes import GUARD_SECONDS


def rules_file(folder: Path) -> Path:
    """Write all alerts in the file format of promtool and Prometheus."""
    if shutil.which("promtool") is None:
        pytest.fail("promtool is missing: apt-get install prometheus")
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(rule_groups()))
    return path


class Prometheus:
    """A Prometheus server that scrapes Pods each second."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self._promtool = [*cluster.inside(), "promtool", "query", "instant", "--format=json", url]

    def query(self, expression: str) -> list[Any]:
        """
        Return the current result of the query.

        Raises AssertionError if the query is invalid.
        """
        done = self._run(expression)
        assert done.returncode == 0, f"{expression}: {done.stderr}"
        found: list[Any] = json.loads(done.stdout)
        return found

    def wait_for(self, expression: str) -> None:
        """Wait until the query has a result."""

        def is_there() -> bool:
            done = self._run(expression)
            return done.returncode == 0 and bool(json.loads(done.stdout))

        wait_until(is_there, expression, pause_seconds=0.5, details=lambda: self._run(expression).stderr)

    def _run(self, expression: str) -> Done:
        return subprocess.run([*self._promtool, expression], capture_output=True, text=True, check=False)


@contextmanager
def prometheus(cluster: Cluster, rules: Path, folder: Path, pods: Mapping[str, dict[str, str]]) -> Iterator[Prometheus]:
    """
    Run Prometheus until the block ends.

    `pods` has the labels that a PodMonitor would add to a Pod's metrics, by the Pod's HOST:PORT.
    """
    address = "127.0.0.1:9090"
    targets = [{"targets": [each], "labels": labels} for each, labels in pods.items()]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "pods", "static_configs": targets}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    flags = [f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    command = [*cluster.inside(), "prometheus", *flags, f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Prometheus(cluster, f"http://{address}")
    finally:
        server.terminate()
        server.wait(GUARD_SECONDS)
