"""Run one Pod over several processes, with the same state directory."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from sidecar.clock import Clock
from sidecar.daemon.daemon import Daemon, Listeners, make_daemon
from sidecar.daemon.saved_state import file_name
from sidecar.daemon.state_directory import Boot, StateDirectory, open_directory
from sidecar.errors import NextStep
from sidecar.file_thread import in_thread
from sidecar.refresh.refresher import Sources
from sidecar.role import Role
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.unit.daemon.test_daemon import make_config, make_log

OUT = refusal("Unreachable", NextStep.RETRY)
ARN = "arn:aws:iam::111122223333:role/cart"
MAIN = file_name("default")


@dataclass
class Machine:
    """One Pod over several processes. Each process has its own monotonic clock; all processes share one boot clock."""

    wall: FakeWall
    sts: FakeExchange
    token_file: str
    directory: Path
    boot: Boot
    events: list[Any] = field(default_factory=list)
    starts: int = 0
    error: Exception | None = None

    def role(self, name: str = "default", **changes: Any) -> Role:
        return Role(name, ARN, self.token_file, None, 3600)._replace(**changes)

    def logged(self, event: str) -> list[Any]:
        return [entry for entry in self.events if entry["event"] == event]

    async def call(self, path: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.error is not None:
            raise self.error
        return await in_thread(path, function, *arguments)

    @asynccontextmanager
    async def process(self, *roles: Role, **sts: Any) -> AsyncIterator[Daemon]:
        """Run one process from its start until it is killed."""
        self.starts += 1
        self.events.clear()
        offset = 10_000.0 * self.starts
        clock = Clock(self.wall.time, lambda: trio.current_time() + offset)
        config = make_config(self.token_file)
        config = config._replace(roles=roles or (self.role(),), sts=config.sts._replace(**sts))
        log = make_log(self.events)
        daemon = make_daemon(config, self.sts, sources=Sources(clock, lambda: 0.5), log=log)
        path = open_directory(str(self.directory), allow_disk=True)
        daemon.state = StateDirectory(path, config.sts, clock=clock, boot=self.boot, log=log, metrics=daemon.metrics)
        daemon.state._call = self.call
        daemon.state.restore(daemon.roles)
        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.serve, Listeners())
            yield daemon
            nursery.cancel_scope.cancel()


def key(daemon: Daemon, role: str = "default") -> str | None:
    served = daemon.roles[role]
    valid = served.valid_snapshot(served.now())
    return valid.credentials.access_key_id if valid else None
