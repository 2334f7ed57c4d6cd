"""
Measure the growth of one daemon's cost with its roles and connections, and check whether the growth is linear.

    python -m benchmarks.growth [--roles 1 5 20 50] [--connections 0 64 128 256] [--python PATH] [--plots DIRECTORY]

The slope is a least-squares fit, and `fit` is the square of the correlation: 1 is a straight line. Idle costs are
measured while all daemons idle at the same time. The refresh cost is measured with sessions that last only seconds.
"""

import argparse
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import measure, plot_growth, subjects
from benchmarks.arguments import add_python, at_least
from benchmarks.run_cost import machine
from benchmarks.subjects import HOST, PATH, ROLE_ARN, Running, Stub, Subject
from benchmarks.tables import Samples, Table, text
from sidecar.config.roles_file import MAX_ROLES
from sidecar.serving.limits import Limits

IDLE_SECONDS = 60.0
SHORT_SESSION_SECONDS, REFRESH_SECONDS = 4.0, 20.0
OPEN_SECONDS = 1.0
"""Time in which the daemon accepts all connections. It closes connections with an incomplete request after 4 s."""


def with_roles(run: Subject, inputs: Path, count: int) -> Subject:
    """
    Return a daemon with this number of roles from a file. All roles use one token.

    The first role has the same URL path as a single role.
    """
    names = ["default", *(f"role-{number}" for number in range(1, count))]
    path = inputs / f"{count}-roles.yaml"
    items = (f"  - name: {name}\n    role_arn: {ROLE_ARN}-{name}\n" for name in names)
    path.write_text("roles:\n" + "".join(items), encoding="utf-8")
    environ = {name: value for name, value in run.environ.items() if name != "AWS_ROLE_ARN"}
    return run._replace(environ=environ | {"IRSA_SIDECAR_CONFIG": str(path)})


@contextmanager
def serving(subject: Subject, sts: Stub, roles: int) -> Iterator[Running]:
    """Yield the daemon after each role has served credentials."""
    with subjects.running(subject, sts.url) as daemon:
        for number in range(1, roles):
            while not subjects.has_credentials(daemon.port, f"{PATH}/role-{number}"):
                time.sleep(0.05)
        yield daemon


def by_roles(run: Subject, inputs: Path, counts: Sequence[int]) -> Samples:
    """Measure memory and CPU for each number of roles."""
    samples: Samples = {}
    with ExitStack() as stack:
        sts = stack.enter_context(subjects.stub_sts())
        daemons = {count: stack.enter_context(serving(with_roles(run, inputs, count), sts, count)) for count in counts}
        time.sleep(3)  # wait until the work after a start has ended
        before = {count: measure.effort(daemon.pid) for count, daemon in daemons.items()}
        time.sleep(IDLE_SECONDS)
        for count, daemon in daemons.items():
            effort, memory = measure.effort(daemon.pid), measure.memory(daemon.pid)
            samples[str(count)] = {
                "RSS MiB": [memory.rss],
                "RssAnon KiB": [memory.anonymous * 1024],
                "idle CPU ms/min": [(effort.cpu_ms - before[count].cpu_ms) * 60 / IDLE_SECONDS],
                "switches/min": [(effort.switches - before[count].switches) * 60 / IDLE_SECONDS],
            }
    for count in counts:
        samples[str(count)]["CPU ms a refresh"] = [_refresh_cpu_ms(with_roles(run, inputs, count), count)]
    return samples


def _refresh_cpu_ms(subject: Subject, roles: int) -> float:
    with subjects.stub_sts(SHORT_SESSION_SECONDS) as sts, serving(subject, sts, roles) as daemon:
        before, returned = measure.effort(daemon.pid), sts.returned()
        time.sleep(REFRESH_SECONDS)
        return (measure.effort(daemon.pid).cpu_ms - before.cpu_ms) / (sts.returned() - returned)


def by_connections(run: Subject, counts: Sequence[int]) -> Samples:
    """
    Measure memory for each number of connections, with a new daemon for each number.

    Each connection has sent half a request.
    """
    samples: Samples = {}
    for count in counts:
        with subjects.stub_sts() as sts, subjects.running(run, sts.url) as daemon, ExitStack() as stack:
            for _ in range(count):
                connection = stack.enter_context(socket.create_connection((HOST, daemon.port)))
                connection.sendall(f"GET {PATH} HTTP/1.1\r\n".encode())
            time.sleep(OPEN_SECONDS)
            memory = measure.memory(daemon.pid)
            samples[str(count)] = {"RSS MiB": [memory.rss], "RssAnon KiB": [memory.anonymous * 1024]}
    return samples


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how the cost of one daemon grows.")
    parser.add_argument("--roles", type=at_least(1, MAX_ROLES), nargs="+", default=[1, 5, 20, 50], help="[1 5 20 50]")
    parser.add_argument(
        "--connections",
        type=at_least(0, Limits().connections),
        nargs="+",
        default=[0, 64, 128, 256],
        help="[0 64 128 256]",
    )
    add_python(parser, default=shutil.which("python3") or sys.executable)
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="directory for growth.svg (needs matplotlib)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="growth-") as directory:
        inputs = Path(directory)
        subjects.write_inputs(inputs)
        run = subjects.run("run", os.path.realpath(args.python), inputs)
        print(f"{machine()}\n{run.what}", flush=True)
        roles = by_roles(run, inputs, args.roles)
        print(text(Table("By roles", roles, {})), flush=True)
        connections = by_connections(run, args.connections)
        print(text(Table("By open connections", connections, {})))
    for samples, column, one in (
        (roles, "RssAnon KiB", "role"),
        (roles, "idle CPU ms/min", "role"),
        (connections, "RssAnon KiB", "connection"),
    ):
        line = plot_growth.slope(samples, column)
        print(f"  {column}: {line.none:.1f} and {line.each:.2f} a {one}, fit {line.fit:.3f}")
    if args.plots:
        plot_growth.write(roles, connections, args.plots)
    return 0


if __name__ == "__main__":
    sys.exit(measure.on_linux(main))
