"""
Measure honest admission reviews and the liveness probe while a tenant attacks `irsa-sidecar webhook`.

    python -m benchmarks.webhook_attack [--seconds 60] [--attacks NAMES] [--beside ../another-checkout]

The webhook is a process with a fake API server, and each attacker is another process. All share this machine, so the
figures include the attackers' CPU. `accounts` has no attacker: the webhook starts in a cluster with 30,000
ServiceAccounts in one namespace.

    chunks       40 connections to each port that send a body in chunks of one byte
    annotations  8 clients that create Pods with a hostile `roles` annotation, of 59,000 and of 8,000 characters
    bodies       reviews of many empty lists, in 4 MB and in 420 kB, and unfinished bodies on both ports
    handshakes   clients that begin handshakes as fast as possible and leave the connections open
    hellos       600 connections with 120 kB of a handshake that is not complete
    places       600 connections that completed a request and send the next one slowly, to both ports
    unknown      200 clients with reviews of ServiceAccounts that the webhook requests from a slow API server
    headers      40 connections to each port that send heads with 4,000 headers
    containers   40 clients that create Pods of 480 containers

`chunks+bodies` runs both attacks together, `all` runs the first three attacks together, and `more` runs hellos, places
and unknown together. With `--beside`, each attack also runs against the webhook of another checkout.
"""

import argparse
import base64
import http.client
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import yaml

from benchmarks import measure
from benchmarks.arguments import at_least
from benchmarks.tables import Samples, Table, text
from benchmarks.webhook_attackers import ATTACKERS, HOST, UNKNOWN, WAIT_SECONDS, Target, post
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.unit.webhook.cluster import CONFIGURATION, admission_review, fill

TOGETHER = {"all": "chunks+annotations+bodies", "more": "hellos+places+unknown"}
START_SECONDS = 60.0
SLOW_SECONDS = 4.0
HERE = Path(__file__).parents[1]
ACCOUNTS = 30_000


# The webhook and its measurements


def slow_for_unknown(api: FakeApiServer) -> None:
    """Let the API server respond slowly to requests for the ServiceAccounts of one namespace."""
    respond = api.respond

    def slow(method: str, target: str, body: bytes) -> tuple[int, Any]:
        if f"/namespaces/{UNKNOWN}/" in target:
            time.sleep(SLOW_SECONDS)
        return respond(method, target, body)

    api.respond = slow  # type: ignore[method-assign]


@contextmanager
def webhook(api: FakeApiServer, directory: Path, tree: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Target]]:
    """Start the process, and yield it when it is ready."""
    (directory / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(api.url)))
    target = Target(free_port(), free_port())
    command = [
        *(sys.executable, "-m", "sidecar", "webhook", "--image", "irsa-sidecar:bench", "--region", "eu-west-1"),
        *("--listen", f"{HOST}:{target.port}", "--admin-listen", f"{HOST}:{target.admin_port}"),
    ]
    environ = {"PATH": os.defpath, "HOME": "/nonexistent", "KUBECONFIG": str(directory / "kubeconfig")}
    process = subprocess.Popen(command, cwd=tree, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(process, target)
        yield process, target
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(process: "subprocess.Popen[bytes]", target: Target) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the webhook ended with {process.returncode}: start it by hand to see why")
        with suppress(OSError, http.client.HTTPException):
            if get(target.admin_port, "/readyz") == 200:
                return
        time.sleep(0.1)
    raise SystemExit("the webhook was not ready in time")


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=WAIT_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def timed(call: Callable[[], int]) -> tuple[float, bool]:
    """Return the seconds that the request took, and whether it succeeded."""
    began = time.perf_counter()
    try:
        is_successful = call() == 200
        return time.perf_counter() - began, is_successful
    except (OSError, http.client.HTTPException):
        return time.perf_counter() - began, False


class Watcher:
    """Two threads: one requests the probe five times per second, and one records the highest resident memory."""

    def __init__(self, process: "subprocess.Popen[bytes]", target: Target) -> None:
        self.livez: list[float] = []
        self.resident = 0.0
        self._process, self._target = process, target
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._probe), threading.Thread(target=self._weigh)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _probe(self) -> None:
        while not self._ends.wait(0.2):
            self.livez.append(timed(lambda: get(self._target.admin_port, "/livez"))[0])

    def _weigh(self) -> None:
        while not self._ends.wait(0.05):
            with suppress(OSError):
                self.resident = max(self.resident, measure.memory(self._process.pid).rss)


