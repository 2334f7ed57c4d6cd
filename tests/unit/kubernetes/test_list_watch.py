"""Test the times of lists and watches, with a scripted API server and a clock that jumps."""

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


class ScriptedResponse(NamedTuple):
    """A response that ends after some seconds, or fails with a status."""

    seconds: float = 0.0
    status: int | None = None


class ScriptedApi(KubernetesApi):
    """An API server that responds to lists and watches in order, and records their times. At the end, it hangs."""

    def __init__(self, lists: list[ScriptedResponse], watches: list[ScriptedResponse]) -> None:
        self._responses = {"list": lists, "watch": watches}
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
        responses = self._responses[kind]
        response = responses.pop(0) if responses else ScriptedResponse(math.inf)
        await trio.sleep(response.seconds)
        if response.status is not None:
            raise KubernetesError("as scripted", status=response.status)


async def requests(
    lists: list[ScriptedResponse], watches: list[ScriptedResponse], seconds: float = 1000
) -> ScriptedApi:
    """Follow a collection for this time with the longest pauses, and return the API server with its requests."""
    api = ScriptedApi(lists, watches)
    nothing: Any = lambda *_: None  # noqa: E731
    with trio.move_on_after(seconds):
        await follow(api, Collection("/x", nothing, nothing, nothing, nothing), lambda: 1.0)
    return api


AT_ONCE, SOON = ScriptedResponse(), FIRST_PAUSE_SECONDS


async def test_watches_start_at_most_twice_per_second(autojump_clock: MockClock) -> None:
    api = await requests([AT_ONCE], [AT_ONCE] * 3 + [ScriptedResponse(0.2)])
    assert api.requests == {"list": [0.0], "watch": [0.0, 0.5, 1.0, 1.5, 2.0]}
    assert api.versions == ["7", "7+", "7++", "7+++", "7++++"]


async def test_watch_after_a_long_watch_starts_without_a_pause(autojump_clock: MockClock) -> None:
    api = await requests([AT_ONCE], [ScriptedResponse(60), ScriptedResponse(60)])
    assert api.requests["watch"] == [0.0, 60.0, 120.0]


async def test_list_after_an_expired_version_starts_at_once(autojump_clock: MockClock) -> None:
    api = await requests([AT_ONCE] * 2, [ScriptedResponse(60, GONE)])
    assert api.requests == {"list": [0.0, 60.0], "watch": [0.0, 60.0]}


@pytest.mark.parametrize("where", ["list", "watch"])
async def test_list_after_repeated_expired_versions_has_a_pause(autojump_clock: MockClock, where: str) -> None:
    gone = [ScriptedResponse(0.0, GONE)] * 4
    api = await requests(gone if where == "list" else [AT_ONCE] * 5, gone if where == "watch" else [])
    assert api.requests["list"] == [0.0, SOON, 2 * SOON, 3 * SOON, 4 * SOON]


async def test_pauses_grow_until_a_watch_succeeds(
    autojump_clock: MockClock,
) -> None:
    api = await requests(
        [ScriptedResponse(status=503)] * 3 + [AT_ONCE] * 2, [ScriptedResponse(60), ScriptedResponse(60, 500)]
    )
    assert api.requests["list"] == [0.0, 0.5, 1.5, 3.5, 124.0]
    assert api.requests["watch"] == [3.5, 63.5, 124.0]
