"""Other users, whose sockets root may make in its own process, and namespaces of our own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")
needs_linux = pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="only Linux says whose a socket is")

APP, OTHER = 1001, 1002
"""Two users; ours is neither."""

BECOME = "import os; os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})\n"
"""A prelude: the process is this user from here on. Its interpreter may be one that this user cannot read."""


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Sockets that are made in here are that user's, for good. Nothing else may run meanwhile."""
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
    """The command of a Python that is root in namespaces of its own."""
    command = ["unshare", *flags, "--map-root-user", sys.executable]
    if subprocess.run([*command, "-c", ""], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"no namespaces here: {' '.join(command)}")
    return command
