"""
Measure what the policies of `irsa-sidecar setup policy` cost in the API server.

    python -m benchmarks.policy [--rounds 5] [--pods 200] [--accounts 1 100 1000]

Starts a cluster of etcd and an API server as `python -m tests.cluster up control` does, or uses the cluster of that
command if it runs. Each Pod is created by a dry run, which passes admission and is not stored. The figures of a row are
for one Pod: the milliseconds of one request after the other, the CPU of the API server, and the milliseconds with 16
requests at a time. The client uses the same machine, so compare the rows of one run.

    without policies  a labelled Pod in a cluster without policies
    with a sidecar    a Pod that has its sidecar already, in a cluster with policies
    injected          a Pod that gets its sidecar by the policies, in a namespace with this number of ServiceAccounts
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.arguments import at_least
from benchmarks.tables import Samples, Table, text
from sidecar.kubernetes.client import Kubernetes, open_cluster
from sidecar.kubernetes.kubeconfig import find_cluster
from tests.cluster.cluster import Cluster, cluster_for_tests
from tests.cluster.policy import cart, installed_policy
from tests.unit.injection.pods import ACCOUNT, SETTINGS

AT_A_TIME = 16
TICKS = os.sysconf("SC_CLK_TCK")
NAMESPACE = "benchmark-{}"

ENVIRONMENT = [{"name": f"SETTING_{number}", "value": "value"} for number in range(10)]
CONTAINERS = [{"name": name, "image": "app", "env": ENVIRONMENT} for name in ("app", "proxy", "log")]
"""The containers of the Pod: three with ten variables each."""


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    samples: Samples = {}
    for cluster in cluster_for_tests("control"):
        for _ in range(args.rounds):
            for name, row in _round(cluster, args.pods, args.accounts).items():
                for column, value in row.items():
                    samples.setdefault(name, {}).setdefault(column, []).append(value)
    sys.stdout.write(text(Table(f"one of {args.pods} Pods with three containers", samples, {})) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rounds", type=at_least(1), default=5)
    parser.add_argument("--pods", type=at_least(16), default=200)
    parser.add_argument("--accounts", type=at_least(1), nargs="+", default=[1, 100, 1000])
    return parser


def _round(cluster: Cluster, pods: int, accounts: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return the figures of one round, by row and column."""
    first = NAMESPACE.format(accounts[0])
    found = {}
    for count in accounts:
        _make_namespace(cluster, count)
    found["without policies"] = _measured(cluster, first, cart(*CONTAINERS), pods)
    with installed_policy(cluster, SETTINGS):
        with _client(cluster) as kubernetes:
            injected = _create(kubernetes, first, cart(*CONTAINERS))
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": injected["metadata"], "spec": injected["spec"]}
        found["with a sidecar"] = _measured(cluster, first, whole, pods)
        for count in accounts:
            row = f"injected, {count} ServiceAccounts"
            found[row] = _measured(cluster, NAMESPACE.format(count), cart(*CONTAINERS), pods)
    return found


def _measured(cluster: Cluster, namespace: str, pod: dict[str, Any], pods: int) -> dict[str, float]:
    with ExitStack() as opened:
        clients = [opened.enter_context(_client(cluster)) for _ in range(AT_A_TIME)]
        for client in clients:
            _create(client, namespace, pod)
        cpu, durations = _cpu_seconds(cluster), [_seconds(clients[0], namespace, pod) for _ in range(pods)]
        used = _cpu_seconds(cluster) - cpu
        started_at = time.monotonic()
        with ThreadPoolExecutor(AT_A_TIME) as executor:
            list(executor.map(lambda number: _create(clients[number % AT_A_TIME], namespace, pod), range(pods)))
        together = time.monotonic() - started_at
    return {
        "ms, one at a time": statistics.median(durations) * 1000,
        "ms of CPU": used / pods * 1000,
        "ms, 16 at a time": together / pods * 1000,
    }


def _seconds(kubernetes: Kubernetes, namespace: str, pod: dict[str, Any]) -> float:
    started_at = time.monotonic()
    _create(kubernetes, namespace, pod)
    return time.monotonic() - started_at


def _create(kubernetes: Kubernetes, namespace: str, pod: dict[str, Any]) -> dict[str, Any]:
    metadata = {name: value for name, value in pod["metadata"].items() if name in ("labels", "annotations", "name")}
    return kubernetes.create(f"/api/v1/namespaces/{namespace}/pods", {**pod, "metadata": metadata}, dry_run=True)


def _client(cluster: Cluster) -> Any:
    return open_cluster(find_cluster({"KUBECONFIG": str(cluster.kubeconfig)}))


def _make_namespace(cluster: Cluster, accounts: int) -> None:
    """Create a namespace with the ServiceAccount `cart` and others, unless it exists."""
    namespace = NAMESPACE.format(accounts)
    with _client(cluster) as kubernetes:
        if kubernetes.get(f"/api/v1/namespaces/{namespace}") is not None:
            return
        kubernetes.create(
            "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        )
        for name in ("cart", *(f"account-{number}" for number in range(1, accounts))):
            metadata = {"name": name, "annotations": ACCOUNT.annotations}
            document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
            kubernetes.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", document)
    time.sleep(2)  # until the API server's cache contains the ServiceAccounts


def _cpu_seconds(cluster: Cluster) -> float:
    """Return the CPU time of the cluster's API server (proc(5))."""
    assert cluster.layout is not None
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if b"kube-apiserver" in command and str(cluster.layout.pki).encode() in b" ".join(command):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / TICKS
        except OSError:
            continue
    raise SystemExit("The API server's process was not found.")


if __name__ == "__main__":
    main()
