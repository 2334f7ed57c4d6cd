"""
Compare `irsa-sidecar webhook` with Amazon's webhook under load, and measure how both grow.

    python -m benchmarks.webhook [--rounds 5] [--seconds 4] [--tables load,accounts,containers,connections]
                                 [--beside ../another-checkout]

Amazon's webhook is the Go program amazon-eks-pod-identity-webhook, built from its published module. All subjects use
the same fake API server and the same reviews, run at the same time, and get the load in turns. wrk sends the load over
TLS on kept connections, as an API server does. The fake and wrk use the same machine, so only the ratios within one run
are meaningful. `--beside` adds the webhook of another checkout, for example of an earlier commit.

    load         reviews of 2.4 KiB on 8 connections, with 5,000 ServiceAccounts
    accounts     memory, and time and CPU from exec until all ServiceAccounts are known: 1, 5,000 and 50,000
    containers   Pods of 1 to 50 containers, on 8 connections
    connections  1 to 256 connections
"""

import argparse
import base64
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import trustme
import yaml

from benchmarks import builds, load, measure
from benchmarks.arguments import at_least
from benchmarks.subjects import HOST, end, free_port
from benchmarks.tables import Samples, Table, text
from benchmarks.webhook_attackers import trusting
from benchmarks.webhook_review import NAMESPACES, account, review
from release.go_programs import GoProgram, built
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.unit.webhook.cluster import fill

AMAZONS = GoProgram(builds.HERE / "go" / "webhook", "github.com/aws/amazon-eks-pod-identity-webhook", minutes=5)

LIST_BY_PAGES = {"KUBE_FEATURE_WatchListClient": "false"}
"""A setting of client-go that disables lists by watch, because the fake API server does not support them."""

ACCOUNTS, MANY_ACCOUNTS = 5_000, 50_000
CONNECTIONS = 8
CONTAINERS = (1, 5, 20, 50)
MANY_CONNECTIONS = (1, 8, 64, 256)

READY_SECONDS = 120.0
"""Longest time from exec until a webhook knows all ServiceAccounts. A slower subject counts as broken."""


class Subject(NamedTuple):
    """
    A webhook: its command, the directory that it starts in, and the path for reviews.

    `knows` returns whether the process knows this number of ServiceAccounts.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    path: str
    knows: Callable[["Running", int], bool]


class Running(NamedTuple):
    subject: Subject
    process: "subprocess.Popen[bytes]"
    port: int
    admin_port: int


def ours(name: str, tree: Path) -> Subject:
    """Return the webhook of the checkout `tree`, with the packages that this checkout's image has."""
    python = str(builds.tools_environment(sys.executable) / "bin" / "python")
    addresses = ("--listen", f"{HOST}:{{port}}", "--admin-listen", f"{HOST}:{{admin_port}}")
    flags = ("--image", "irsa-sidecar:bench", "--region", "eu-west-1", "--log-format", "json", *addresses)
    return Subject(name, (python, "-m", "sidecar", "webhook", *flags), tree, "/inject", _lists_all)


def amazons(name: str, inputs: Path) -> Subject:
    """Return Amazon's webhook with the certificate in `inputs`. It listens on all addresses of this machine."""
    program = str(built(AMAZONS))
    addresses = ("--port={port}", "--metrics-port={admin_port}")
    files = (f"--kubeconfig={inputs}/kubeconfig", f"--tls-cert={inputs}/tls.crt", f"--tls-key={inputs}/tls.key")
    command = (program, "--in-cluster=false", "--aws-default-region=eu-west-1", *addresses, *files)
    return Subject(name, command, inputs, "/mutate", _changes_pod)


def _lists_all(running: Running, accounts: int) -> bool:
    lines = get(running.admin_port, "/metrics").splitlines()
    wanted = {b"irsa_sidecar_webhook_watch_active 1", f"irsa_sidecar_webhook_service_accounts {accounts}".encode()}
    return wanted <= set(lines) and _changes_pod(running, accounts)


def _changes_pod(running: Running, accounts: int) -> bool:
    """Return whether the webhook changes a Pod of the last ServiceAccount in the list of the API server."""
    connection = http.client.HTTPSConnection(HOST, running.port, context=trusting(), timeout=10)
    try:
        connection.request("POST", running.subject.path, review(1, accounts), {"Content-Type": "application/json"})
        response = connection.getresponse()
        document = json.loads(response.read())["response"]
    finally:
        connection.close()
    return response.status == 200 and len(json.loads(base64.b64decode(document.get("patch", "W10=")))) > 0


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


@contextmanager
def cluster(accounts: int, inputs: Path) -> Iterator[FakeApiServer]:
    """Run a fake API server with this number of ServiceAccounts, and write the files that the subjects read."""
    with api_server() as api:
        fill(api)
        del api.documents["/api/v1/namespaces/shop/serviceaccounts/cart"]
        for number in range(1, accounts + 1):
            api.put(*account(number))
        api.forget_history()  # otherwise each watch of the fake API server would search the whole list
        (inputs / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(api.url)))
        certificate = trustme.CA().issue_cert(HOST)
        certificate.private_key_pem.write_to_path(inputs / "tls.key")
        certificate.cert_chain_pems[0].write_to_path(inputs / "tls.crt")
        yield api


