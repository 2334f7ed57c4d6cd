"""
Run one probe with a deadline.

Rule: a probe can neither block nor crash doctor. If a probe exceeds its deadline or raises an error, its result has the
reason instead of facts. A blocking probe runs in a thread, which is abandoned at the deadline, because a read from an
unresponsive volume cannot be cancelled.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import trio

from sidecar.doctor.finding import describe_bug

PROBE_SECONDS = 30.0
"""
Deadline for one probe. It is longer than all deadlines inside the probe together, so it applies only if those fail.
"""

FILE_SECONDS = 5.0
"""Deadline for reading a few small files. A disk that needs longer is considered unresponsive."""

Facts = TypeVar("Facts")


class ProbeResult(NamedTuple, Generic[Facts]):
    """The facts from a probe, or None and the reason."""

    facts: Facts | None
    reason: str = ""


async def guarded(probe: Callable[[], Awaitable[Facts]], seconds: float = PROBE_SECONDS) -> ProbeResult[Facts]:
    """
    Await `probe` for at most `seconds`.

    Raises nothing.
    """
    try:
        with trio.fail_after(seconds):
            return ProbeResult(await probe())
    except trio.TooSlowError:
        return ProbeResult(
            None, f"no result within {seconds:.0f} s: a file or an address that the check needs does not respond"
        )
    except Exception as exc:  # noqa: BLE001  a bug in one probe must not affect the others
        return ProbeResult(None, describe_bug(exc))


def in_thread(probe: Callable[..., Facts], *arguments: object) -> Callable[[], Awaitable[Facts]]:
    """Return an async function that runs the blocking `probe` in a thread. A cancelled call abandons the thread."""
    return partial(trio.to_thread.run_sync, probe, *arguments, abandon_on_cancel=True)
