"""Waiting for what comes of itself."""

import time
from collections.abc import Callable
from typing import TypeVar

GUARD_SECONDS = 120.0
"""No test waits for it; what never happens ends the test by it."""

Found = TypeVar("Found")


def wait_until(
    look: Callable[[], Found | None],
    what: str,
    *,
    seconds: float = GUARD_SECONDS,
    pause_seconds: float = 0.2,
    told: Callable[[], str] = str,
) -> Found:
    """What `look` finds, once that is something. Raises TimeoutError with `what` never came and what is `told`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} never came\n{told()}".strip())
        time.sleep(pause_seconds)
    return found
