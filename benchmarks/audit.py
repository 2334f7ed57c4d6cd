"""
Measure the time and the memory of `irsa-sidecar audit` for a large cluster: `python -m benchmarks.audit`.

The cluster and the account are fakes on this machine (audit_fakes.py), with a latency for each call. The result is the
time from the start to the exit of the command, and the peak of its resident memory, which the kernel counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.arguments import at_least

MAX_SECONDS, MAX_MIB = 60.0, 300.0
"""Limits for 1,000 ServiceAccounts, 10,000 Pods and 500 roles, with 20 ms for each call."""

_OUTPUTS = ("json", "html", "sarif")


class Cost(NamedTuple):
    """The time and the peak of memory of one audit, and its exit status."""

    seconds: float
    mib: float
    status: int


def main() -> int:
    """Print the cost of one audit. Return 1 if the cost exceeds a limit, or if the audit was incomplete."""
    parser = argparse.ArgumentParser(description="measure `irsa-sidecar audit` for a large cluster")
    parser.add_argument("--accounts", type=at_least(1), default=1_000, help="ServiceAccounts [1000]")
    parser.add_argument("--pods", type=at_least(1), default=10_000, help="Pods [10000]")
    parser.add_argument("--roles", type=at_least(1), default=500, help="roles that trust the cluster [500]")
    parser.add_argument("--latency", type=at_least(0.0), default=0.02, help="seconds of each call [0.02]")
    args = parser.parse_args()
    flags = [f"--{name}={value}" for name, value in vars(args).items()]
    with tempfile.TemporaryDirectory() as folder, fakes(flags) as url:
        cost = audit(Path(folder), url)
        totals = json.loads((Path(folder) / "json").read_text())
    print(f"{args.accounts:,} ServiceAccounts, {args.pods:,} Pods, {args.roles:,} roles, {args.latency * 1000:g} ms")
    print(f"{cost.seconds:.1f} s, {cost.mib:.0f} MiB, {len(totals['findings']):,} findings")
    unread = [each["problem"] for each in totals["findings"] if each["rule"] == "incomplete.unread"]
    if unread or cost.status != 0:
        print(f"the audit was incomplete: {unread}", file=sys.stderr)
        return 1
    return 0 if cost.seconds <= MAX_SECONDS and cost.mib <= MAX_MIB else 1


@contextmanager
def fakes(flags: list[str]) -> Iterator[str]:
    """Run the fakes in a process of their own, and yield their URL."""
    command = [sys.executable, "-m", "benchmarks.audit_fakes", *flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.stdin.close()


def audit(folder: Path, url: str) -> Cost:
    """Run the command with every large output, and return its cost."""
    (folder / "kubeconfig").write_text(json.dumps(_kubeconfig(url)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KUBE"))} | {
        "AWS_ACCESS_KEY_ID": "AKIAFAKE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "eu-west-1",
        "KUBECONFIG": str(folder / "kubeconfig"),
    }
    outputs = [f"--output={name}={folder / name}" for name in _OUTPUTS]
    command = [sys.executable, "-m", "sidecar", "audit", "--cluster=large", "--fail-on=never", *outputs]
    started_at = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(time.perf_counter() - started_at, usage.ru_maxrss / 1024, process.returncode)


def _kubeconfig(url: str) -> dict[str, object]:
    return {
        "clusters": [{"name": "large", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": "fake"}}],
        "contexts": [{"name": "large", "context": {"cluster": "large", "user": "me"}}],
        "current-context": "large",
    }


if __name__ == "__main__":
    raise SystemExit(main())
