"""
Measure the cost of a sidecar for a real Pod from reports of the kubelet and the scheduler: start, memory and CPU.

    python -m benchmarks.pod [--starts 10] [--minutes 60] [--pods 3] [--only start stay] [--json FILE]

The cluster of tests/cluster runs on this machine with one node, and uses the STS of `irsa-sidecar local`. The kinds of
Pods alternate. A start is measured from the scheduler's event to the first line of the application, and from there to
boto3's first credentials. An application without a sidecar calls STS itself. Then Pods with a sidecar run with an
application that calls AWS every ten seconds. The kubelet's statistics of the sidecars are read after their start, and
after the requested time.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measure
from benchmarks.arguments import at_least
from benchmarks.run_cost import machine
from benchmarks.tables import Samples, Table, text
from tests.cluster.applications import pod
from tests.cluster.cluster import Cluster, cluster_for_tests
from tests.cluster.images import save_images
from tests.cluster.namespace import Namespace, new_namespace
from tests.cluster.sts import ClusterSts, cluster_sts, role_arn
from tests.support.manifests import SIDECAR, sidecar_of

NATIVE, PLAIN = "pod/example.yaml", "pod/before-1.29.yaml"

SAY_WHEN = """
began = time.time()
credentials = boto3.session.Session().get_credentials()
secret = credentials.get_frozen_credentials().secret_key
print(json.dumps({"started": began, "has_credentials": time.time(), "by": credentials.method}), flush=True)
"""
WORK = """
client = boto3.client("sts")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    client.get_caller_identity()
    time.sleep(10)
"""

OWN_TOKEN = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
"""
Directory of the token in IRSA without a sidecar.

Source: EKS user guide, Configure Pods to use a Kubernetes service account.
"""

SETTLED_SECONDS = 60.0
"""Time until a start is over and the kubelet has measured the Pod. The kubelet measures about every ten seconds."""


class Use(NamedTuple):
    """The cost of one sidecar: the kubelet's figures in MiB and ms, and the kernel's figures for its process."""

    working_set: float
    cpu_ms: float
    at: datetime
    process: measure.Memory


def starts(namespace: Namespace, sts: ClusterSts, count: int) -> Samples:
    """Start each kind of Pod this number of times, in turn. Return the seconds of each phase of the starts."""
    kinds = {
        "no sidecar, own exchange": alone(sts),
        "native sidecar": pod(NATIVE, "", sts, app=SAY_WHEN),
        "native, without startup probe": pod(NATIVE, "", sts, app=SAY_WHEN),
        "plain sidecar": pod(PLAIN, "", sts, app=SAY_WHEN),
    }
    del sidecar_of(kinds["native, without startup probe"])["startupProbe"]
    samples: Samples = {kind: {} for kind in kinds}
    for number in range(count):
        for index, (kind, template) in enumerate(kinds.items()):
            for column, seconds in _start(namespace, template, f"start-{number}-{index}").items():
                samples[kind].setdefault(column, []).append(seconds)
    return samples


def alone(sts: ClusterSts) -> dict[str, Any]:
    """Return the Pod without its sidecar. The application gets the token and variables of Amazon's webhook instead."""
    made = pod(NATIVE, "", sts, app=SAY_WHEN)
    spec = made["spec"]
    del spec["initContainers"]
    (app,), (volume, _) = spec["containers"], spec["volumes"]
    spec["volumes"] = [volume]
    app["volumeMounts"] = [{"name": volume["name"], "mountPath": OWN_TOKEN, "readOnly": True}]
    kept = [variable for variable in app["env"] if not variable["name"].startswith("AWS_CONTAINER_")]
    own = {"AWS_ROLE_ARN": role_arn("app"), "AWS_WEB_IDENTITY_TOKEN_FILE": f"{OWN_TOKEN}/token"}
    app["env"] = [*kept, *({"name": name, "value": value} for name, value in own.items())]
    return made


def _start(namespace: Namespace, template: dict[str, Any], name: str) -> dict[str, float]:
    made = deepcopy(template)
    made["metadata"]["name"] = name
    made["spec"]["restartPolicy"] = "Never"
    namespace.apply(made)
    output = json.loads(namespace.logged(name, "app", "has_credentials"))
    scheduled = _scheduled_at(namespace, name)
    namespace.kubectl("delete", "pod", name, "--grace-period=1")
    return {
        "scheduled → application started, s": output["started"] - scheduled,
        "→ its first credentials, s": output["has_credentials"] - output["started"],
        "scheduled → credentials, s": output["has_credentials"] - scheduled,
    }


