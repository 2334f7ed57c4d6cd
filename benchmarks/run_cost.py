"""
Compare the cost of `irsa-sidecar run` with Go peers, the SDKs' own exchanges and the limit of the machine.

    python -m benchmarks.run_cost [--only start memory idle rush pace] [--python PATH]... [--many 1000000]
                                   [--json FILE] [--report DIRECTORY]

All subjects are measured in one run and in turn, so other work on the machine affects them equally. Compare figures in
one table, and not across machines. STS is a stub that responds at once on loopback. So starts include no DNS query and
no TCP or TLS handshake with the real STS.
"""

import argparse
import json
import os
import platform
import re
import shlex
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from benchmarks import builds, load, measure, subjects, tables
from benchmarks.arguments import at_least, interpreter
from benchmarks.subjects import Program, Running, Subject
from benchmarks.tables import Samples, Table

OURS, PEER, MOCK, LIMIT, NGINX = "run", "aws-vault", "ec2-metadata-mock", "C limit", "nginx"
BOTO3, GO_SDK = "boto3", "Go SDK"

WARM_UP_REQUESTS, WARM_UP_RATE = 2000, 400
MANY_A_SECOND = 2000
"""Rate in requests per second at which a server gets all `--many` requests. A slower server gets fewer."""

REFRESH_LIFE_SECONDS, REFRESH_SECONDS, REFRESH_RATE = 4, 20, 20
"""
Session length in seconds, duration in seconds, and requests per second of the measurement of memory during refreshes.

`run` refreshes sessions of this length at its highest rate, every 2 s. Some peers refresh only on a request, so all
subjects get requests at this rate.
"""

RUSH_CONNECTIONS, RUSH_SECONDS = (32, 256), 3
PACE_RATE, PACE_SECONDS = 200, 5

PORT = Running(0, 4772)
"""The default address of `run`, for the wrk command that the report shows."""

Asked = ParamSpec("Asked")
Made = TypeVar("Made")


class Bench(NamedTuple):
    """The subjects, the tools, and the number of repetitions."""

    servers: Sequence[Subject]
    programs: Sequence[Program]
    sts: str
    wrk: str | None
    pacer: Path | None
    starts: int
    rounds: int
    idle_seconds: float
    many: int
    left_out: Sequence[str]


def main() -> int:
    args = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # SIGTERM must also stop the started processes
    with tempfile.TemporaryDirectory(prefix="run-cost-") as directory, subjects.stub_sts() as sts:
        bench = _prepare(args, Path(directory), sts.url)
        _describe(bench)
        where = machine()
        found = {name: TABLES[name](bench) for name in args.only}
    if args.json:
        samples = {name: table.samples for name, table in found.items()}
        Path(args.json).write_text(json.dumps(samples, indent=1) + "\n", encoding="utf-8")
    if args.report:
        from benchmarks import report  # noqa: PLC0415  which needs matplotlib

        command = shlex.join(["python", "-m", "benchmarks.run_cost", *_repeatable(sys.argv[1:])])
        wrk = shlex.join(load.wrk_command("wrk", PORT, RUSH_CONNECTIONS[0], RUSH_SECONDS))
        clients = f"`{wrk}`" if bench.wrk else "threads in Python, which cost more than what they measure"
        before = report.last_values(Path(args.report))
        run = report.Run(command, where, clients, _whats(bench), bench.left_out, found, before)
        report.write(Path(args.report), run)
    return 0


def start(bench: Bench) -> Table:
    """Measure the time from exec to the first accepted connection and to the first credentials."""
    samples = _samples()
    for _ in range(bench.starts):
        for server in bench.servers:
            _note_start(samples[server.name], measure.start(server, bench.sts))
        for program in bench.programs:
            _note_start(samples[program.name], measure.start_program(program, bench.sts))
    return _shown(f"Start of the process, {bench.starts} times", samples, [PEER, BOTO3])


def memory(bench: Bench) -> Table:
    """Measure the MiB after a warm-up and after many requests, and the peak while sessions are refreshed."""
    samples = _samples()
    for server in bench.servers:
        columns = samples[server.name]
        with subjects.running(server, bench.sts) as process:
            load.pace(bench.pacer, process, WARM_UP_RATE, WARM_UP_REQUESTS / WARM_UP_RATE)
            warm = measure.memory(process.pid)
            responses = _send_many(bench, process)
            loaded = measure.memory(process.pid)
        columns["RSS"] = [warm.rss]
        columns["PSS"] = [warm.pss]
        columns["RssAnon"] = [warm.anonymous]
        columns["threads"] = [warm.threads]
        columns["RSS after many"] = [loaded.rss]
        columns["requests"] = [responses]
    _memory_while_refreshing(bench, samples)
    return _shown(f"Memory in MiB, after {WARM_UP_REQUESTS:,} requests", samples, [PEER])


