"""
Lists and watches that never end: a collection as it is now, and every change of it.

Rule: whatever breaks is told to `lost` and begun anew, sooner or later by how often it broke; the caller decides what
it makes of what it last knew. (Kubernetes documentation, API concepts, Efficient detection of changes.)
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
"""The version is older than the API server remembers: nothing is wrong, and it is listed anew at once; or soon, if
the last time was a moment ago, as whoever answers nothing else must not be asked without end."""


@dataclass(frozen=True)
class Collection(Generic[Kept]):
    """
    What to follow: `begin` is called before each list, `listed` gets what `keep` made of all its items, `take` gets
    what happens to one later, and `lost` the error that ended it. A whole cluster's documents are many times what is
    needed of them, so none outlives its page.
    """

    path: str
    keep: Callable[[Document], Kept]
    listed: Callable[[Sequence[Kept]], None]
    take: Take
    lost: Callable[[KubernetesError], None]
    parameters: Mapping[str, str] = field(default_factory=dict)
    begin: Callable[[], None] = lambda: None


async def follow(api: KubernetesApi, collection: Collection[Kept], jitter: Callable[[], float]) -> None:
    """Until cancelled. `jitter` gives numbers from 0 to 1."""
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
                # One that ends as soon as it begins must not be asked for without end.
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
    """Doubling, from half to the whole of it by chance."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + jitter / 2)
