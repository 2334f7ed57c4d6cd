"""
Measure honest admission reviews and the liveness probe while a tenant attacks `irsa-sidecar webhook`.

    python -m benchmarks.webhook_attack [--seconds 60] [--attacks chunks,annotations,bodies,handshakes,all]

The webhook is a process with a fake API server, and each attacker is another process. All share this machine, so the
figures include the attackers' CPU. `accounts` has no attacker: the webhook starts in a cluster with 30,000
ServiceAccounts in one namespace.

    chunks       40 connections to each port that send a body in chunks of one byte
    annotations  8 clients that create Pods with a hostile `roles` annotation, of 59,000 and of 8,000 characters
    bodies       reviews of many empty lists, in 4 MB and in 600 kB, and unfinished bodies on both ports
    handshakes   clients that begin handshakes as fast as possible and leave the connections open

`chunks+bodies` runs both attacks together, and `all` runs the first three attacks together.
"""

import argparse
import base64
import http.client
import json
import os
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from benchmarks import measure
from benchmarks.arguments import at_least
from benchmarks.tables import Samples, Table, text
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.unit.webhook.cluster import CONFIGURATION, admission_review, fill

HOST = "127.0.0.1"
ALL = "chunks+annotations+bodies"
START_SECONDS = 60.0
WAIT_SECONDS = 60.0
ACCOUNTS = 30_000


class Target(NamedTuple):
    """The ports of the webhook."""

    port: int
    admin_port: int


# Attackers, each in a process of its own


def one_byte_chunks(target: Target, until: float) -> None:
    """Send chunks of one byte on 40 connections to each port, as fast as possible."""
    head = b"POST /inject HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    pushers = [lambda: secured(target.port)] * 40 + [lambda: plain(target.admin_port)] * 40
    push(pushers, head, b"1\r\na\r\n" * 8_000, until)


def unfinished_bodies(target: Target, until: float) -> None:
    """Keep 400 connections to each port open with 32 kB of an unfinished body, and also send large reviews."""
    for count in (1_300_000, 140_000):
        threading.Thread(target=send_reviews, args=(target, until, empty_lists(count)), daemon=True).start()
    head = b"POST /inject HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n"
    pushers = [lambda: secured(target.port)] * 400 + [lambda: plain(target.admin_port)] * 400
    push(pushers, head, b"[" * 32_000, until, once=True)


