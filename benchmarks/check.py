"""
Check the cost of `run` against limits: counted events, and ratios to other subjects in the same run.

    python -m benchmarks.check

Rule: no limit is an absolute speed, because speed depends on the machine and its other guests. If the tool for a limit
is missing (strace, valgrind, a C compiler, Go), that limit is skipped and reported. The exit status is 1 if a limit is
exceeded.
"""

import argparse
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import builds, imports, load, measure, subjects
from benchmarks.builds import MissingError
from benchmarks.subjects import Running, Subject

ROUNDS, SECONDS, CONNECTIONS = 5, 1, 32
STARTS = 5
REQUESTS = 500

INSTRUCTIONS = 0.74
"""The limit for instructions of a start and a stop, relative to those of boto3's start. The ratio was 0.69."""

VALGRIND_SECONDS = 120.0
"""Longest time until a daemon under valgrind, which is 50 times slower, has credentials."""


class Limit(NamedTuple):
    """A measured value and its limit."""

    words: str
    found: float
    limit: float
    at_most: bool = True

    @property
    def holds(self) -> bool:
        return self.found <= self.limit if self.at_most else self.found >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{'holds' if self.holds else 'BROKEN'}: {self.words}: {self.found:.2f} ({sign} {self.limit:g})"


def imported() -> Iterator[Limit]:
    """Measure the modules and the memory of imports in new interpreters."""
    trio = imports.measure("import trio", ROUNDS)
    ours = imports.measure(imports.RUN + imports.CLIENT, ROUNDS)
    # Six of the modules are packages, whose files hold only a docstring. The memory below is the cost for a Pod.
    # authorities.py is a module of its own, because the webhook uses it without httpx.
    yield Limit("modules that run imports besides trio's", ours.modules - trio.modules, 125)
    yield Limit("anonymous MiB of run besides trio", ours.anonymous_mib - trio.anonymous_mib, 3.5)
    yield Limit("resident MiB of run besides trio", ours.resident_mib - trio.resident_mib, 5)


def system_calls(run: Subject, sts: str) -> Iterator[Limit]:
    """
    Count the system calls of one request with strace.

    Raises MissingError if strace is missing or cannot attach to the process.
    """
    strace = builds.tool("strace")
    with subjects.running(run, sts) as server, tempfile.NamedTemporaryFile() as report:
        command = [strace, "-c", "-f", "-p", str(server.pid), "-o", report.name]
        tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        output = tracer.stderr.readline().strip()
        if "attached" not in output:
            tracer.wait()
            raise MissingError(f"strace: {output}")
        for _ in range(REQUESTS):
            subjects.get(server.port, server.path)
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
        lines = Path(report.name).read_text(encoding="ascii").splitlines()
    total = next(line.split() for line in lines if line.endswith(" total"))
    # Single requests are the most expensive, because each one wakes the loop. A request needs 5 calls for the
    # connection, and 3 calls before the next request.
    yield Limit("system calls of a request", int(total[3]) / REQUESTS, 9)


def starts(run: Subject, boto3: subjects.Program, sts: str) -> Iterator[Limit]:
    """Compare the processor time until the first credentials with boto3's. The rounds of both alternate."""
    ours, theirs = [], []
    for _ in range(STARTS):
        ours.append(measure.start(run, sts).cpu_ms)
        theirs.append(measure.start_program(boto3, sts).cpu_ms)
    yield Limit("CPU until credentials, relative to boto3", statistics.median(ours) / statistics.median(theirs), 0.9)


def instructions(run: Subject, boto3: subjects.Program, sts: str) -> Iterator[Limit]:
    """
    Compare the instructions from exec to the first credentials with boto3's. Other work on the machine has no effect.

    The instructions of the daemon include those of its stop.

    Raises MissingError if valgrind is missing.
    """
    counts = [_instructions(subject, sts) for subject in (run, boto3)]
    yield Limit("instructions until credentials, relative to boto3", counts[0] / counts[1], INSTRUCTIONS)


def _instructions(subject: Subject | subjects.Program, sts: str) -> int:
    with tempfile.NamedTemporaryFile() as log:
        counter = (builds.tool("valgrind"), "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
        command = (*counter, f"--log-file={log.name}", *subject.command)
        environ = {**subject.environ, "PYTHONHASHSEED": "0"}
        port = subjects.free_port()
        process = subjects.spawn(
            subject._replace(command=command, environ=environ), port=port, sts=sts, stdout=subprocess.PIPE
        )
        try:
            if isinstance(subject, Subject):
                deadline = time.monotonic() + VALGRIND_SECONDS
                while not subjects.has_credentials(port) and time.monotonic() < deadline:
                    time.sleep(0.1)
            else:
                assert process.stdout is not None
                process.stdout.readline()
        finally:
            subjects.end(process)
        found = re.search(r"I +refs: +([\d,]+)", Path(log.name).read_text(encoding="ascii"))
    if found is None:
        raise MissingError("valgrind: it counted no instructions")
    return int(found[1].replace(",", ""))


def rush(run: Subject, others: Sequence[tuple[Subject, float]], sts: str) -> Iterator[Limit]:
    """
    Compare the rate of requests on new connections with that of each other subject. The rounds of both alternate.

    Raises MissingError if a subject is missing.
    """
    wrk = builds.tool("wrk")
    for other, least in others:
        with subjects.running(run, sts) as ours, subjects.running(other, sts) as theirs:
            ratios = [_rate(wrk, ours) / _rate(wrk, theirs) for _ in range(ROUNDS)]
        yield Limit(f"new connections, relative to {other.name}", statistics.median(ratios), least, at_most=False)


def _rate(wrk: str, server: Running) -> float:
    return load.rush(wrk, server, CONNECTIONS, SECONDS).per_second


def main() -> int:
    argparse.ArgumentParser(description="Check the cost of `irsa-sidecar run` against limits.").parse_args()
    began = time.monotonic()
    limits: list[Limit] = []
    with tempfile.TemporaryDirectory(prefix="check-") as directory, subjects.stub_sts() as sts:
        inputs = Path(directory)
        subjects.write_inputs(inputs)
        run = subjects.from_tree("run", inputs)
        checks: list[Callable[[], Iterator[Limit]]] = [
            imported,
            lambda: starts(run, subjects.boto3_here("boto3", inputs), sts.url),
            lambda: instructions(run, subjects.boto3_here("boto3", inputs), sts.url),
            lambda: system_calls(run, sts.url),
            # The daemon reaches 0.7 of the C server's rate on a quiet machine and 0.3 on a busy one, because it uses
            # several cores and the C server uses one thread.
            lambda: rush(run, [(subjects.limit("C limit"), 0.2)], sts.url),
            lambda: rush(run, [(subjects.aws_vault("aws-vault", inputs), 0.7)], sts.url),
        ]
        for check in checks:
            try:
                for limit in check():
                    limits.append(limit)
                    print(limit, flush=True)
            except MissingError as missing:
                print(f"left out: {missing}", flush=True)
    print(f"{len(limits)} limits in {time.monotonic() - began:.0f} s")
    return 0 if all(limit.holds for limit in limits) else 1


if __name__ == "__main__":
    sys.exit(measure.on_linux(main))