def under(attacks: Sequence[str], seconds: float, tree: Path = HERE) -> dict[str, list[float]]:
    """
    Run the attacks, and return a row of the table.

    The row shows honest reviews that are sent one after the other, the liveness probe, and the webhook's memory.
    """
    honest = json.dumps(admission_review()).encode()
    took, failed = [], 0
    with api_server() as api, tempfile.TemporaryDirectory() as directory:
        fill(api)
        slow_for_unknown(api)
        with webhook(api, Path(directory), tree) as (process, target):
            assert base64.b64decode(api.documents[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"])
            attackers = [spawn(name, target, seconds) for name in attacks]
            try:
                time.sleep(1)
                with Watcher(process, target) as watcher:
                    ends = time.monotonic() + seconds - 1
                    while time.monotonic() < ends:
                        second, is_successful = timed(lambda: post(target.port, honest))
                        took.append(second)
                        failed += not is_successful
                        time.sleep(0.05)
            finally:
                for attacker in attackers:
                    attacker.kill()
                    attacker.wait()
    return row(took, failed, watcher.livez, watcher.resident)


def row(took: list[float], failed: int, livez: list[float], resident: float) -> dict[str, list[float]]:
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else took * 100
    return {
        "reviews": [float(len(took))],
        "failed": [float(failed)],
        "p50 ms": [cuts[49] * 1e3],
        "p99 ms": [cuts[98] * 1e3],
        "max ms": [max(took) * 1e3],
        "livez max ms": [max(livez, default=0.0) * 1e3],
        "peak MiB": [resident],
    }


def spawn(name: str, target: Target, seconds: float) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "benchmarks.webhook_attackers", name, str(target.port), str(target.admin_port)]
    return subprocess.Popen([*command, str(seconds)])


def with_accounts(count: int, tree: Path = HERE) -> dict[str, list[float]]:
    """Return the row of a namespace with this number of ServiceAccounts, each with annotations of 2 KB."""
    long = {
        "eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/" + "a" * 2000,
        "eks.amazonaws.com/audience": "a" * 2048,
        "eks.amazonaws.com/token-expiration": "9" * 2048,
        "eks.amazonaws.com/sts-regional-endpoints": "t" * 2048,
    }
    honest = json.dumps(admission_review()).encode()
    with api_server() as api, tempfile.TemporaryDirectory() as directory:
        fill(api)
        for number in range(count):
            metadata = {"name": f"a{number}", "namespace": "evil", "annotations": long}
            path = f"/api/v1/namespaces/evil/serviceaccounts/a{number}"
            api.put(path, {"kind": "ServiceAccount", "metadata": metadata})
        with webhook(api, Path(directory), tree) as (process, target), Watcher(process, target) as watcher:
            time.sleep(60 if count > 10_000 else 10)
            took = [timed(lambda: post(target.port, honest))[0] for _ in range(50)]
    return row(took, 0, watcher.livez, watcher.resident)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=at_least(3.0, 600.0), default=60.0, help="duration of each attack [60]")
    default = ",".join([*ATTACKERS, *TOGETHER])
    parser.add_argument("--attacks", default=default, help=f"[{default}], or `accounts`")
    parser.add_argument("--beside", type=Path, help="another checkout, whose webhook is attacked too")
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    trees = {"": HERE} | ({f" in {args.beside.name}": args.beside.resolve()} if args.beside else {})
    rows: Samples = {f"nobody{where}": under((), min(args.seconds, 10.0), tree) for where, tree in trees.items()}
    for name in args.attacks.split(","):
        for where, tree in reversed(trees.items()):
            rows[name + where] = measured(name, args.seconds, tree)
    print(text(Table("Honest reviews on new connections, under attack", rows, {})))


def measured(name: str, seconds: float, tree: Path) -> dict[str, list[float]]:
    if name == "accounts":
        return with_accounts(ACCOUNTS, tree)
    return under(TOGETHER.get(name, name).split("+"), seconds, tree)


if __name__ == "__main__":
    sys.exit(measure.on_linux(main))