def hostile_annotations(target: Target, until: float) -> None:
    """Create Pods with a hostile annotation from 8 clients."""
    bodies = [hostile_review(200, 59_000), hostile_review(8, 8_000)] * 4
    threads = [threading.Thread(target=send_reviews, args=(target, until, body)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def unfinished_handshakes(target: Target, until: float) -> None:
    """Send the first message of a handshake on new connections, from 8 threads."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        trusting().wrap_bio(incoming, outgoing, server_hostname=HOST).do_handshake()
    hello = outgoing.read()
    threads = [threading.Thread(target=begin_handshakes, args=(target, until, hello)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def begin_handshakes(target: Target, until: float, hello: bytes) -> None:
    kept: deque[socket.socket] = deque(maxlen=190)
    while time.monotonic() < until:
        with suppress(OSError):
            kept.append(plain(target.port))
            kept[-1].sendall(hello)


ATTACKERS: dict[str, Callable[[Target, float], None]] = {
    "chunks": one_byte_chunks,
    "annotations": hostile_annotations,
    "bodies": unfinished_bodies,
    "handshakes": unfinished_handshakes,
}


def push(openers: list[Callable[[], Any]], head: bytes, piece: bytes, until: float, *, once: bool = False) -> None:
    """Keep a connection open for each opener, and write as many bytes as the kernel accepts."""
    connections: dict[int, Any] = {}
    while time.monotonic() < until:
        for number, opener in enumerate(openers):
            try:
                if number not in connections:
                    connections[number] = opener()
                    connections[number].sendall(head)
                    connections[number].settimeout(0.01)
                    if once:
                        connections[number].sendall(piece)
                elif not once:
                    connections[number].send(piece)
            except TimeoutError:
                continue
            except OSError:
                connections.pop(number, None)
        time.sleep(0.02)


def send_reviews(target: Target, until: float, body: bytes) -> None:
    while time.monotonic() < until:
        with suppress(OSError, http.client.HTTPException):
            post(target.port, body)


def hostile_review(depth: int, length: int) -> bytes:
    """Return a review with deeply nested flow lists, in windows shorter than PyYAML's longest simple key."""
    window = "[" * depth + "a" + "]" * depth + ","
    text = window * (length // len(window))
    return json.dumps(review_with({"irsa-sidecar.io/roles": f"[{text}a]"})).encode()


def empty_lists(count: int) -> bytes:
    document = review_with({})
    document["request"]["object"]["spec"]["padding"] = "PADDING"
    return json.dumps(document).encode().replace(b'"PADDING"', b"[" + b"[]," * count + b"[]]")


def review_with(annotations: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = admission_review()
    document["request"]["object"]["metadata"]["annotations"] = annotations
    return document


def plain(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=5)


def secured(port: int) -> ssl.SSLSocket:
    return trusting().wrap_socket(plain(port), server_hostname=HOST)


def trusting() -> ssl.SSLContext:
    """Return the TLS context of a client that verifies no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def post(port: int, body: bytes, timeout: float = WAIT_SECONDS) -> int:
    """Send one review on a new connection. Returns the status."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(HOST, port, context=context, timeout=timeout)
    try:
        connection.request("POST", "/inject", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


# The webhook and its measurements


@contextmanager
def webhook(api: FakeApiServer, directory: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Target]]:
    """Start the process, and yield it when it is ready."""
    (directory / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(api.url)))
    target = Target(free_port(), free_port())
    command = [
        *(sys.executable, "-m", "sidecar", "webhook", "--image", "irsa-sidecar:bench", "--region", "eu-west-1"),
        *("--listen", f"{HOST}:{target.port}", "--admin-listen", f"{HOST}:{target.admin_port}"),
    ]
    environ = {"PATH": os.defpath, "HOME": "/nonexistent", "KUBECONFIG": str(directory / "kubeconfig")}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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


def under(attacks: Sequence[str], seconds: float) -> dict[str, list[float]]:
    """
    Run the attacks, and return a row of the table.

    The row shows honest reviews that are sent one after the other, the liveness probe, and the webhook's memory.
    """
    honest = json.dumps(admission_review()).encode()
    took, failed = [], 0
    with api_server() as api, tempfile.TemporaryDirectory() as directory:
        fill(api)
        with webhook(api, Path(directory)) as (process, target):
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
    command = [sys.executable, "-m", "benchmarks.webhook_attack", "--be", name, "--seconds", str(seconds)]
    return subprocess.Popen([*command, "--ports", f"{target.port},{target.admin_port}"])


def with_accounts(count: int) -> dict[str, list[float]]:
    """Return the row of a namespace with this number of ServiceAccounts, each with annotations of 2,048 characters."""
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
        with webhook(api, Path(directory)) as (process, target), Watcher(process, target) as watcher:
            time.sleep(60 if count > 10_000 else 10)
            took = [timed(lambda: post(target.port, honest))[0] for _ in range(50)]
    return row(took, 0, watcher.livez, watcher.resident)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=at_least(3.0, 600.0), default=60.0, help="duration of each attack [60]")
    parser.add_argument("--attacks", default="chunks,annotations,bodies,handshakes,all", help="attacks, or `accounts`")
    parser.add_argument("--be", choices=ATTACKERS, help=argparse.SUPPRESS)
    parser.add_argument("--ports", help=argparse.SUPPRESS)
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if args.be:
        port, admin_port = map(int, args.ports.split(","))
        ATTACKERS[args.be](Target(port, admin_port), time.monotonic() + args.seconds)
        return
    rows: Samples = {"nobody": under((), min(args.seconds, 10.0))}
    for name in args.attacks.split(","):
        if name == "accounts":
            rows[f"{ACCOUNTS} ServiceAccounts"] = with_accounts(ACCOUNTS)
        else:
            rows[name] = under((ALL if name == "all" else name).split("+"), args.seconds)
    print(text(Table("Honest reviews on new connections, under attack", rows, {})))


if __name__ == "__main__":
    sys.exit(measure.on_linux(main))
