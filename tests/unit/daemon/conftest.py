"""Provide a daemon with two roles, and a Pod whose processes share a state directory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sidecar.daemon.state_directory import Boot
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.unit.daemon.restarted_pod import Machine
from tests.unit.daemon.several_roles import Pod, pod_with_two_roles


@pytest.fixture
async def pod(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> AsyncIterator[Pod]:
    async with pod_with_two_roles(wall, volume) as pod:
        yield pod


@pytest.fixture
async def machine(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, tmp_path: Path) -> Machine:
    volume.write(service_account_token(wall.time(), lifetime_seconds=86_400))
    boot = Boot("a-boot", lambda: trio.current_time() + 777.0)
    sts = FakeExchange(wall.true_time)
    sts.latency_seconds = 0.5  # so that a test can check the state before the end of the first exchange
    return Machine(wall, sts, volume.path, tmp_path / "state", boot)
