"""
Test faults of the clocks, one test for each fault.

STS has its own clock in these tests. A suspend moves both clocks. A change of the wall clock moves only the daemon's
clock.
"""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from sidecar.daemon.served_roles import ServedRole
from sidecar.errors import NextStep
from sidecar.metrics import exposition
from sidecar.refresh.schedule import BACK_OFFS, CHECK_SECONDS
from sidecar.serving.admin import families
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.scene import Scene, make_scene, running

OUT = refusal("Unreachable", NextStep.RETRY)


async def test_wall_clock_jump_ahead_is_handled_within_ten_seconds(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    The wall clock jumps 2 hours ahead after a suspend or a correction.

    The daemon stops serving expired credentials at once and has new credentials within ten seconds.
    """
    for sts_clock in (wall.time, wall.true_time):
        scene = make_scene(wall, volume, FakeExchange(sts_clock))
        scene.write_token()
        async with running(scene):
            for number in range(1, 20):
                await trio.sleep(20 + 0.7 * number)  # each jump happens at another point of the loop

                assert scene.key == f"ASIAFAKE{number:04d}"
                wall.step(7200)
                assert scene.key is None
                await trio.sleep(CHECK_SECONDS + 0.1)
                assert scene.key is not None
        assert scene.metrics.clock_steps == 19
        assert len(scene.sts.called_at) == 20


async def test_wall_clock_set_back_does_not_extend_credentials(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    The wall clock is set back.

    The daemon refreshes within ten seconds. If the refresh fails, the daemon serves the credentials until their true
    expiration.
    """
    scene = make_scene(wall, volume, FakeExchange(wall.true_time))
    scene.write_token()
    async with running(scene):
        await trio.sleep(600)
        wall.step(-86_400)
        assert scene.key == "ASIAFAKE0001"
        await trio.sleep(CHECK_SECONDS + 0.1)
        assert len(scene.sts.called_at) == 2
        assert scene.key == "ASIAFAKE0002"
        renewed_at = scene.sts.called_at[-1]
        scene.sts.error = OUT
        wall.step(-86_400)
        await trio.sleep(renewed_at + 3600 - 2 - trio.current_time())
        assert scene.key == "ASIAFAKE0002"
        await trio.sleep(2)
        assert scene.key is None


async def test_clock_skew_is_corrected_and_shown(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> None:
    """
    The Pod's clock differs from the clock of STS.

    The daemon computes the lifetime from the Date header. A gauge and a warning show the difference.
    """
    for ahead in (-86_400, -7200, 7200, 86_400):
        scene = make_scene(wall, volume, FakeExchange(partial(_shifted, wall, ahead)))
        scene.write_token()
        async with running(scene):
            await trio.sleep(1)
            assert _shown_skew(scene) == pytest.approx(ahead, abs=1)
            scene.sts.error = OUT
            await trio.sleep(3600 - 4)
            assert scene.key == "ASIAFAKE0001"
            await trio.sleep(3)
            assert scene.key is None
        (output,) = scene.logged("clock_skew_detected")
        assert output["seconds"] == pytest.approx(-ahead, abs=1)


async def test_sts_clock_correction_causes_no_gap(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    The clock of STS is ahead, and is then corrected.

    The daemon compares credentials by its own clocks, so it accepts the next credentials without a gap.
    """
    for ahead_seconds in (3240, 7200, 86_400):
        scene = make_scene(wall, volume)
        scene.write_token(lifetime_seconds=86_400)
        scene.sts.clock_error = ahead_seconds
        async with running(scene):
            await trio.sleep(1)
            scene.sts.clock_error = 0.0
            for _ in range(4 * 360):
                await trio.sleep(10)
                assert scene.key is not None
        assert len(scene.sts.called_at) == 9


def _shifted(wall: FakeWall, seconds: float) -> float:
    return wall.true_time() + seconds


def _shown_skew(scene: Scene) -> float:
    """Return the clock skew in the metrics."""
    state = ServedRole(scene.refresher, None, scene.wall.clock).state(scene.wall.clock.now())
    text = exposition(families([state], scene.metrics, 0)).decode()
    return float(text.partition('irsa_sidecar_clock_skew_seconds{role="default"} ')[2].split()[0])


async def test_frozen_process_makes_one_call_after_the_pause(autojump_clock: MockClock, scene: Scene) -> None:
    """
    The process is frozen or gets no CPU time.

    After the pause, the daemon makes one call instead of a call for each missed refresh and retry.
    """
    scene.write_token()
    async with running(scene):
        await trio.sleep(60)
        autojump_clock.jump(7200)
        assert scene.key is None
        await trio.sleep(CHECK_SECONDS)
        assert scene.key == "ASIAFAKE0002"
        assert len(scene.sts.called_at) == 2
        scene.sts.error = OUT
        await trio.sleep(1900)
        before = len(scene.sts.called_at)
        autojump_clock.jump(7200)
        await trio.sleep(BACK_OFFS[NextStep.RETRY].cap_seconds * 0.5)
        assert len(scene.sts.called_at) == before + 1
