"""
Run `irsa-sidecar run` as a process for an hour, or for `--seconds`, and measure the growth of its resources.

    python benchmarks/soak.py [--seconds 3600] [--session-seconds 10] [--requests-a-second 20] [--python PATH]

With sessions of a few seconds, the daemon refreshes as often in an hour as in a Pod in weeks. During this time the
token is rotated as by the kubelet, and clients send requests steadily. Memory, threads and descriptors are read after a
warm-up and at the end. Growth between the two readings is a leak. A response without valid credentials is an error. The
exit status is 1 if there was an error.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks import measure, subjects
from benchmarks.arguments import add_python, at_least
from benchmarks.subjects import PATH, Running
from benchmarks.tables import Samples, Table, text

WARM_UP_SECONDS = 20.0
"""Time of the warm-up: the daemon has then refreshed several times, and the allocator has its arenas."""

ROTATION_SECONDS = 3.0


@dataclass
class Clients:
    """The results of the clients: responses with valid credentials, errors, and the number of different credentials."""

    responses: int = 0
    errors: int = 0
    different: int = 0
    last_key: str = ""

    def request(self, port: int) -> None:
        """Send one GET on a new connection, as SDKs do."""
        key = valid_key(port)
        self.responses += key is not None
        self.errors += key is None
        if key is not None and key != self.last_key:
            self.last_key = key
            self.different += 1


def valid_key(port: int) -> str | None:
    """Return the access key in the response, or None if the response has no valid credentials."""
    try:
        head, _, body = subjects.get(port, PATH).partition(b"\r\n\r\n")
    except OSError:
        return None
    if not head.startswith(b"HTTP/1.1 200 "):
        return None
    document = json.loads(body)
    expires_at = datetime.fromisoformat(document["Expiration"]).timestamp()
    return str(document["AccessKeyId"]) if expires_at > time.time() else None


def rotate(inputs: Path) -> None:
    """Replace the token by a rename, which has the same effect for a reader as the kubelet's swap."""
    draft = inputs / "draft"
    draft.mkdir(exist_ok=True)
    subjects.write_inputs(draft)
    (draft / "token").replace(inputs / "token")


def drive(daemon: Running, inputs: Path, clients: Clients, seconds: float, requests_a_second: float) -> int:
    """Send requests and rotate tokens for this time. Returns the number of rotations."""
    began = rotated_at = time.monotonic()
    requests = rotations = 0
    while (now := time.monotonic()) - began < seconds:
        if now - rotated_at >= ROTATION_SECONDS:
            rotate(inputs)
            rotated_at, rotations = now, rotations + 1
        clients.request(daemon.port)
        requests += 1
        time.sleep(max(0.0, began + requests / requests_a_second - time.monotonic()))
    return rotations


def held(pid: int) -> dict[str, list[float]]:
    """Return the memory, threads and descriptors that the process has now."""
    memory = measure.memory(pid)
    return {
        "RSS MiB": [memory.rss],
        "PSS MiB": [memory.pss],
        "threads": [float(memory.threads)],
        "descriptors": [float(len(os.listdir(f"/proc/{pid}/fd")))],
    }


def soak(args: argparse.Namespace, inputs: Path, sts: subjects.Stub) -> int:
    """Run the daemon, and print its resources and the counts. Return the number of errors."""
    clients = Clients()
    with subjects.running(subjects.run("run", args.python, inputs), sts.url) as daemon:
        drive(daemon, inputs, clients, WARM_UP_SECONDS, args.requests_a_second)
        rows: Samples = {"warm": held(daemon.pid)}
        refreshed = sts.returned()
        rotations = drive(daemon, inputs, clients, args.seconds, args.requests_a_second)
        rows["at the end"] = held(daemon.pid)
        refreshed = sts.returned() - refreshed
    print(text(Table(f"irsa-sidecar run, before and after {args.seconds:.0f} s", rows, {})))
    print(
        f"{refreshed} refreshes, {rotations} rotations, {clients.responses} responses with {clients.different} "
        f"different credentials, {clients.errors} errors"
    )
    return clients.errors


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what grows in `irsa-sidecar run` over time.")
    parser.add_argument("--seconds", type=at_least(1.0), default=3600, help="seconds after the warm-up [3600]")
    parser.add_argument(
        "--session-seconds", type=at_least(4.0), default=10, help="lifetime of credentials in seconds [10]"
    )
    parser.add_argument(
        "--requests-a-second", type=at_least(0.1), default=20, help="requests per second, one after the other [20]"
    )
    add_python(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, subjects.stub_sts(args.session_seconds) as sts:
        inputs = Path(directory)
        subjects.write_inputs(inputs)
        return 1 if soak(args, inputs, sts) else 0


if __name__ == "__main__":
    sys.exit(measure.on_linux(main))
