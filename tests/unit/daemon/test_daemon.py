"""Test that an error in one task of the daemon does not affect the others."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from sidecar.background import RESTART_SECONDS
from sidecar.config.settings import Config
from sidecar.daemon.daemon import Daemon, Listeners, make_daemon
from sidecar.log import Logger
from sidecar.refresh.refresher import Sources
from sidecar.role import Role
from sidecar.sts.settings import StsSettings
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import ROLE_ARN, FakeExchange
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token


def make_config(token_file: str) -> Config:
    return Config(
        listen=("127.0.0.1", 0),
        admin_listen=None,
        authorization_token_file=None,
        config_file=None,
        drain_seconds=0,
        log_format="json",
        log_level="info",
        roles=(Role("default", ROLE_ARN, token_file, None, 3600),),
        sts=StsSettings("eu-west-1", None, use_fips=False, use_dualstack=False, ca_bundle=None),
    )


def make_log(events: list[Any]) -> Logger:
    def keep(_logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        events.append({**event, "level": method})
        raise structlog.DropEvent

    log: Logger = structlog.wrap_logger(
        None, processors=[keep], wrapper_class=structlog.make_filtering_bound_logger("info")
    )
    return log


async def serve(daemon: Daemon, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    await daemon.serve(Listeners(), task_status=task_status)


async def test_refresher_that_raises_is_logged_and_restarted(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    events: list[Any] = []
    volume.write(service_account_token(wall.time()))
    sts = FakeExchange(wall.time)
    daemon = make_daemon(make_config(volume.path), sts, sources=Sources(wall.clock, lambda: 0.5), log=make_log(events))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, daemon))
        await daemon.roles.first_credentials()
        sts.error = ZeroDivisionError("a bug, with a secret in its text")
        await trio.sleep(2000)
        assert daemon.role.store.valid_snapshot(wall.clock.now()) is not None
        sts.error = None
        await trio.sleep(2 * RESTART_SECONDS)
        assert daemon.role.store.snapshot is not None
        assert daemon.role.store.snapshot.credentials.access_key_id != "ASIAFAKE0001"
        daemon.stop.set()
    failures = [event for event in events if event["event"] == "refresher_failed"]
    assert len(failures) == pytest.approx(200 / RESTART_SECONDS, abs=1)
    assert isinstance(failures[0]["exc"], BaseException)


async def test_stop_ends_all_tasks(autojump_clock: MockClock, wall: FakeWall, tmp_path: Path) -> None:
    daemon = make_daemon(
        make_config(str(tmp_path / "token")), FakeExchange(wall.time), sources=Sources(wall.clock), log=make_log([])
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, daemon))
        daemon.stop.set()
    assert trio.current_time() < 5
