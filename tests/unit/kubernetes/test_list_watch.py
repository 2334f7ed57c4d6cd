"""Times of lists and watches, with a scripted API server and a clock that jumps."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock

from sidecar.errors import KubernetesError
from sidecar.kubernetes.async_client import Kept, KubernetesApi, Take
from sidecar.kubernetes.document import Document
from sidecar.kubernetes.list_watch import FIRST_PAUSE_SECONDS, GONE, Collection, follow


class Answer(NamedTuple):
    """A response that ends after some seconds, or fails with a status."""

    seconds: float = 0.0
    status: int | None = None


class Told(KubernetesApi):
    """An API server that responds to lists and watches in order, and records their times. Then it hangs."""

    def __init__(self, lists: list[Answer], watches: list[Answer]) -> None:
        self._answers = {"list": lists, "watch": watches}
        self.requests: dict[str, list[float]] = {"list": [], "watch": []}
        self.versions: list[str] = []
        self._began_at = trio.current_time()

    async def list(
        self,
        path: str,  # noqa: ARG002
        parameters: Mapping[str, str],  # noqa: ARG002
        keep: Callable[[Document], Kept],  # noqa: ARG002
    ) -> tuple[list[Kept], str]:
        await self._answer("list")
        return [], "7"

    async def watch(
        self,
        path: str,  # noqa: ARG002
        version: str,
        parameters: Mapping[str, str],  # noqa: ARG002
        take: Take,  # noqa: ARG002
    ) -> str:
        self.versions.append(version)
        await self._answer("watch")
        return f"{version}+"

    async def _answer(self, kind: str) -> None:
        self.requests[kind].append(trio.current_time() - self._began_at)
        answers = self._answers[kind]
        answer = answers.pop(0) if answers else Answer(math.inf)
        await trio.sleep(answer.seconds)
        if answer.status is not None:
            raise KubernetesError("as told", status=answer.status)


async def requests(lists: list[Answer], watches: list[Answer], seconds: float = 1000) -> Told:
    """Return the requests within that time. Pauses are the longest possible."""
    api = Told(lists, watches)
    nothing: Any = lambda *_: None  # noqa: E731
    with trio.move_on_after(seconds):
        await follow(api, Collection("/x", nothing, nothing, nothing, nothing), lambda: 1.0)
    return api


AT_ONCE, SOON = Answer(), FIRST_PAUSE_SECONDS


async def test_short_watches_start_twice_per_second(autojump_clock: MockClock) -> None:
    api = await requests([AT_ONCE], [AT_ONCE] * 3 + [Answer(0.2)])
    assert api.requests == {"list": [0.0], "watch": [0.0, 0.5, 1.0, 1.5, 2.0]}
    assert api.versions == ["7", "7+", "7++", "7+++", "7++++"]


async def test_next_watch_follows_a_long_one_without_a_pause(autojump_clock: MockClock) -> None:
    api = await requests([AT_ONCE], [Answer(60), Answer(60)])
    assert api.requests["watch"] == [0.0, 60.0, 120.0]


async def test_forgotten_version_is_listed_again_at_once(autojump_clock: MockClock) -> None:
    api = await requests([AT_ONCE] * 2, [Answer(60, GONE)])
    assert api.requests == {"list": [0.0, 60.0], "watch": [0.0, 60.0]}


@pytest.mark.parametrize("where", ["list", "watch"])
async def test_repeatedly_forgotten_version_has_a_pause(autojump_clock: MockClock, where: str) -> None:
    gone = [Answer(0.0, GONE)] * 4
    api = await requests(gone if where == "list" else [AT_ONCE] * 5, gone if where == "watch" else [])
    assert api.requests["list"] == [0.0, SOON, 2 * SOON, 3 * SOON, 4 * SOON]


async def test_pauses_grow_until_a_watch_succeeds(
    autojump_clock: MockClock,
) -> None:
    api = await requests([Answer(status=503)] * 3 + [AT_ONCE] * 2, [Answer(60), Answer(60, 500)])
    assert api.requests["list"] == [0.0, 0.5, 1.5, 3.5, 124.0]
    assert api.requests["watch"] == [3.5, 63.5, 124.0]
