"""
Measure the time of a start and the resources of a process. /proc is read, because this disturbs the process least.

Sources: proc(5) for smaps_rollup, status and clear_refs; Linux's Documentation/scheduler/sched-stats for schedstat.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from benchmarks.builds import MissingError
from benchmarks.subjects import (
    Program,
    Running,
    Subject,
    end,
    free_port,
    spawn,
    wait_until_listening,
    wait_until_served,
)

PROC = "/proc/self/smaps_rollup"


def on_linux(main: Callable[[], int | None]) -> int | None:
    """
    Run `main` and return its exit status.

    Prints one line and exits if the system is not Linux, or if a subject is not available.
    """
    if not os.path.exists(PROC):
        sys.exit(f"{sys.argv[0]} reads Linux's /proc, which is not here: run it on Linux, or in a Linux container.")
    try:
        return main()
    except MissingError as missing:
        sys.exit(f"{sys.argv[0]}: {missing}")


class Start(NamedTuple):
    """
    Times of a start in milliseconds, from exec.

    They are the time until a port accepts connections, the time until credentials are available, and the processor time
    until then. Other work on the machine affects the processor time less.
    """

    listening_ms: float | None
    credentials_ms: float
    cpu_ms: float


class Memory(NamedTuple):
    """Memory in MiB, and the number of threads."""

    rss: float
    pss: float
    anonymous: float
    threads: int


class Effort(NamedTuple):
    """Resources that a process has used since its start."""

    cpu_ms: float
    switches: int


def start(subject: Subject, sts: str) -> Start:
    """Start a server, wait for its port and its first credentials, and stop it. Return the times."""
    port = free_port()
    began = time.perf_counter()
    process = spawn(subject, port=port, sts=sts)
    try:
        wait_until_listening(process, port)
        listening = time.perf_counter()
        wait_until_served(process, Running(process.pid, port, subject.path))
        served = time.perf_counter()
        cpu_ms = effort(process.pid).cpu_ms
    finally:
        end(process)
    return Start((listening - began) * 1000, (served - began) * 1000, cpu_ms)


def start_program(program: Program, sts: str) -> Start:
    """Start a program without a port, wait for the line that it prints, and stop it. Return the times."""
    began = time.perf_counter()
    process = spawn(program, port=0, sts=sts, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - began
        cpu_ms = effort(process.pid).cpu_ms if line else 0.0
    finally:
        end(process)
    if not line.startswith(b"ASIA"):
        raise RuntimeError(f"{program.name} got no credentials")
    return Start(None, took * 1000, cpu_ms)


def memory(pid: int) -> Memory:
    sizes = _fields(f"/proc/{pid}/smaps_rollup")
    status = _fields(f"/proc/{pid}/status")
    return Memory(sizes["Rss"] / 1024, sizes["Pss"] / 1024, status["RssAnon"] / 1024, status["Threads"])


def forget_peak(pid: int) -> None:
    """Reset the kernel's peak to the current memory, so that `peak_rss` does not include the start."""
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak_rss(pid: int) -> float:
    """Return the highest memory in MiB since the start or since `forget_peak`."""
    return _fields(f"/proc/{pid}/status")["VmHWM"] / 1024


def effort(pid: int) -> Effort:
    """Return the resources of all current threads together. Work of threads that have ended is not included."""
    cpu_ns = switches = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends during the read
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                cpu_ns += int(file.read().split()[0])
            status = _fields(f"/proc/{pid}/task/{thread}/status")
            switches += status["voluntary_ctxt_switches"] + status["nonvoluntary_ctxt_switches"]
    return Effort(cpu_ns / 1e6, switches)


def _fields(path: str) -> dict[str, int]:
    """Return the numbers in the `Name: number unit` lines of a file under /proc, by name."""
    fields = {}
    with open(path, encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            words = value.split()
            if words and words[0].isdigit():
                fields[name] = int(words[0])
    return fields