def idle(bench: Bench) -> Table:
    """Measure the work of idle subjects, all at the same time."""
    samples = _samples()
    with _all_running(bench) as running:
        time.sleep(2)  # wait until the work after a start has ended
        before = {name: measure.effort(process.pid) for name, process in running.items()}
        time.sleep(bench.idle_seconds)
        for name, process in running.items():
            after, minutes = measure.effort(process.pid), bench.idle_seconds / 60
            samples[name]["CPU ms/min"] = [(after.cpu_ms - before[name].cpu_ms) / minutes]
            samples[name]["switches/min"] = [(after.switches - before[name].switches) / minutes]
    return _shown(f"Idle for {bench.idle_seconds:.0f} s", samples)


def rush(bench: Bench) -> Table:
    """Measure the highest rate of requests, each on a new connection."""
    samples = _samples()
    with _all_running(bench) as running:
        for _ in range(bench.rounds):
            for connections in RUSH_CONNECTIONS:
                for name, process in running.items():
                    result = load.rush(bench.wrk, process, connections, RUSH_SECONDS)
                    columns = samples[name]
                    columns[f"c={connections} req/s"].append(result.per_second)
                    columns[f"c={connections} p50 ms"].append(result.p50_ms)
                    columns[f"c={connections} p99 ms"].append(result.p99_ms)
                    columns[f"c={connections} errors"].append(result.errors)
    return _shown(f"New connections at full load, {bench.rounds} rounds of {RUSH_SECONDS} s", samples, [PEER, LIMIT])


def pace(bench: Bench) -> Table:
    """Measure the time of one request when the machine is not busy."""
    samples = _samples()
    with _all_running(bench) as running:
        for _ in range(bench.rounds):
            for name, process in running.items():
                result = load.pace(bench.pacer, process, PACE_RATE, PACE_SECONDS)
                samples[name]["p50 us"].append(result.p50_us)
                samples[name]["p99 us"].append(result.p99_us)
                samples[name]["p99.9 us"].append(result.p999_us)
                samples[name]["errors"].append(result.errors)
    title = f"{PACE_RATE} requests per second on new connections, {bench.rounds} rounds of {PACE_SECONDS} s"
    return _shown(title, samples, [PEER, LIMIT])


TABLES: dict[str, Callable[[Bench], Table]] = {
    "start": start,
    "memory": memory,
    "idle": idle,
    "rush": rush,
    "pace": pace,
}


@contextmanager
def _all_running(bench: Bench) -> Iterator[dict[str, Running]]:
    """Run every server together, by name, so that rounds can alternate between them."""
    with ExitStack() as stack:
        yield {server.name: stack.enter_context(subjects.running(server, bench.sts)) for server in bench.servers}


def _note_start(columns: dict[str, list[float]], took: measure.Start) -> None:
    if took.listening_ms is not None:
        columns["listening ms"].append(took.listening_ms)
    columns["credentials ms"].append(took.credentials_ms)
    columns["CPU ms"].append(took.cpu_ms)


def _send_many(bench: Bench, server: Running) -> int:
    """Send `--many` requests, or fewer to a slow server. Return the number of successful responses."""
    responses, deadline = 0, time.monotonic() + bench.many / MANY_A_SECOND
    while responses < bench.many and time.monotonic() < deadline:
        responses += load.rush(bench.wrk, server, RUSH_CONNECTIONS[0], 2).responses
    return responses


def _memory_while_refreshing(bench: Bench, samples: Samples) -> None:
    """Measure all servers together, each with its own STS whose sessions last only a few seconds."""

    def refresh(server: Subject) -> None:
        with subjects.stub_sts(REFRESH_LIFE_SECONDS) as sts, subjects.running(server, sts.url) as process:
            measure.forget_peak(process.pid)
            load.pace(bench.pacer, process, REFRESH_RATE, REFRESH_SECONDS)
            samples[server.name]["peak refreshing"] = [measure.peak_rss(process.pid)]
            samples[server.name]["refreshes"] = [sts.returned()]

    with ThreadPoolExecutor(len(bench.servers)) as pool:
        list(pool.map(refresh, bench.servers))


def _samples() -> Samples:
    return defaultdict(lambda: defaultdict(list))


def _shown(title: str, samples: Samples, kinds: Sequence[str] = ()) -> Table:
    """
    Print the table with the ratios of each `run` to the subjects of these kinds, and return it.

    A subject on an interpreter is compared with `run` on the same interpreter.
    """
    beside: dict[str, list[str]] = {}
    for ours in (name for name in samples if name.startswith(OURS)):
        version = ours.removeprefix(OURS)
        beside[ours] = [kind + suffix for kind in kinds for suffix in {"", version} if kind + suffix in samples]
    table = Table(title, samples, beside)
    print(tables.text(table), flush=True)
    return table


