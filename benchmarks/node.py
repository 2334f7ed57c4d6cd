"""
Measure the cost of sidecars for a node: many daemons on one machine, and starts within the CPU limits of manifests.

    python -m benchmarks.node [--daemons 100] [--limits 0.05 0.1 0.5] [--python PATH] [--json FILE]

All daemons start together, each with its own listener, and use one stub STS on loopback. A limit applies to each
container: each daemon runs in its own cgroup (version 1 or 2). Cgroups need root. Without root, the limits are skipped
and reported.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure, subjects
from benchmarks.arguments import add_python, at_least
from benchmarks.builds import MissingError
from benchmarks.run_cost import machine
from benchmarks.subjects import Subject
from benchmarks.tables import Samples, Table, text

PERIOD_MICROSECONDS = 100_000
"""Period of the CPU limit, as in Kubernetes (kubelet, cpuCFSQuotaPeriod)."""

CGROUPS = Path("/sys/fs/cgroup")
STARTS_UNDER_LIMIT = 3
IDLE_SECONDS = 20.0
GIVE_UP_SECONDS = 120.0


@dataclass
class Started:
    """One daemon's seconds from the first daemon's start to its own credentials, and its processor time."""

    process: subprocess.Popen[bytes]
    port: int
    group: Path | None = None
    served_after: float = 0.0
    cpu_ms: float = 0.0


def start_all(run: Subject, sts: str, groups: Sequence[Path | None]) -> list[Started]:
    """Start one daemon for each group, all together, and wait until each has credentials."""
    began = time.monotonic()
    daemons = [_spawn(run, sts, group) for group in groups]

    def wait(daemon: Started) -> None:
        while not subjects.has_credentials(daemon.port):
            if daemon.process.poll() is not None:
                raise RuntimeError(f"a daemon ended with {daemon.process.returncode} before it had credentials")
            if time.monotonic() - began > GIVE_UP_SECONDS:
                raise RuntimeError(f"a daemon had no credentials within {GIVE_UP_SECONDS:.0f} s")
            time.sleep(0.05)
        daemon.served_after = time.monotonic() - began
        daemon.cpu_ms = measure.effort(daemon.process.pid).cpu_ms

    try:
        with ThreadPoolExecutor(len(daemons)) as pool:  # a request before the first credentials waits
            list(pool.map(wait, daemons))
    except BaseException:
        end_all(daemons)
        raise
    return daemons


def _spawn(run: Subject, sts: str, group: Path | None) -> Started:
    """Start the daemon in its cgroup, as a container runtime starts a process, or without a cgroup."""
    port = subjects.free_port()
    subject = run
    if group is not None:
        enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        subject = run._replace(command=("sh", "-c", enter, str(group), *run.command))
    return Started(subjects.spawn(subject, port=port, sts=sts), port, group)


def node(run: Subject, sts: str, groups: Sequence[Path | None]) -> dict[str, list[float]]:
    """Measure the memory of all daemons, the time until all serve, and the work of idle daemons."""
    daemons = start_all(run, sts, groups)
    try:
        time.sleep(2)  # wait until the work after a start has ended
        memory = [measure.memory(daemon.process.pid) for daemon in daemons]
        before = [measure.effort(daemon.process.pid).cpu_ms for daemon in daemons]
        time.sleep(IDLE_SECONDS)
        after = [measure.effort(daemon.process.pid).cpu_ms for daemon in daemons]
    finally:
        end_all(daemons)
    return {
        "PSS MiB": [sum(sizes.pss for sizes in memory)],
        "RSS MiB": [sum(sizes.rss for sizes in memory)],
        "PSS MiB each": [statistics.mean(sizes.pss for sizes in memory)],
        "s until half serve": [statistics.median(daemon.served_after for daemon in daemons)],
        "s until all serve": [max(daemon.served_after for daemon in daemons)],
        "CPU s of the starts": [sum(daemon.cpu_ms for daemon in daemons) / 1000],
        "idle CPU ms/min": [(sum(after) - sum(before)) * 60 / IDLE_SECONDS],
    }


def node_limited(run: Subject, sts: str, count: int, cores: float) -> dict[str, list[float]]:
    """
    Measure many daemons, each within this CPU limit.

    Raises MissingError if cgroups are not available.
    """
    with ExitStack() as stack:
        return node(run, sts, [stack.enter_context(cpu_limit(cores, number)) for number in range(count)])


def limited(run: Subject, sts: str, cores: float) -> dict[str, list[float]]:
    """Measure one daemon within this CPU limit several times: its start, and its responses after the start."""
    found: dict[str, list[float]] = {"s until credentials": [], "p50 ms": [], "p99 ms": [], "throttled periods": []}
    for _ in range(STARTS_UNDER_LIMIT):
        with cpu_limit(cores) as group:
            (daemon,) = start_all(run, sts, [group])
            try:
                found["s until credentials"].append(daemon.served_after)
                found["throttled periods"].append(_throttled(group))
                took = sorted(_latency_ms(daemon.port) for _ in range(200))
                found["p50 ms"].append(took[len(took) // 2])
                found["p99 ms"].append(took[len(took) * 99 // 100])
            finally:
                end_all([daemon])
    return found


def _latency_ms(port: int) -> float:
    """Return the milliseconds of one GET, after a pause that allows at most a hundred GETs per second."""
    time.sleep(0.01)
    began = time.perf_counter()
    if not subjects.has_credentials(port):
        raise RuntimeError("a daemon within its CPU limit returned no credentials")
    return (time.perf_counter() - began) * 1000


def end_all(daemons: Sequence[Started]) -> None:
    for daemon in daemons:
        daemon.process.terminate()
    for daemon in daemons:
        subjects.end(daemon.process)


@contextmanager
def cpu_limit(cores: float, number: int = 0) -> Iterator[Path]:
    """
    Create a cgroup with this limit, and remove it when it is empty.

    Raises MissingError if that is not possible.
    """
    is_first = (CGROUPS / "cpu" / "cpu.cfs_quota_us").exists()
    group = (CGROUPS / "cpu" if is_first else CGROUPS) / f"irsa-sidecar-{os.getpid()}-{number}"
    quota = int(cores * PERIOD_MICROSECONDS)
    try:
        group.mkdir()
        if is_first:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
    except OSError as exc:
        if group.exists():
            group.rmdir()
        raise MissingError(f"no cgroup with a CPU limit can be created here ({exc}): run this as root") from exc
    try:
        yield group
    finally:
        group.rmdir()


def _throttled(group: Path) -> float:
    """Return the number of periods in which the limit delayed the daemon."""
    fields = dict(line.split() for line in (group / "cpu.stat").read_text(encoding="ascii").splitlines())
    return float(fields["nr_throttled"])


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the cost of sidecars for a node.")
    parser.add_argument("--daemons", type=at_least(1), default=100, help="daemons on one node [100]")
    parser.add_argument(
        "--limits", type=at_least(0.01), nargs="*", default=[0.05, 0.1, 0.5], help="limits in CPU cores [0.05 0.1 0.5]"
    )
    add_python(parser, default=shutil.which("python3") or sys.executable)
    parser.add_argument("--json", metavar="FILE", help="file for all samples, as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="node-") as directory, subjects.stub_sts() as sts:
        inputs = Path(directory)
        subjects.write_inputs(inputs)
        run = subjects.run("run", os.path.realpath(args.python), inputs)
        print(f"{machine()}\n{run.what}")
        rows = {"no limit": node(run, sts.url, [None] * args.daemons)}
        alone: Samples = {}
        try:
            for cores in args.limits:
                rows[f"{cores:g} core each"] = node_limited(run, sts.url, args.daemons, cores)
                alone[f"{cores:g} core"] = limited(run, sts.url, cores)
        except MissingError as missing:
            print(f"left out, CPU limits: {missing}", flush=True)
        tables = [Table(f"{args.daemons} daemons that start at once", rows, {})]
        if alone:
            tables.append(Table("One daemon within a CPU limit", alone, {}))
        for table in tables:
            print(text(table), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps({table.title: table.samples for table in tables}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(measure.on_linux(main))
