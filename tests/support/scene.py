"""Create one refresher and its environment with fake clocks, so that hours pass in milliseconds."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import structlog
import trio

from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.refresh.refresher import Refresher, Sources
from sidecar.role import Role
from sidecar.serving import container_credentials as endpoint
from sidecar.store import Store
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import ROLE_ARN, FakeExchange
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token


@dataclass
class Scene:
    """A refresher, its STS and its events. STS follows the clock `wall`, unless a test chooses another clock."""

    refresher: Refresher
    sts: FakeExchange
    wall: FakeWall
    volume: FakeVolume
    events: list[Any]
    metrics: Metrics

    @property
    def key(self) -> str | None:
        alive = self.refresher.store.valid_snapshot(self.wall.clock.now())
        return alive.credentials.access_key_id if alive else None

    @property
    def intervals(self) -> list[float]:
        """Return the seconds between successive requests to STS."""
        return [after - before for before, after in pairwise(self.sts.called_at)]

    @property
    def outcomes(self) -> dict[str, int]:
        """Return the number of attempts by outcome."""
        return {outcome: count for (_, outcome), count in self.metrics.refreshes.items()}

    def write_token(self, **changes: Any) -> None:
        self.volume.write(service_account_token(self.wall.time(), **changes))

    def held_token(self) -> str:
        """Return the content of the token file."""
        return Path(self.volume.path).read_text()

    def logged(self, event: str) -> list[Any]:
        return [entry for entry in self.events if entry["event"] == event]


def make_scene(
    wall: FakeWall, volume: FakeVolume, sts: FakeExchange | None = None, *, jitter: Callable[[], float] = lambda: 0.5
) -> Scene:
    """
    Return a scene whose refresher does not run yet. The test writes the token.

    Several refreshers may share one `sts`.
    """
    events: list[Any] = []

    def keep(_logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        events.append({**event, "level": method})
        raise structlog.DropEvent

    log: Logger = structlog.wrap_logger(
        None, processors=[keep], wrapper_class=structlog.make_filtering_bound_logger("debug")
    )
    sts, metrics = sts or FakeExchange(wall.time), Metrics()
    refresher = Refresher(
        Role("default", ROLE_ARN, volume.path, None, 3600),
        sts,
        Store(endpoint.credentials_response),
        sources=Sources(wall.clock, jitter),
        log=log,
        metrics=metrics,
    )
    return Scene(refresher, sts, wall, volume, events, metrics)


@asynccontextmanager
async def running(*scenes: Scene) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for scene in scenes:
            nursery.start_soon(scene.refresher.run)
        yield
        nursery.cancel_scope.cancel()
