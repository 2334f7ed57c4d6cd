"""
Accept connections as fast as they come.

trio.serve_listeners accepts one in each turn of the event loop. While others keep the loop busy, the kernel's queue is
then full for as long as one client opens connections, and it drops most of what honest clients send to open theirs.
"""

import errno
import socket
from collections.abc import Iterator

import trio

MAX_AT_ONCE = 64
"""Then every other task has its turn."""

PAUSE_SECONDS = 0.1
"""After an error, such as when there is no file descriptor left."""

_OF_THE_CONNECTION = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})
"""What accept says of a connection that ended in the queue, or that the firewall rejected (accept(2))."""


async def accepted(listener: socket.socket) -> list[trio.SocketStream]:
    """Wait for connections, and return all that are there. The listener does not block."""
    while True:
        await trio.lowlevel.wait_readable(listener)
        if found := list(_all_there(listener)):
            return found
        await trio.sleep(PAUSE_SECONDS)


def _all_there(listener: socket.socket) -> Iterator[trio.SocketStream]:
    for _ in range(MAX_AT_ONCE):
        try:
            connection, _ = listener.accept()
        except OSError as exc:
            if exc.errno in _OF_THE_CONNECTION:
                continue
            return  # nothing is there any more, or it cannot be accepted now
        yield trio.SocketStream(trio.socket.from_stdlib_socket(connection))
