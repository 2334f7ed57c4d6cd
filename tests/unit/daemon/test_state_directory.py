"""Test the credentials that a restarted daemon serves or ignores."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.daemon.saved_state import file_name
from sidecar.errors import NextStep
from sidecar.refresh.schedule import CHECK_SECONDS
from sidecar.role import ChainStep
from tests.support.fakes.exchange import refusal
from tests.unit.daemon.restarted_pod import ARN, MAIN, OUT, Machine, key


async def test_restarted_daemon_serves_and_keeps_its_refresh_time(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(60)
    for minutes in (5, 10, 5):
        async with machine.process() as daemon:
            assert key(daemon) == "ASIAFAKE0001"
            assert daemon.role.last_error is None
            await trio.sleep(60 * minutes)
        (restored,) = machine.logged("credentials_restored")
        assert restored["access_key_id"] == "ASIAFAKE0001"
    assert len(machine.sts.called_at) == 1
    async with machine.process() as daemon:
        await trio.sleep(1200)
        assert key(daemon) == "ASIAFAKE0002"
    assert machine.sts.called_at[1] == pytest.approx(1800, abs=2)


async def test_crash_loop_causes_one_sts_call(autojump_clock: MockClock, machine: Machine) -> None:
    for _ in range(100):
        async with machine.process():
            await trio.sleep(10)
    assert len(machine.sts.called_at) == 1


async def test_restart_during_an_outage_leaves_no_gap(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(60)
    machine.sts.error = OUT
    while trio.current_time() < 3590:
        async with machine.process() as daemon:
            assert key(daemon) == "ASIAFAKE0001"
            await trio.sleep(290)
            assert key(daemon) == ("ASIAFAKE0001" if trio.current_time() < 3598 else None)
    async with machine.process() as daemon:
        await trio.sleep(1)
        assert key(daemon) is None
        machine.sts.error = None
        await trio.sleep(120)
        assert key(daemon) is not None


async def test_back_off_and_retry_after_survive_a_restart(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(60)
        machine.sts.error = refusal("Throttling", NextStep.SLOW_DOWN, retry_after_seconds=280)
        await trio.sleep(1760)
    refused_at = machine.sts.called_at[-1]
    for _ in range(10):
        async with machine.process() as daemon:
            assert "Throttling" in str(daemon.role.last_error)
            await trio.sleep(20)
    assert machine.sts.called_at[-1] == refused_at


async def test_longest_duration_survives_a_restart(autojump_clock: MockClock, machine: Machine) -> None:
    longest = machine.role(duration_seconds=None)
    async with machine.process(longest):
        await trio.sleep(60)
    granted = machine.sts.requests[-1].duration_seconds
    async with machine.process(longest) as daemon:
        await trio.sleep(2000)
        assert daemon.role.refresher.progress.max_duration.granted_seconds == granted


SLEPT, STEPPED, BOTH = "the machine slept", "the wall clock was set", "time passed"


@pytest.mark.parametrize("seconds", [3599, 3600, 7200, 86_400 * 365])
@pytest.mark.parametrize("how", [SLEPT, STEPPED, BOTH])
async def test_expired_credentials_are_never_served_again(
    autojump_clock: MockClock, machine: Machine, how: str, seconds: float
) -> None:
    async with machine.process():
        await trio.sleep(1)
    machine.sts.error = OUT
    if how is BOTH:
        await trio.sleep(seconds)
    elif how is STEPPED:
        machine.wall.step(seconds)
    else:
        before = machine.boot.now
        machine.boot = machine.boot._replace(now=lambda: before() + seconds)
    async with machine.process() as daemon:
        assert key(daemon) is None
        await trio.sleep(1)
        assert key(daemon) is None
    assert "expired" in machine.logged("saved_credentials_ignored")[0]["reason"]


async def test_wall_clock_set_back_extends_no_saved_credentials(autojump_clock: MockClock, machine: Machine) -> None:
    """Set the clock back while the daemon runs and saves again, and between two processes."""
    async with machine.process():
        await trio.sleep(1)
        machine.sts.error = OUT
        machine.wall.step(-86_400)
        await trio.sleep(60)
    async with machine.process() as daemon:
        assert key(daemon) == "ASIAFAKE0001"
        await trio.sleep(3500)
        assert key(daemon) == "ASIAFAKE0001"
        await trio.sleep(60)
        assert key(daemon) is None
        machine.sts.error = None
        await trio.sleep(120)
        assert key(daemon) is not None
    machine.wall.step(-3600)
    async with machine.process():
        await trio.sleep(1)
    assert "before the time" in machine.logged("saved_credentials_ignored")[0]["reason"]


async def test_credentials_of_another_boot_are_ignored(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(1)
    machine.boot = machine.boot._replace(boot_id="another")
    async with machine.process() as daemon:
        assert key(daemon) is None
        await trio.sleep(1)
        assert key(daemon) == "ASIAFAKE0002"


@pytest.mark.parametrize(
    "changes",
    [
        {"role_arn": "arn:aws:iam::111122223333:role/other"},
        {"session_name": "other"},
        {"duration_seconds": 900},
        {"policy": "{}"},
        {"chain": (ChainStep(ARN),)},
        {"token_file": None},
    ],
)
async def test_credentials_of_another_configuration_are_ignored(
    autojump_clock: MockClock, machine: Machine, changes: dict[str, Any]
) -> None:
    async with machine.process():
        await trio.sleep(1)
    machine.sts.error = OUT
    changes = {name: value or f"{machine.token_file}-other" for name, value in changes.items()}
    async with machine.process(machine.role(**changes)) as daemon:
        assert key(daemon) is None
    assert "configuration" in machine.logged("saved_credentials_ignored")[0]["reason"]


async def test_credentials_of_another_sts_are_ignored(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(1)
    async with machine.process(endpoint_url="https://sts.example") as daemon:
        assert key(daemon) is None


async def test_each_role_has_a_file_and_a_removed_role_has_none(autojump_clock: MockClock, machine: Machine) -> None:
    both = (machine.role(), machine.role("reporting", session_name="x"))
    async with machine.process(*both) as daemon:
        await trio.sleep(1)
        names = {path.name for path in machine.directory.iterdir()}
        assert names == {MAIN, file_name("reporting")}
        daemon.roles.replace([machine.role()])
        await trio.sleep(0.1)
        assert {path.name for path in machine.directory.iterdir()} == {MAIN}
        daemon.roles.replace(both)
        await trio.sleep(CHECK_SECONDS)
        assert {path.name for path in machine.directory.iterdir()} == names
    (machine.directory / f"{MAIN}.draft").write_text("half")
    async with machine.process() as daemon:
        await trio.sleep(1)
        assert {path.name for path in machine.directory.iterdir()} == {MAIN}


async def test_expired_file_is_removed(autojump_clock: MockClock, machine: Machine) -> None:
    async with machine.process():
        await trio.sleep(1)
        machine.sts.error = OUT
        await trio.sleep(3600 + 2 * CHECK_SECONDS)
        assert list(machine.directory.iterdir()) == []


async def test_changed_role_does_not_save_its_old_credentials(autojump_clock: MockClock, machine: Machine) -> None:
    """The daemon still serves the old credentials, but does not save them for the new configuration."""
    async with machine.process() as daemon:
        await trio.sleep(60)
        machine.sts.error = OUT
        daemon.roles.replace([machine.role(duration_seconds=900)])
        await trio.sleep(60)
        assert key(daemon) == "ASIAFAKE0001"
    async with machine.process(machine.role(duration_seconds=900)) as daemon:
        assert key(daemon) is None
