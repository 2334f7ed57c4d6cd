"""Act as other users, as root may do with the sockets of its own process, and in new namespaces."""

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
"""Two users that differ from ours."""

BECOME = "import os; os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})\n"
"""Prelude that makes the process this user. Use an interpreter that this user can read."""


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Create sockets that belong to that user permanently. No other task may run meanwhile."""
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
        pytest.skip(f"no namespaces here: {' '.join(command)}")
    return command