def _prepare(args: argparse.Namespace, inputs: Path, sts: str) -> Bench:
    """Build each available subject, and print one line for each missing one."""
    subjects.write_inputs(inputs)
    pythons = args.python or [os.path.realpath(sys.executable)]
    labels = _labels(pythons)
    left_out: list[str] = []
    servers: list[Subject | None] = [
        _unless_missing(left_out, subjects.run, OURS + label, python, inputs)
        for label, python in zip(labels, pythons, strict=True)
    ]
    if not any(servers):
        raise builds.MissingError("there is no `run` to measure")
    programs: list[Program | None] = [
        _unless_missing(left_out, subjects.boto3, BOTO3 + label, python, inputs)
        for label, python in zip(labels, pythons, strict=True)
        if "start" in args.only
    ]
    if "start" in args.only:
        programs.append(_unless_missing(left_out, subjects.go_sdk, GO_SDK, inputs))
    servers += [
        _unless_missing(left_out, _serving, PEER, sts, subjects.aws_vault, inputs),
        _unless_missing(left_out, _serving, MOCK, sts, subjects.metadata_mock),
        _unless_missing(left_out, _serving, LIMIT, sts, subjects.limit),
        _unless_missing(left_out, _serving, NGINX, sts, subjects.nginx, inputs),
    ]
    return Bench(
        servers=[server for server in servers if server],
        programs=[program for program in programs if program],
        sts=sts,
        wrk=_unless_missing(left_out, builds.tool, "wrk"),
        pacer=_unless_missing(left_out, builds.c_program, "paced"),
        starts=args.starts,
        rounds=args.rounds,
        idle_seconds=args.idle_seconds,
        many=args.many,
        left_out=left_out,
    )


def _serving(name: str, sts: str, make: Callable[..., Subject], *inputs: Path) -> Subject:
    """
    Return the subject after a test that it serves credentials.

    Raises MissingError if the subject cannot be built, or does not serve on this machine.
    """
    subject = make(name, *inputs)
    subjects.try_out(subject, sts)
    return subject


def _labels(pythons: Sequence[str]) -> list[str]:
    """Return a label for each interpreter: its version, and also its path if versions are equal."""
    if len(pythons) == 1:
        return [""]
    versions = [subjects.version(python) for python in pythons]
    is_clear = len(set(versions)) == len(versions)
    return [f" {version}" if is_clear else f" {python}" for version, python in zip(versions, pythons, strict=True)]


def _unless_missing(
    left_out: list[str], make: Callable[Asked, Made], *args: Asked.args, **kwargs: Asked.kwargs
) -> Made | None:
    """Return the subject that `make` creates, or print its name and the reason and return None."""
    try:
        return make(*args, **kwargs)
    except builds.MissingError as missing:
        left_out.append(f"{args[0]}: {missing}")
        print(f"left out, {left_out[-1]}", flush=True)
        return None


def machine() -> str:
    """Return one line about the machine and its other load."""
    cpu_info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    cpu = re.search(r"^model name\s*:\s*(.*)$", cpu_info, flags=re.MULTILINE)
    busy = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    return f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}, Linux {platform.release()}, load {busy}"


def _whats(bench: Bench) -> dict[str, str]:
    whats = {server.name: server.what for server in bench.servers}
    return whats | {program.name: program.what for program in bench.programs}


def _describe(bench: Bench) -> None:
    print(machine())
    for name, what in _whats(bench).items():
        print(f"  {name}: {what}")
    clients = f"{'wrk' if bench.wrk else 'Python threads'}, paced by {'C' if bench.pacer else 'Python'}"
    print(f"  requests by {clients}; `C limit`, if available, shows how fast these clients can be served", flush=True)


def _repeatable(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without --json and its path, which is different on other machines."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--json")
    return parser.parse_known_args(arguments)[1]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the cost of `irsa-sidecar run` and of its peers.")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=TABLES,
        default=list(TABLES),
        metavar="TABLE",
        help=f"tables to measure, of {', '.join(TABLES)}",
    )
    parser.add_argument(
        "--python", action="append", type=interpreter, metavar="PATH", help="an interpreter to run on; may be repeated"
    )
    parser.add_argument("--starts", type=at_least(1), default=15, help="starts of each subject [15]")
    parser.add_argument("--rounds", type=at_least(1), default=3, help="rounds of requests [3]")
    parser.add_argument(
        "--idle-seconds", type=at_least(1.0), default=60, help="duration of the idle measurement in seconds [60]"
    )
    parser.add_argument(
        "--many", type=at_least(0), default=1_000_000, help="requests between two measurements of memory [1000000]"
    )
    parser.add_argument("--json", metavar="FILE", help="file for all samples, as JSON")
    parser.add_argument(
        "--report", metavar="DIRECTORY", help="directory for benchmarks.md and plots (needs matplotlib)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(measure.on_linux(main))
