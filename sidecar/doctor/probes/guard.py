"""
One look at the outside, with a deadline.

Rule: no look can hang doctor or end it. A look that takes too long or raises yields no facts, and the reason. Blocking
looks run in a thread, which is abandoned at the deadline: a file on a dead volume cannot be given up in another way.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import trio

from sidecar.doctor.finding import fault

LOOK_SECONDS = 30.0
"""Longer than any look's own deadlines together, so that this one only ends what those do not cover."""

FILE_SECONDS = 5.0
"""Deadline for looks at a few small files. A disk that takes longer is one that hangs."""

Facts = TypeVar("Facts")


class Looked(NamedTuple, Generic[Facts]):
    """The facts, or None and why there are none."""

    facts: Facts | None
    why: str = ""


async def guarded(look: Callable[[], Awaitable[Facts]], seconds: float = LOOK_SECONDS) -> Looked[Facts]:
    """Await `look` for at most `seconds`. Raises nothing."""
    try:
        with trio.fail_after(seconds):
            return Looked(await look())
    except trio.TooSlowError:
        return Looked(None, f"no result within {seconds:.0f} s: a file or an address that it needs does not answer")
    except Exception as exc:  # noqa: BLE001  every fault of one look is that look's alone
        return Looked(None, fault(exc))


def in_thread(look: Callable[..., Facts], *arguments: object) -> Callable[[], Awaitable[Facts]]:
    """The blocking `look` as one to await, in a thread that is abandoned when the wait ends early."""
    return partial(trio.to_thread.run_sync, look, *arguments, abandon_on_cancel=True)
