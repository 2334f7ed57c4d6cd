"""Sockets of other users: root may make them in its own process, and start others."""

import os
import socket
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
