"""Test the reload of the roles file, when it changes and on SIGHUP."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import trio
from trio.testing import MockClock

from sidecar.daemon.roles_reload import Reload
from sidecar.errors import ConfigurationError
from sidecar.files import file_version
from sidecar.metrics import Metrics
from sidecar.refresh.schedule import CHECK_SECONDS
from sidecar.role import Role
from tests.support.fakes.hanging_volume import HangingDirectories
from tests.support.fakes.kubelet import FakeVolume
from tests.support.processes import get, pod_environment, run_daemon, scripted_sts
from tests.unit.daemon.several_roles import Pod, arn
from tests.unit.daemon.test_daemon import make_log


async def test_changed_file_is_used_and_invalid_file_is_logged_once(
    autojump_clock: MockClock, pod: Pod, tmp_path: Path
) -> None:
    file, metrics = tmp_path / "roles.yaml", Metrics()
    file.write_text("good")
    read: list[Sequence[Role] | ConfigurationError] = []

    def read_again() -> Sequence[Role]:
        outcome = read.pop(0)
        if isinstance(outcome, ConfigurationError):
            raise outcome
        return outcome

    log, as_read = make_log(pod.events), file_version(str(file))
    reload = Reload(str(file), read_again, pod.daemon.roles, as_read=as_read, log=log, metrics=metrics)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reload.run)
        await trio.sleep(10 * CHECK_SECONDS)
        for outcome in (ConfigurationError("line 3: wrong"), [pod.role("default")]):
            read.append(outcome)
            file.write_text(f"changed to {outcome}")
            await trio.sleep(10 * CHECK_SECONDS)
        nursery.cancel_scope.cancel()
    assert [entry["reason"] for entry in pod.logged("configuration_rejected")] == ["line 3: wrong."]
    assert [entry["removed"] for entry in pod.logged("configuration_reloaded")] == [["reporting"]]
    assert metrics.reloads == {"failure": 1, "success": 1}
    assert metrics.is_configuration_current
    assert pod.key("default") == "ASIAFAKE0001"


async def test_file_is_used_when_its_hung_volume_responds_again(
    autojump_clock: MockClock, pod: Pod, tmp_path: Path, volumes: HangingDirectories
) -> None:
    """Neither a change nor SIGHUP affects the roles during the hang. Each of them causes one log line."""
    file, metrics = tmp_path / "volume" / "roles.yaml", Metrics()
    file.parent.mkdir()
    file.write_text("good")
    log, as_read = make_log(pod.events), file_version(str(file))
    reload = Reload(
        str(file), lambda: [pod.role("default")], pod.daemon.roles, as_read=as_read, log=log, metrics=metrics
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reload.run)
        await pod.daemon.roles.first_credentials()
        file.write_text("changed")
        with volumes.hang(str(file)):
            await trio.sleep(10 * CHECK_SECONDS)
            assert len(pod.logged("configuration_check_failed")) == 1
            await reload.now()
            assert len(pod.logged("configuration_check_failed")) == 2
            assert pod.key("reporting") is not None
        await trio.sleep(2 * CHECK_SECONDS)
        nursery.cancel_scope.cancel()
    assert [entry["removed"] for entry in pod.logged("configuration_reloaded")] == [["reporting"]]
    assert metrics.reloads == {"success": 1}
    assert volumes.blocked == 1


async def test_mounted_file_and_sighup_change_a_running_daemon(tmp_path: Path) -> None:
    volume = FakeVolume(tmp_path)
    volume.write(_file_of("default"))
    environment = {"IRSA_SIDECAR_CONFIG": volume.path}
    (tmp_path / "pod").mkdir()
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "pod" / "token", sts.url, **environment)) as running,
    ):
        await running.logged("credentials_refreshed")
        reporting = f"{running.url}/reporting"
        assert (await get(reporting))[0] == 404
        volume.write(_file_of("default", "reporting"))
        assert (await running.logged("configuration_reloaded"))["added"] == ["reporting"]
        assert (await get(reporting))[0] == 200
        volume.write("roles: [")
        denied = await running.logged("configuration_rejected")
        assert denied["reason"].startswith(f"{volume.path}, line 1: ")
        assert (await get(reporting))[0] == 200
        os.kill(running.process.pid, signal.SIGHUP)
        await running.logged("configuration_rejected", times=2)
        assert (await get(running.url))[0] == 200
        assert await running.stop(signal.SIGTERM) == 0


CHANGED_WHILE_IT_STARTS = """
import os, signal, trio
run = trio.run
def late(*arguments):
    os.replace({draft!r}, {file!r})
    signal.raise_signal(signal.SIGHUP)
    return run(*arguments)
trio.run = late
"""


async def test_change_and_sighup_during_the_start_are_handled(
    tmp_path: Path,
) -> None:
    file, draft = tmp_path / "roles.yaml", tmp_path / "draft.yaml"
    file.write_text(_file_of("default"))
    draft.write_text(_file_of("default", "reporting"))
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url, IRSA_SIDECAR_CONFIG=str(file))
        prelude = CHANGED_WHILE_IT_STARTS.format(draft=str(draft), file=str(file))
        async with run_daemon(environment, prelude=prelude) as running:
            assert (await running.logged("configuration_reloaded"))["added"] == ["reporting"]
            assert (await get(f"{running.url}/reporting"))[0] == 200
            assert await running.stop(signal.SIGTERM) == 0


async def test_sighup_without_a_file_is_logged(tmp_path: Path) -> None:
    async with scripted_sts() as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        await running.logged("credentials_refreshed")
        os.kill(running.process.pid, signal.SIGHUP)
        await running.logged("reload_ignored")
        assert (await get(running.url))[0] == 200


def _file_of(*names: str) -> str:
    return "roles:\n" + "".join(f"  - name: {name}\n    role_arn: {arn('app')}\n" for name in names)
