"""
Accept connections as fast as they arrive.

trio.serve_listeners accepts one connection in each turn of the event loop. While other tasks keep the loop busy, one
client can fill the kernel's queue with its connections. The kernel then drops most connections of honest clients.
"""

import errno
import socket
from collections.abc import Iterator

import trio

MAX_AT_ONCE = 64
"""Maximum number of connections to accept before other tasks run."""

PAUSE_SECONDS = 0.1
"""Pause after an error, for example when no file descriptor is left."""

_CONNECTION_ERRORS = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})
"""Errors of accept(2) for a connection that was closed in the queue, or that the firewall rejected."""


async def accepted(listener: socket.socket) -> list[socket.socket]:
    """Wait for connections, and return up to MAX_AT_ONCE of them. All sockets, also the listener, are non-blocking."""
    while True:
        await trio.lowlevel.wait_readable(listener)
        if found := list(_waiting_connections(listener)):
            return found
        await trio.sleep(PAUSE_SECONDS)


def _waiting_connections(listener: socket.socket) -> Iterator[socket.socket]:
    for _ in range(MAX_AT_ONCE):
        try:
            connection, _ = listener.accept()
        except OSError as exc:
            if exc.errno in _CONNECTION_ERRORS:
                continue
            return  # the queue is empty, or this process cannot accept a connection now
        connection.settimeout(0)
        yield connection
