"""
Limit the time and the resources that clients of one listener of `run` take. docs/reliability.md gives the reasons.

http_server.py has the limits of the webhook and the local services.
"""

import resource
from typing import NamedTuple


class Limits(NamedTuple):
    """The limits for one client, and for all clients together."""

    defer_seconds: int = 1
    """Time for which the kernel holds a connection without a request, or 0."""
    head_seconds: float = 4.0
    """Deadline from accept to the complete head. A client that misses it gets a 408, within 5 s after its connect."""
    write_seconds: float = 5.0
    """Deadline for a client to read its response, which normally fits into the socket's buffer at once."""
    linger_seconds: float = 1.0
    linger_bytes: int = 64 * 1024
    """Limits of time and bytes for input that the server reads and discards after a rejection; see `_linger`."""
    hold_seconds: float = 0.8
    """
    Deadline for the event that a held request waits for, such as the first credentials or a check of the secret's file.
    Most SDKs give up after 1 s, and Java retries without a pause.
    """
    stop_seconds: float = 3.0
    """Deadline for the last responses when the server stops."""
    connections: int = 256
    """
    Maximum number of slow, held or lingering connections. Clients that get their response in the accept loop do not
    count.

    Each connection takes a task and up to 32 KiB of receive buffer. With 256 the process stays below 48 MiB, and the
    manifests' memory limit is 64 MiB (`python -m benchmarks.socket_memory`).
    """
    accepts_per_pass: int = 64
    """Number of accepts after which other tasks run."""


def connection_limit(most: int = Limits().connections) -> int:
    """Return the maximum number of connections: `most`, or half of the limit on open files if that is lower."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, soft // 2)
