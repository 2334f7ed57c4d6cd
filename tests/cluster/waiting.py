"""Waiting for what comes of itself."""

import time
from collections.abc import Callable

from tests.cluster.namespace import GUARD_SECONDS


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.2)
