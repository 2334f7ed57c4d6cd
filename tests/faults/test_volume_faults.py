"""Test volumes of the token, the secret and the roles file that do not respond, one test for each fault."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.file_thread import DEADLINE_SECONDS
from sidecar.refresh.schedule import CHECK_SECONDS, TOKEN_POLL_SECONDS
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange
from tests.support.fakes.hanging_volume import HangingDirectories, unresponsive_mount
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.support.processes import (
    ROLE_ARN,
    get,
    pod_environment,
    run_daemon,
    scripted_sts,
)
from tests.support.scene import Scene, running
from tests.support.served import GET, serving, status_of
from tests.support.users import needs_linux

SHORT_DEADLINES = """
from sidecar import file_thread; from sidecar.refresh import schedule
file_thread.DEADLINE_SECONDS = file_thread.TURN_SECONDS = 0.2
schedule.CHECK_SECONDS = 0.1
"""
"""A prelude that makes checks frequent and their deadlines short, so that the tests are fast."""

REPORTED: dict[str, dict[str, Any]] = {
    "token": {"event": "refresh_failed", "code": "token_timeout"},
    "secret": {"event": "authorization_check_failed"},
    "roles": {"event": "configuration_check_failed"},
}
"""The daemon's log events while a volume does not respond, by the file on the volume."""


@needs_linux
@pytest.mark.parametrize("hung", list(REPORTED))
async def test_hung_volume_does_not_delay_service_or_exit(tmp_path: Path, hung: str) -> None:
    """
    The volume of the token, the secret or the roles file hangs.

    The daemon serves requests at once, follows files on other volumes, and exits on SIGTERM.
    """
    volumes = {name: tmp_path / name for name in REPORTED}
    for directory in volumes.values():
        directory.mkdir()
    secret, roles, token = volumes["secret"] / "secret", volumes["roles"] / "roles.yaml", volumes["token"] / "token"
    secret.write_text("chosen-by-hand")
    roles.write_text(f"roles: [{{name: default, role_arn: '{ROLE_ARN}'}}]")
    files = {"IRSA_SIDECAR_CONFIG": str(roles), "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(secret)}
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(token, sts.url, **files), prelude=SHORT_DEADLINES) as running,
    ):
        await running.logged("credentials_refreshed")
        with unresponsive_mount(volumes[hung]):
            await running.logged(**REPORTED[hung])
            for _ in range(50):
                assert (await get(running.url, {"Authorization": "chosen-by-hand"}))[0] == 200
                assert (await get(running.url, {"Authorization": "a-wrong-secret"}))[0] == 403
            if hung != "token":
                token.write_text(service_account_token(time.time(), lifetime_seconds=7200))
                await running.logged("token_renewed")
            if hung != "secret":
                secret.write_text("the-next-one")
                assert (await get(running.url, {"Authorization": "the-next-one"}))[0] == 200
            if hung != "roles":
                roles.write_text(f"roles: [{{name: default, role_arn: '{ROLE_ARN}', duration: 900}}]")
                await running.logged("configuration_reloaded")
            os.kill(running.process.pid, signal.SIGHUP)
            assert await running.stop(signal.SIGTERM) == 0


@needs_linux
async def test_file_is_used_when_its_volume_responds_again(tmp_path: Path) -> None:
    """
    A volume hangs for a while, then responds again.

    The daemon uses the file's content as soon as the volume responds again.
    """
    (tmp_path / "volume").mkdir()
    secret, token = tmp_path / "volume" / "secret", tmp_path / "volume" / "token"
    secret.write_text("chosen-by-hand")
    environment = {"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(secret)}
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(token, sts.url, **environment), prelude=SHORT_DEADLINES) as running,
    ):
        await running.logged("credentials_refreshed")
        with unresponsive_mount(tmp_path / "volume"):
            await running.logged("refresh_failed", code="token_timeout")
        token.write_text(service_account_token(time.time(), lifetime_seconds=7200))
        await running.logged("token_renewed")
        secret.write_text("the-next-one")
        assert (await get(running.url, {"Authorization": "the-next-one"}))[0] == 200


async def test_hung_token_volume_is_reported_and_blocks_one_thread(
    autojump_clock: MockClock, scene: Scene, volumes: HangingDirectories
) -> None:
    """
    The token's volume hangs.

    The daemon abandons one thread and serves its credentials until they expire. Its log shows the volume, and its
    metrics count the error. After the expiration, its probes show the volume too.
    """
    scene.write_token()
    async with running(scene):
        await scene.refresher.first_attempt.wait()
        with volumes.hang(scene.volume.path):
            await trio.sleep(60)
            assert scene.key is not None
            assert scene.volume.path in str(scene.refresher.health.last_error)
            await trio.sleep(7200)
            assert scene.key is None
            output = scene.logged("refresh_failed")
            assert output[-1]["code"] == "token_timeout"
            assert "its volume hangs" in output[-1]["reason"]
            assert len(output) < 20
            assert scene.outcomes["token_timeout"] > 60
            assert (volumes.blocked, len(scene.sts.called_at)) == (1, 1)
        await trio.sleep(TOKEN_POLL_SECONDS * 2)
        assert scene.key is not None
        assert scene.refresher.health.last_error is None


async def test_token_volume_that_hangs_at_the_start_causes_a_503(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, volumes: HangingDirectories
) -> None:
    """
    The token's volume hangs at the start.

    After 5 s, the daemon returns 503 with the path of the token.
    """
    with volumes.hang(volume.path):
        async with serving(autojump_clock, wall, volume, FakeExchange(wall.time)) as served:
            await trio.sleep(DEADLINE_SECONDS + 1)
            response = await served.send(GET)
            assert status_of(response) == 503
            assert (
                f"{volume.path} could not be used within 5 s"
                in json.loads(response.partition(b"\r\n\r\n")[2])["Message"]
            )
            assert not served.daemon.role.state(wall.clock.now()).is_ready


async def test_short_hang_of_the_token_volume_is_reported(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, volumes: HangingDirectories
) -> None:
    """
    The token's volume hangs for a moment.

    The daemon continues to serve its credentials, so its probes stay ready. Its log and metrics report the problem
    until the volume responds.
    """
    async with serving(autojump_clock, wall, volume) as served:
        with volumes.hang(volume.path):
            await trio.sleep(CHECK_SECONDS + DEADLINE_SECONDS)
            assert "its volume hangs" in str(served.daemon.role.last_error)
        autojump_clock.autojump_threshold = 0.05
        await trio.sleep(CHECK_SECONDS)
        assert served.daemon.role.last_error is None
        assert status_of(await served.send(GET)) == 200
        assert len(served.sts.called_at) == 1
