"""Test how `exec` waits for the first credentials: the reported reasons, the end of the wait, and `--wait`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sidecar.client.first_credentials import CHECK_SECONDS, wait_for_attempts, wait_for_credentials
from sidecar.daemon.daemon import Daemon, make_daemon
from sidecar.errors import NextStep, SidecarError
from sidecar.refresh.refresher import Sources
from tests.end_to_end.test_exec import run_exec
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.support.processes import GUARD_SECONDS, pod_environment, scripted_sts
from tests.unit.daemon.test_daemon import make_config, make_log, serve


@dataclass
class Pod:
    daemon: Daemon
    sts: FakeExchange
    messages: list[str] = field(default_factory=list)

    async def wait(self, seconds: float) -> None:
        await wait_for_credentials(self.daemon.roles, seconds, report=self.messages.append)


@asynccontextmanager
async def running(
    wall: FakeWall, volume: FakeVolume, error: Exception | None, *, latency_seconds: float = 0.0
) -> AsyncIterator[Pod]:
    sts = FakeExchange(wall.time)
    sts.error, sts.latency_seconds = error, latency_seconds
    daemon = make_daemon(make_config(volume.path), sts, sources=Sources(wall.clock, lambda: 0.5), log=make_log([]))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, daemon))
        yield Pod(daemon, sts)
        daemon.stop.set()


def write_valid_token(wall: FakeWall, volume: FakeVolume) -> None:
    volume.write(service_account_token(wall.time(), lifetime_seconds=86_400))


async def test_wait_ends_with_the_credentials(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> None:
    write_valid_token(wall, volume)
    async with running(wall, volume, None) as pod:
        await pod.wait(15)
        assert trio.current_time() < 1
        assert pod.messages == []


@pytest.mark.parametrize("seconds", [0, 15, 3600])
async def test_parameter_that_sts_rejects_ends_the_wait(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, seconds: float
) -> None:
    write_valid_token(wall, volume)
    async with running(wall, volume, refusal("ValidationError", NextStep.ASK_OPERATOR)) as pod:
        with pytest.raises(SidecarError, match=r"waiting does not help: .*ValidationError"):
            await pod.wait(seconds)
        assert trio.current_time() <= 2 * CHECK_SECONDS


MISTAKES = ['"TOKEN"', "Bearer TOKEN", '{"value": "TOKEN"}', "<!DOCTYPE html><html></html>", "null"]


@pytest.mark.parametrize("content", MISTAKES)
async def test_mistake_in_the_token_file_ends_the_wait(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, content: str
) -> None:
    volume.write(content.replace("TOKEN", service_account_token(wall.time())))
    async with running(wall, volume, None) as pod:
        with pytest.raises(SidecarError, match="waiting does not help"):
            await pod.wait(3600)
        assert trio.current_time() <= 2 * CHECK_SECONDS
        assert pod.sts.called_at == []


async def test_directory_at_the_token_path_ends_the_wait(
    autojump_clock: MockClock, wall: FakeWall, tmp_path: Path
) -> None:
    volume = FakeVolume(tmp_path)
    Path(volume.path).mkdir()
    async with running(wall, volume, None) as pod:
        with pytest.raises(SidecarError, match="waiting does not help"):
            await pod.wait(3600)


@pytest.mark.parametrize("code", ["Unreachable", "Timeout", "ServiceUnavailable"])
async def test_wait_continues_through_temporary_errors(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, code: str
) -> None:
    write_valid_token(wall, volume)
    async with running(wall, volume, refusal(code, NextStep.RETRY)) as pod, trio.open_nursery() as nursery:
        nursery.start_soon(pod.wait, 60)
        await trio.sleep(20)
        pod.sts.error = None
    assert trio.current_time() < 60
    assert len(pod.messages) == 1
    assert pod.messages[0].startswith("waiting up to 60 s for credentials of role 'default'. ")
    assert code in pod.messages[0]


async def test_wait_continues_until_a_late_token_arrives(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    async with running(wall, volume, None) as pod, trio.open_nursery() as nursery:
        nursery.start_soon(pod.wait, 60)
        await trio.sleep(30)
        write_valid_token(wall, volume)
    assert trio.current_time() < 35
    assert len(pod.messages) == 1
    assert "does not exist" in pod.messages[0]


async def test_each_reason_of_the_wait_is_reported_once(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    write_valid_token(wall, volume)
    async with running(wall, volume, refusal("Unreachable", NextStep.RETRY)) as pod, trio.open_nursery() as nursery:
        nursery.start_soon(pod.wait, 600)
        await trio.sleep(100)
        pod.sts.error = refusal("Tls", NextStep.RETRY)
        await trio.sleep(200)
        pod.sts.error = None
    assert len(pod.messages) == 2


@pytest.mark.parametrize(("step", "seconds"), [(NextStep.WAIT, 2), (NextStep.SLOW_DOWN, 2), (NextStep.WAIT, 0)])
async def test_wait_ends_if_the_next_attempt_is_after_the_wait(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, step: NextStep, seconds: float
) -> None:
    write_valid_token(wall, volume)
    async with running(wall, volume, refusal("AccessDenied", step)) as pod:
        with pytest.raises(SidecarError) as caught:
            await pod.wait(seconds)
        assert trio.current_time() <= 2 * CHECK_SECONDS
    assert f"no credentials within {seconds} s: " in str(caught.value)
    assert "AccessDenied" in str(caught.value)


async def test_wait_of_zero_tries_once(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> None:
    write_valid_token(wall, volume)
    async with running(wall, volume, None, latency_seconds=8) as pod:
        await pod.wait(0)
    assert len(pod.sts.called_at) == 1


async def test_error_after_unfinished_attempts_has_a_reason(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    write_valid_token(wall, volume)
    async with running(wall, volume, refusal("Timeout", NextStep.RETRY), latency_seconds=20) as pod:
        with pytest.raises(SidecarError, match="no credentials within 15 s: the first credentials"):
            await wait_for_attempts(pod.daemon.roles, 15)
        await wait_for_attempts(pod.daemon.roles, 100)


# The command


async def test_exec_exits_at_once_if_the_token_has_quotes(tmp_path: Path) -> None:
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        token = Path(environment["AWS_WEB_IDENTITY_TOKEN_FILE"])
        token.write_text(f'"{token.read_text()}"')
        with trio.fail_after(GUARD_SECONDS):
            done = await run_exec(environment, "true", flags=["--wait", "86400"])
    assert done.returncode == 1
    assert b"waiting does not help" in done.stderr
    assert b"quotes" in done.stderr


async def test_exec_reports_the_reason_of_the_wait(tmp_path: Path) -> None:
    done = await run_exec(pod_environment(tmp_path / "token", "http://127.0.0.1:1/"), "true", flags=["--wait", "3"])
    assert done.returncode == 1
    assert b"irsa-sidecar: waiting up to " in done.stderr
    assert b"no credentials within 3 s" in done.stderr


@pytest.mark.parametrize("value", ["", "-1", "1.5", "soon", "86401"])
async def test_exec_rejects_an_invalid_wait(tmp_path: Path, value: str) -> None:
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:1/")
    done = await run_exec(environment, "true", flags=[f"--wait={value}"])
    assert done.returncode == 2
    assert b"--wait is " in done.stderr
