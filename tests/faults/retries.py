"""Measure the delays between the retries after an error of STS."""

import trio

from sidecar.errors import ExchangeError
from sidecar.refresh.schedule import back_off_for
from tests.support.scene import Scene, running

HOUR_SECONDS = 3600

LAST_MINUTE, LAST_MINUTES = 60, 170
"""The remaining lifetimes, in seconds, at which retries are frequent (schedule.back_off_for)."""


async def retries_after(
    scene: Scene, error: ExchangeError, *, seconds: float, remaining_seconds: float = HOUR_SECONDS / 2
) -> list[float]:
    """
    Return the delays between attempts while each refresh fails with this error, in seconds.

    At the start, the served credentials are valid for `remaining_seconds`. The function checks that the refresher
    serves these credentials until they expire, and that it counts the error and logs it as a warning. After the last
    error, a refresh must succeed within the maximum delay.
    """
    scene.write_token()
    async with running(scene):
        await scene.refresher.first_attempt.wait()
        key = scene.key
        scene.sts.error = error
        scene.wall.step(HOUR_SECONDS - remaining_seconds - 2)
        before = len(scene.sts.called_at)
        await trio.sleep(min(seconds, remaining_seconds - 5))
        assert scene.key == key is not None
        await trio.sleep(seconds - min(seconds, remaining_seconds - 5))
        found = scene.intervals[before:]
        assert scene.outcomes[error.code] == len(found) + 1
        scene.sts.error = None
        longest = max(back_off_for(error.next_step, remaining_seconds).cap_seconds, error.retry_after_seconds or 0)
        await trio.sleep(longest + 2 * scene.sts.latency_seconds)
        assert scene.key not in {key, None}
    assert scene.logged("refresh_failed")[0]["level"] == "warning"
    return found
