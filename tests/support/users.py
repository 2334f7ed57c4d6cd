"""Create sockets and processes of other users, which needs root or user namespaces."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
needs_linux = pytest.mark.skipif(
    not os.path.exists("/proc/net/tcp"), reason="only Linux has the owner of a socket in /proc"
)

APP, OTHER = 1001, 1002
"""The ids of two users that are not the user of the daemon."""

BECOME = "import os; os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})\n"
"""A prelude that changes the user of the process. The interpreter must be readable for that user."""


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Set the user of the sockets that the block creates. No other task may run during the block."""
    own = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(own)


def socket_of(uid: int, family: int = socket.AF_INET) -> socket.socket:
    with as_user(uid):
        return socket.socket(family)


def in_namespaces(*flags: str) -> list[str]:
    """Return a command that runs Python as root in its own namespaces."""
    command = ["unshare", *flags, "--map-root-user", sys.executable]
    if subprocess.run([*command, "-c", ""], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"this machine cannot create the namespaces: {' '.join(command)}")
    return command