@contextmanager
def started(subject: Subject, inputs: Path) -> Iterator[Running]:
    ports = {"port": free_port(), "admin_port": free_port()}
    command = [argument.format(**ports) for argument in subject.command]
    environ = {"PATH": os.defpath, "HOME": "/nonexistent", "KUBECONFIG": str(inputs / "kubeconfig"), **LIST_BY_PAGES}
    process = subprocess.Popen(
        command, cwd=subject.directory, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield Running(subject, process, **ports)
    finally:
        end(process)


def wait_until_known(running: Running, accounts: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            raise SystemExit(f"{running.subject.name} ended with {running.process.returncode}: start it by hand")
        with suppress(OSError, http.client.HTTPException, ValueError):
            if running.subject.knows(running, accounts):
                return
        time.sleep(0.02)
    raise SystemExit(f"{running.subject.name} does not know {accounts} ServiceAccounts after {READY_SECONDS} s")


# Measurements


def under_load(running: Running, body: bytes, connections: int, seconds: int, inputs: Path) -> dict[str, float]:
    """Return one sample of each column, while wrk sends this review as often as it can."""
    script = inputs / "review.lua"
    (inputs / "review.json").write_bytes(body)
    script.write_text(
        f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        f'wrk.body = io.open("{inputs}/review.json"):read("*a")\n'
    )
    url = f"https://{HOST}:{running.port}{running.subject.path}?timeout=10s"
    command = [builds.tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    before = measure.effort(running.process.pid).cpu_ms
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60)
    cpu_ms = measure.effort(running.process.pid).cpu_ms - before
    rush = load.read_wrk(done.stdout)
    return {
        "reviews/s": rush.per_second,
        "p50 ms": rush.p50_ms,
        "p99 ms": rush.p99_ms,
        "CPU ms per review": cpu_ms / max(1, rush.responses),
        "RSS MiB": measure.memory(running.process.pid).rss,
        "errors": float(rush.errors),
    }


def in_turns(
    subjects: Sequence[Subject], loads: Mapping[str, tuple[bytes, int]], args: argparse.Namespace, inputs: Path
) -> Samples:
    """Return a row for each subject and each load, which is a review and a number of connections."""
    rows: Samples = {f"{subject.name}{name}": {} for name in loads for subject in subjects}
    with cluster(ACCOUNTS, inputs), ExitStack() as stack:
        running = [stack.enter_context(started(subject, inputs)) for subject in subjects]
        for each in running:
            wait_until_known(each, ACCOUNTS)
        for number in range(args.rounds):
            for name, (body, connections) in loads.items():
                for each in running if number % 2 == 0 else reversed(running):
                    sample = under_load(each, body, connections, args.seconds, inputs)
                    _add(rows[f"{each.subject.name}{name}"], sample)
    return rows


def _add(row: dict[str, list[float]], sample: Mapping[str, float]) -> None:
    for column, value in sample.items():
        row.setdefault(column, []).append(value)


def by_accounts(subjects: Sequence[Subject], args: argparse.Namespace, inputs: Path) -> Samples:
    rows: Samples = {}
    for accounts in (1, ACCOUNTS, MANY_ACCOUNTS):
        with cluster(accounts, inputs):
            for _ in range(1 if accounts == MANY_ACCOUNTS else args.rounds):
                for subject in subjects:
                    _add(rows.setdefault(f"{subject.name}, {accounts:,}", {}), start(subject, accounts, inputs))
    return rows


def start(subject: Subject, accounts: int, inputs: Path) -> dict[str, float]:
    """Start the webhook, and return the time, CPU and memory that it needs until it knows all ServiceAccounts."""
    began_at = time.perf_counter()
    with started(subject, inputs) as running:
        wait_until_known(running, accounts)
        seconds, pid = time.perf_counter() - began_at, running.process.pid
        return {
            "known after s": seconds,
            "CPU s": measure.effort(pid).cpu_ms / 1000,
            "RSS MiB": measure.memory(pid).rss,
            "peak MiB": measure.peak_rss(pid),
        }


def tables(
    names: Sequence[str], subjects: Sequence[Subject], args: argparse.Namespace, inputs: Path
) -> Iterator[Table]:
    first = review(1, ACCOUNTS)
    others = {subjects[0].name: [subject.name for subject in subjects[1:]]}
    growth = {
        "containers": {f", {count} containers": (review(count, ACCOUNTS), CONNECTIONS) for count in CONTAINERS},
        "connections": {f", {count} connections": (first, count) for count in MANY_CONNECTIONS},
    }
    for name in names:
        if name == "load":
            title = f"{CONNECTIONS} connections, reviews of {len(first):,} bytes, {ACCOUNTS:,} ServiceAccounts"
            yield Table(title, in_turns(subjects, {"": (first, CONNECTIONS)}, args, inputs), others)
        elif name == "accounts":
            title = f"Starts, by ServiceAccounts in {NAMESPACES} namespaces"
            yield Table(title, by_accounts(subjects, args, inputs), {})
        else:
            yield Table(f"Load, by {name}", in_turns(subjects, growth[name], args, inputs), {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=at_least(1, 100), default=5, help="rounds for each subject and load [5]")
    parser.add_argument("--seconds", type=at_least(1, 600), default=4, help="duration of a round [4]")
    parser.add_argument("--tables", default="load,accounts,containers,connections", help="the tables to measure [all]")
    parser.add_argument("--beside", type=Path, metavar="TREE", help="another checkout whose webhook is measured too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        inputs = Path(directory)
        subjects = [ours("webhook", builds.ROOT)]
        subjects += [ours(str(args.beside), args.beside.resolve())] if args.beside else []
        subjects.append(amazons("Amazon's", inputs))
        for table in tables(args.tables.split(","), subjects, args, inputs):
            print(text(table), flush=True)


if __name__ == "__main__":
    sys.exit(measure.on_linux(main))
