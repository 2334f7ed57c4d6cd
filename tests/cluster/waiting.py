"""Wait for conditions that other processes make true."""

import time
from collections.abc import Callable
from typing import TypeVar

GUARD_SECONDS = 120.0
"""The deadline for a wait. The test fails after this time."""

Found = TypeVar("Found")


def wait_until(
    check: Callable[[], Found | None],
    what: str,
    *,
    seconds: float = GUARD_SECONDS,
    pause_seconds: float = 0.2,
    details: Callable[[], str] = str,
) -> Found:
    """
    Repeat `check` until its result is not empty, and return the result.

    Raises TimeoutError with `what` and the output of `details` at the deadline.
    """
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"deadline passed: {what}\n{details()}".strip())
        time.sleep(pause_seconds)
    return found
