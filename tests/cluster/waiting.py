"""Wait for a condition that becomes true without our action."""

import time
from collections.abc import Callable
from typing import TypeVar

GUARD_SECONDS = 120.0
"""Deadline for a wait. A test that reaches it fails."""

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
    Return the first non-empty result of `check`.

    Raises TimeoutError with `what` and the output of `details` if the deadline passes.
    """
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"deadline passed: {what}\n{details()}".strip())
        time.sleep(pause_seconds)
    return found
