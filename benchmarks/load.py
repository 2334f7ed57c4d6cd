"""
Send requests, each on a new connection as the SDKs do: as many as possible with wrk, or at a steady rate.

If wrk or a C compiler is missing, small clients in Python are used instead. They use more CPU than the server. So their
results are suitable for comparing subjects, but do not show the limit of the machine.
"""

import re
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.subjects import HOST, SECRET, Running, has_credentials

UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
"""Milliseconds in each unit of time that wrk prints."""


class Rush(NamedTuple):
    """
    The result of as many requests as possible.

    An error is a refused, reset or timed-out connection, or a status other than 200.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    responses: int


class Pace(NamedTuple):
    """The times of requests at a steady rate, each from connect to the end of the response."""

    p50_us: float
    p99_us: float
    p999_us: float
    errors: int
    responses: int


def wrk_command(wrk: str, server: Running, connections: int, seconds: int) -> list[str]:
    headers = ["-H", f"Authorization: {SECRET}", "-H", "Connection: close"]
    return [
        wrk,
        "-t2",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        *headers,
        f"http://{HOST}:{server.port}{server.path}",
    ]


def rush(wrk: str | None, server: Running, connections: int, seconds: int) -> Rush:
    """Keep this number of connections busy for this time, and return the result."""
    if wrk is None:
        return _rush_in_python(server, connections, seconds)
    command = wrk_command(wrk, server, connections, seconds)
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30)
    return read_wrk(done.stdout)


def read_wrk(report: str) -> Rush:
    """Read wrk's report. wrk's rate counts every response, so responses with a status other than 200 are subtracted."""
    responses = int(_found(r"(\d+) requests in", report))
    refused = int(_found(r"Non-2xx or 3xx responses: (\d+)", report, "0"))
    socket_errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", report)))
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", report))
    good = responses - refused
    return Rush(
        rate * good / responses if responses else 0.0,
        _milliseconds(_found(r"\n\s+50%\s+(\S+)", report)),
        _milliseconds(_found(r"\n\s+99%\s+(\S+)", report)),
        refused + socket_errors,
        good,
    )


def pace(client: Path | None, server: Running, rate: int, seconds: float) -> Pace:
    """Send `rate` requests per second for this time, one after the other on new connections. Return the result."""
    if client is None:
        return _pace_in_python(server, rate, seconds)
    command = [str(client), str(server.port), server.path, SECRET, str(rate), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds * 3 + 30)
    responses, errors, p50, p99, p999 = done.stdout.split()
    return Pace(float(p50), float(p99), float(p999), int(errors), int(responses))


def _rush_in_python(server: Running, connections: int, seconds: int) -> Rush:
    deadline = time.perf_counter() + seconds
    took: list[float] = []
    failures: list[float] = []

    def request_until_deadline() -> None:
        while (began := time.perf_counter()) < deadline:
            (took if has_credentials(server.port, server.path) else failures).append(time.perf_counter() - began)

    threads = [threading.Thread(target=request_until_deadline) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p50, p99, _ = _quantiles(took)
    return Rush(len(took) / seconds, p50 * 1e3, p99 * 1e3, len(failures), len(took))


def _pace_in_python(server: Running, rate: int, seconds: float) -> Pace:
    began = time.perf_counter()
    took: list[float] = []
    errors = 0
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        sent_at = time.perf_counter()
        if has_credentials(server.port, server.path):
            took.append(time.perf_counter() - sent_at)
        else:
            errors += 1
    p50, p99, p999 = _quantiles(took)
    return Pace(p50 * 1e6, p99 * 1e6, p999 * 1e6, errors, len(took))


def _quantiles(samples: list[float]) -> tuple[float, float, float]:
    """Return p50, p99 and p99.9."""
    if len(samples) < 2:
        alone = samples[0] if samples else 0.0
        return alone, alone, alone
    cuts = statistics.quantiles(samples, n=1000)
    return cuts[499], cuts[989], cuts[998]


def _found(pattern: str, report: str, default: str | None = None) -> str:
    match = re.search(pattern, report)
    if match is None:
        if default is None:
            raise ValueError(f"wrk's report has no {pattern!r}:\n{report}")
        return default
    return match[1]


def _milliseconds(text: str) -> float:
    number = text.rstrip("msu")
    return float(number) * UNITS_MS[text.removeprefix(number)]
