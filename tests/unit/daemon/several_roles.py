"""Run a daemon with several roles, each with its own fake STS."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from sidecar.daemon.daemon import Daemon, Listeners, make_daemon
from sidecar.errors import NextStep
from sidecar.refresh.refresher import Sources
from sidecar.role import Role
from sidecar.sts.client import ExchangeResult
from sidecar.sts.request import ExchangeRequest
from sidecar.token import Token
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.unit.daemon.test_daemon import make_config, make_log

DENIED = refusal("AccessDenied", NextStep.WAIT)


def arn(name: str) -> str:
    return f"arn:aws:iam::111122223333:role/{name}"


@dataclass
class Stss:
    """An exchange with a separate fake STS for each IAM role."""

    wall: FakeWall
    by_arn: dict[str, FakeExchange] = field(default_factory=dict)

    def __getitem__(self, name: str) -> FakeExchange:
        return self.by_arn.setdefault(arn(name), FakeExchange(self.wall.time))

    async def __call__(self, request: ExchangeRequest, token: Token) -> ExchangeResult:
        return await self[request.role_arn.rpartition("/")[2]](request, token)


@dataclass
class Pod:
    """A daemon with several roles, and its log events."""

    daemon: Daemon
    sts: Stss
    token_file: str
    wall: FakeWall
    events: list[Any]

    def role(self, name: str, **changes: Any) -> Role:
        return Role(name, arn(name), self.token_file, None, 3600)._replace(**changes)

    def key(self, name: str) -> str | None:
        valid = self.daemon.roles[name].valid_snapshot(self.wall.clock.now())
        return valid.credentials.access_key_id if valid else None

    def logged(self, event: str) -> list[Any]:
        return [entry for entry in self.events if entry["event"] == event]


@asynccontextmanager
async def pod_with_two_roles(wall: FakeWall, volume: FakeVolume) -> AsyncIterator[Pod]:
    volume.write(service_account_token(wall.time(), lifetime_seconds=86_400))
    events: list[Any] = []
    sts = Stss(wall)
    config = make_config(volume.path)
    roles = tuple(Role(name, arn(name), volume.path, None, 3600) for name in ("default", "reporting"))
    daemon = make_daemon(
        config._replace(roles=roles), sts, sources=Sources(wall.clock, lambda: 0.5), log=make_log(events)
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.serve, Listeners())
        yield Pod(daemon, sts, volume.path, wall, events)
        daemon.stop.set()