def _scheduled_at(namespace: Namespace, name: str) -> float:
    """Return the time of the scheduler's event, because a Pod's conditions have only whole seconds."""
    selector = f"--field-selector=reason=Scheduled,involvedObject.name={name}"
    (event,) = namespace.get("events", selector)["items"]
    return datetime.fromisoformat(event["eventTime"]).timestamp()


def stay(cluster: Cluster, namespace: Namespace, sts: ClusterSts, count: int, minutes: float) -> Samples:
    """Run this number of Pods with a sidecar, and measure memory and CPU after the start and after this time."""
    names = [f"stay-{number}" for number in range(count)]
    for name in names:
        namespace.apply(pod(NATIVE, name, sts, app=WORK))
        namespace.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
    time.sleep(SETTLED_SECONDS)
    first = _uses(cluster, namespace, names)
    time.sleep(minutes * 60)
    last = _uses(cluster, namespace, names)
    lasted = [(new.at - old.at).total_seconds() / 60 for old, new in zip(first, last, strict=True)]
    used = [new.cpu_ms - old.cpu_ms for old, new in zip(first, last, strict=True)]
    return {
        "after its start": _columns(first) | {"CPU ms so far": [use.cpu_ms for use in first]},
        f"after {minutes:g} minutes": _columns(last)
        | {
            "CPU ms so far": [use.cpu_ms for use in last],
            "CPU ms a minute": [ms / minute for ms, minute in zip(used, lasted, strict=True)],
        },
    }


def _columns(uses: Sequence[Use]) -> dict[str, list[float]]:
    return {
        "working set MiB": [use.working_set for use in uses],
        "RSS MiB": [use.process.rss for use in uses],
        "PSS MiB": [use.process.pss for use in uses],
        "RssAnon MiB": [use.process.anonymous for use in uses],
    }


def _uses(cluster: Cluster, namespace: Namespace, names: Sequence[str]) -> list[Use]:
    """Return the cost of each Pod's sidecar, from the kubelet's summary."""
    summary = json.loads(cluster.kubectl("get", "--raw", "/api/v1/nodes/node/proxy/stats/summary").stdout)
    pods = {(pod["podRef"]["namespace"], pod["podRef"]["name"]): pod for pod in summary["pods"]}
    return [_use(pods[namespace.name, name]) for name in names]


def _use(found: dict[str, Any]) -> Use:
    (sidecar,) = [container for container in found["containers"] if container["name"] == SIDECAR]
    memory, cpu = sidecar["memory"], sidecar["cpu"]
    process = measure.memory(_process_of(found["podRef"]["uid"]))
    at = datetime.fromisoformat(cpu["time"])
    return Use(memory["workingSetBytes"] / 1024 / 1024, cpu["usageCoreNanoSeconds"] / 1e6, at, process)


def _process_of(uid: str) -> int:
    """Return the sidecar's process id on the machine. The names of the node's cgroups contain the Pod's UID."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended
            group, command = (folder / "cgroup").read_text(), (folder / "cmdline").read_bytes()
            if uid in group and b"irsa-sidecar\0run" in command:
                return int(folder.name)
    raise RuntimeError(f"no process of the sidecar of Pod {uid}")


@contextmanager
def node(directory: Path) -> Iterator[tuple[Cluster, ClusterSts]]:
    """Run a cluster and its STS. The cluster has a node with the images of this checkout."""
    with contextmanager(cluster_for_tests)("full") as cluster:
        cluster.load_image(save_images(directory))
        with cluster_sts(cluster, directory) as sts:
            yield cluster, sts


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the cost of a sidecar for a real Pod.")
    parser.add_argument("--starts", type=at_least(1), default=10, help="starts of each kind of Pod [10]")
    parser.add_argument("--pods", type=at_least(1), default=3, help="Pods that run for --minutes [3]")
    parser.add_argument("--minutes", type=at_least(0.0), default=60.0, help="minutes for which these Pods run [60]")
    parser.add_argument("--only", nargs="+", choices=["start", "stay"], default=["start", "stay"], help="[both]")
    parser.add_argument("--json", metavar="FILE", help="file for all samples, as JSON")
    args = parser.parse_args()
    tables = []
    with tempfile.TemporaryDirectory(prefix="pod-") as directory, node(Path(directory)) as (cluster, sts):
        print(machine(), flush=True)
        with new_namespace(cluster) as namespace:
            if "start" in args.only:
                tables.append(Table("From scheduled", starts(namespace, sts, args.starts), {}))
                print(text(tables[-1]), flush=True)
            if "stay" in args.only:
                stays = stay(cluster, namespace, sts, args.pods, args.minutes)
                tables.append(Table(f"The sidecars of {args.pods} Pods", stays, {}))
                print(text(tables[-1]), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps({table.title: table.samples for table in tables}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
