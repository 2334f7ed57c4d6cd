"""
Follow a collection: list it, and watch its changes until cancelled.

Rule: every error is reported to `lost`, and the list starts again. The pause grows with the number of consecutive
errors. The caller decides whether to continue with the last known items. (Kubernetes documentation, API concepts,
Efficient detection of changes.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

import trio

from sidecar.errors import KubernetesError
from sidecar.kubernetes.async_client import Kept, KubernetesApi, Take
from sidecar.kubernetes.document import Document

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0

GONE = 410
"""
The status for a version that the API server no longer knows. It does not count as a failure, so the list restarts at
once.

If the last list started shortly before, there is a short pause, because a server could send this status every time.
"""


@dataclass(frozen=True)
class Collection(Generic[Kept]):
    """
    The collection to follow, and the functions that receive its items.

    `begin` is called before each list. `listed` gets the results of `keep` for all items. `take` gets each later
    change. `lost` gets the error that ended the list or the watch. Only one page of documents is in memory at a time,
    because the documents of a whole cluster are much larger than the results.
    """

    path: str
    keep: Callable[[Document], Kept]
    listed: Callable[[Sequence[Kept]], None]
    take: Take
    lost: Callable[[KubernetesError], None]
    parameters: Mapping[str, str] = field(default_factory=dict)
    begin: Callable[[], None] = lambda: None


async def follow(api: KubernetesApi, collection: Collection[Kept], jitter: Callable[[], float]) -> None:
    """Follow the collection until cancelled. `jitter` returns numbers from 0 to 1."""
    failures = 0
    while True:
        listed_at = trio.current_time()
        try:
            collection.begin()
            items, version = await api.list(collection.path, collection.parameters, collection.keep)
            collection.listed(items)
            while True:
                began_at = trio.current_time()
                version = await api.watch(collection.path, version, collection.parameters, collection.take)
                failures = 0
                # Without a pause, watches that end at once would form a busy loop.
                await _sleep_until(began_at + FIRST_PAUSE_SECONDS)
        except KubernetesError as error:
            collection.lost(error)
            failures = 0 if error.status == GONE else failures + 1
        if failures:
            await trio.sleep(pause_seconds(failures, jitter()))
        else:
            await _sleep_until(listed_at + FIRST_PAUSE_SECONDS)


async def _sleep_until(instant: float) -> None:
    await trio.sleep(max(0.0, instant - trio.current_time()))


def pause_seconds(failures: int, jitter: float) -> float:
    """Return a pause that doubles with each failure, up to a maximum. `jitter` selects half to all of the pause."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + jitter / 2)
