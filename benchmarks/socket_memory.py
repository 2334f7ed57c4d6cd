"""
Measure the memory that one client can charge to the sidecar's cgroup, for the process and its sockets together.

    python -m benchmarks.socket_memory [--connections 1500] [--kilobytes 1024] [--seconds 5]

The client opens connections to the credentials endpoint. On each connection it sends an unfinished request head, and
then more bytes while the kernel accepts them. The script needs root and the memory controller of cgroup v1 or v2.
Version 1 counts TCP buffers separately. Version 2 counts all memory against `memory.max`, and shows buffers as `sock`
in memory.stat (kernel documentation, admin-guide/cgroup-v1/memory.rst and admin-guide/cgroup-v2.rst).
"""

import argparse
import os
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks import measure, subjects
from benchmarks.arguments import at_least
from benchmarks.builds import MissingError
from benchmarks.subjects import HOST

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
PIECE = b"GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Padding: " + b"a" * 60_000
MIB = 1024.0 * 1024.0


class Charge(NamedTuple):
    """The resident memory of the process and the memory of the cgroup's sockets at one moment, in MiB."""

    process: float
    sockets: float

    @property
    def total(self) -> float:
        return self.process + self.sockets


class MemoryGroup:
    """A memory cgroup at `path`. `is_v1` selects its files."""

    def __init__(self, path: Path, *, is_v1: bool) -> None:
        self._path = path
        self._is_v1 = is_v1

    def add(self, pid: int) -> None:
        (self._path / "cgroup.procs").write_text(str(pid))

    def socket_bytes(self) -> int:
        if self._is_v1:
            return int((self._path / "memory.kmem.tcp.usage_in_bytes").read_text())
        fields = dict(line.split() for line in (self._path / "memory.stat").read_text().splitlines())
        return int(fields["sock"])


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """
    Create a memory cgroup, and remove it at the end.

    Raises MissingError if that is not possible.
    """
    is_v1 = V1.is_dir()
    path = (V1 if is_v1 else V2) / f"irsa-sidecar-benchmark-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as exc:
        raise MissingError(f"{path} cannot be created ({exc.strerror}): run this as root") from exc
    try:
        if is_v1:
            # The kernel counts the memory of TCP buffers only if there is a limit.
            (path / "memory.kmem.tcp.limit_in_bytes").write_text(str(1 << 40))
        elif "memory" not in (path / "cgroup.controllers").read_text().split():
            raise MissingError(f"{path} has no memory controller")
        yield MemoryGroup(path, is_v1=is_v1)
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    """Remove the cgroup. The kernel allows the removal a moment after the last process has exited."""
    for _ in range(50):
        with suppress(OSError):
            path.rmdir()
            return
        time.sleep(0.1)


class Pusher:
    """Connections that send as many bytes as the kernel accepts, up to `most` each."""

    def __init__(self, port: int, connections: int, most: int) -> None:
        self._address = (HOST, port)
        self._connections = connections
        self._most = most
        self._sent: dict[socket.socket, int] = {}

    def push(self) -> None:
        """Do one round: replace closed connections, and write once to each."""
        while len(self._sent) < self._connections:
            self._open()
        for sock, sent in list(self._sent.items()):
            if sent < self._most:
                self._write(sock)

    def close(self) -> None:
        while self._sent:
            self._sent.popitem()[0].close()

    def _open(self) -> None:
        sock = socket.create_connection(self._address, timeout=5)
        sock.setblocking(False)  # noqa: FBT003  the method has no keyword
        self._sent[sock] = 0

    def _write(self, sock: socket.socket) -> None:
        try:
            self._sent[sock] += sock.send(PIECE)
        except BlockingIOError:
            pass
        except OSError:
            del self._sent[sock]
            sock.close()


def attack(daemon: subjects.Running, group: MemoryGroup, pusher: Pusher, seconds: float) -> list[Charge]:
    """Attack the daemon for this time, and return the charge after each round."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        pusher.push()
        found.append(Charge(measure.memory(daemon.pid).rss, group.socket_bytes() / MIB))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--connections", type=at_least(1, 20_000), default=1500, help="connections that the client keeps open"
    )
    parser.add_argument("--kilobytes", type=at_least(1, 65_536), default=1024, help="kilobytes sent on each connection")
    parser.add_argument("--seconds", type=at_least(1.0, 60.0), default=5.0, help="duration of the attack")
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory, memory_group() as group, subjects.stub_sts() as sts:
        inputs = Path(directory)
        subjects.write_inputs(inputs)
        with subjects.running(subjects.from_tree("run", inputs), sts.url) as daemon:
            group.add(daemon.pid)
            pusher = Pusher(daemon.port, args.connections, args.kilobytes * 1024)
            try:
                charges = attack(daemon, group, pusher, args.seconds)
            finally:
                pusher.close()
    worst = max(charges, key=lambda charge: charge.total)
    print(
        f"at the worst moment of {len(charges)}: process {worst.process:.1f} MiB + sockets {worst.sockets:.1f} MiB = "
        f"{worst.total:.1f} MiB; highest socket memory {max(charge.sockets for charge in charges):.1f} MiB"
    )


if __name__ == "__main__":
    sys.exit(measure.on_linux(main))
