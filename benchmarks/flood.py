"""
Measure how long honest clients wait for `irsa-sidecar run` while another client keeps a thousand idle connections open.

    python benchmarks/flood.py [--requests 2000] [--idle 1000] [--python PATH]

Each row has the same requests, one after the other on new connections: without idle connections, with idle connections,
and while new idle connections arrive. In the last row, a new idle connection precedes each request, so the daemon must
close an old connection for nearly every honest client. The idle and the honest clients share this process and machine,
so the figures include their cost.
"""

import argparse
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from benchmarks import measure, subjects
from benchmarks.arguments import add_python, at_least
from benchmarks.subjects import HOST
from benchmarks.tables import Samples, Table, text

CONNECT_SECONDS = 10.0
WARM_UP_REQUESTS = 200


class Flood:
    """Idle connections to one port. `more` opens one, and closes the oldest if there are more than `size`."""

    def __init__(self, port: int, size: int) -> None:
        self._port = port
        self._size = size
        self._open: deque[socket.socket] = deque()

    def rise(self) -> None:
        for _ in range(self._size):
            self.more()

    def more(self) -> None:
        self._open.append(socket.create_connection((HOST, self._port), timeout=CONNECT_SECONDS))
        if len(self._open) > self._size:
            self._open.popleft().close()

    def end(self) -> None:
        while self._open:
            self._open.pop().close()


def latencies(port: int, requests: int, between: Callable[[], object] = lambda: None) -> dict[str, list[float]]:
    """Return percentiles of the milliseconds from connect to the end of a response, and the number of failures."""
    took, failures = [], 0
    for _ in range(requests):
        between()
        began = time.perf_counter()
        if subjects.has_credentials(port):
            took.append((time.perf_counter() - began) * 1e3)
        else:
            failures += 1
    cuts = statistics.quantiles(took, n=100)
    return {"p50 ms": [cuts[49]], "p99 ms": [cuts[98]], "max ms": [max(took)], "failed": [float(failures)]}


def compare(port: int, requests: int, idle: int) -> Samples:
    """Measure without and with idle connections, and while new ones arrive. Return one row for each case."""
    flood = Flood(port, idle)
    try:
        latencies(port, WARM_UP_REQUESTS)
        rows = {"no flood": latencies(port, requests)}
        flood.rise()
        rows[f"{idle} idle connections"] = latencies(port, requests)
        rows["and a new one before each request"] = latencies(port, requests, flood.more)
    finally:
        flood.end()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure the wait of honest clients during a flood of idle connections."
    )
    parser.add_argument("--requests", type=at_least(1), default=2000, help="requests in each row")
    parser.add_argument("--idle", type=at_least(0), default=1000, help="idle connections")
    add_python(parser)
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryDirectory() as directory, subjects.stub_sts() as sts:
        inputs = Path(directory)
        subjects.write_inputs(inputs)
        with subjects.running(subjects.run("run", args.python, inputs), sts.url) as daemon:
            # This limit is for the benchmark's process, not for the daemon.
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            rows = compare(daemon.port, args.requests, args.idle)
    print(text(Table("Honest requests, one after the other", rows, {})))


if __name__ == "__main__":
    sys.exit(measure.on_linux(main))
