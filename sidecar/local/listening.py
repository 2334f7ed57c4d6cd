"""
Bind the ports of the local services.

Rule: a port that is not available stops the start, with a message that names the setting.
"""

import socket

import trio

from sidecar.addresses import format_address
from sidecar.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
LOOPBACK_OF = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104  (compared with, not bound)
"""The loopback address that clients use, for each wildcard address to listen on."""


async def listen(setting: str, host: str, port: int) -> socket.socket:
    """
    Return a listener as a non-blocking socket of the standard library.

    Raises ConfigurationError if the address is not available. The error names `setting`.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as exc:
        raise ConfigurationError(
            f"{setting} is {port}, and {format_address(host, port)} is not available ({exc.strerror or exc})",
            fix="Use another port, or 0 for a free port",
            setting=setting,
        ) from exc
    detached = socket.socket(fileno=listeners[0].socket.detach())
    detached.settimeout(0)
    return detached


def url_of(listener: socket.socket) -> str:
    """Return the URL for clients on this machine. A socket with a wildcard address also accepts loopback."""
    host, port = listener.getsockname()[:2]
    return f"http://{format_address(LOOPBACK_OF.get(host, host), port)}"
