"""
Accept connections with few steps, and with few wake-ups.

Rule: the credentials server (server.py) works the same without these optimizations, as on macOS. Measured with 32
clients on new connections, CPU time per request: 38.5 µs without them, 29.6 µs with `defer_accept`, and 26.7 µs with
`acceptor` too. docs/decisions/0005-answer-in-the-accept-loop.md shows how to measure this again.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

_DEFER_ACCEPT = getattr(socket, "TCP_DEFER_ACCEPT", None)
"""The option's number, or None on systems other than Linux."""


class Connection(socket.SocketType):
    """
    An accepted socket, without the Python class that the standard library adds.

    It is created without a conversion of address family and type to enums, which takes a third of an accept's time.
    """

    __slots__ = ("__weakref__",)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Accept = Callable[[], tuple[Connection, Any]]
"""The type of a function that returns the next connection of a listener, and the client's address."""


def acceptor(listener: socket.socket) -> Accept:
    """
    Return the function that accepts on this non-blocking listener.

    That function raises OSError as socket.accept does.
    """
    family, kind, protocol = int(listener.family), int(listener.type), listener.proto
    accept = listener._accept  # type: ignore[attr-defined]  # noqa: SLF001  socket.accept itself calls this method

    def accept_one() -> tuple[Connection, Any]:
        descriptor, address = accept()
        return Connection(family, kind, protocol, descriptor), address

    return accept_one


def defer_accept(listener: socket.socket, seconds: int) -> None:
    """
    Let the kernel hold each connection until its first bytes arrive, for about this time (tcp(7)).

    The kernel counts the time in retransmissions of the handshake. Systems other than Linux lack this option.
    """
    if _DEFER_ACCEPT is not None:
        with suppress(OSError):  # a sandbox without this option
            listener.setsockopt(socket.IPPROTO_TCP, _DEFER_ACCEPT, seconds)
