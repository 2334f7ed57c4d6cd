"""Test the refresh loop of one role with fake clocks, on which hours pass in milliseconds."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.errors import NextStep
from sidecar.refresh import schedule
from tests.support.fakes.exchange import refusal
from tests.support.scene import Scene, running


async def test_refresher_refreshes_at_half_of_the_lifetime(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(1)
        assert scene.key == "ASIAFAKE0001"
        await trio.sleep(3600 * 5)
    assert scene.intervals == [pytest.approx(1800, abs=2)] * 10


async def test_more_than_fifteen_minutes_remain_while_sts_works(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(1)
        for _ in range(200):
            await trio.sleep(61)
            snapshot = scene.refresher.store.valid_snapshot(scene.wall.clock.now())
            assert snapshot is not None
            assert snapshot.expires.wall - scene.wall.time() > 15 * 60


async def test_demanded_refresh_starts_at_once(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(10)
        scene.refresher.refresh_now()
        await trio.sleep(1)
        assert scene.key == "ASIAFAKE0002"
        await trio.sleep(60)
    assert scene.intervals == [pytest.approx(10, abs=1)]


async def test_session_is_named_after_namespace_and_pod(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(3600)
    assert {request.session_name for request in scene.sts.requests} == {"shop.cart-7d4b9c-x2x9z"}


@pytest.mark.parametrize("next_step", list(NextStep))
async def test_failure_keeps_valid_credentials_in_service(
    autojump_clock: MockClock, scene: Scene, next_step: NextStep
) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(1)
        scene.sts.error = refusal("AccessDenied", next_step)
        await trio.sleep(3500)
        assert scene.key == "ASIAFAKE0001"
        await trio.sleep(200)
        assert scene.key is None  # expired credentials are not served
        scene.sts.error = None
        await trio.sleep(schedule.BACK_OFFS[next_step].cap_seconds)
        assert scene.key is not None


@pytest.mark.parametrize("next_step", list(NextStep))
async def test_long_outage_causes_few_attempts_and_log_lines(
    autojump_clock: MockClock, scene: Scene, next_step: NextStep
) -> None:
    scene.write_token()
    scene.sts.error = refusal("Nope", next_step)
    async with running(scene):
        await trio.sleep(21_600)
    back_off = schedule.BACK_OFFS[next_step]
    assert len(scene.sts.called_at) <= 21_600 / (back_off.cap_seconds * (back_off.floor + 1) / 2) + 20
    assert 25 < len(scene.logged("refresh_failed")) < 40  # the first line, and then a reminder line every ten minutes


async def test_missing_token_causes_no_call_to_sts(autojump_clock: MockClock, scene: Scene) -> None:
    async with running(scene):
        await trio.sleep(300)
        assert scene.sts.called_at == []
        assert len(scene.logged("refresh_failed")) == 1
        assert scene.volume.path in scene.logged("refresh_failed")[0]["reason"]
        assert scene.refresher.health.last_error_code == "token_missing"
        scene.write_token()
        await trio.sleep(2)
        assert scene.key == "ASIAFAKE0001"
    assert scene.refresher.health.last_error is None


@pytest.mark.parametrize("content", ["", "  \n", "not.a", "a.b.c", "\x00" * 30])
async def test_partial_token_is_never_sent(autojump_clock: MockClock, scene: Scene, content: str) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(1)
        scene.volume.write(content)
        await trio.sleep(2400)
        assert len(scene.sts.called_at) == 1
        assert scene.key == "ASIAFAKE0001"
        scene.write_token()
        await trio.sleep(2)
        assert scene.key == "ASIAFAKE0002"


async def test_token_is_read_for_each_attempt(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token(jti="first")
    async with running(scene):
        await trio.sleep(1)
        scene.write_token(jti="second")
        await trio.sleep(1900)
    assert len(scene.sts.tokens) == 2
    assert scene.sts.tokens[0] != scene.sts.tokens[1]
    assert len(scene.logged("token_renewed")) == 1


@pytest.mark.parametrize("next_step", [NextStep.REREAD_TOKEN, NextStep.WAIT_FOR_TOKEN])
async def test_new_token_is_tried_at_once_after_a_rejection(
    autojump_clock: MockClock, scene: Scene, next_step: NextStep
) -> None:
    scene.write_token()
    scene.sts.error = refusal("ExpiredTokenException", next_step)
    async with running(scene):
        await trio.sleep(600)
        scene.sts.error = None
        scene.write_token(jti="fresh")
        changed_at = trio.current_time()
        await trio.sleep(schedule.CHECK_SECONDS + schedule.CHANGED_TOKEN_PAUSE_SECONDS)
    assert scene.sts.called_at[-1] - changed_at <= schedule.CHECK_SECONDS + schedule.CHANGED_TOKEN_PAUSE_SECONDS
    assert scene.key is not None


async def test_expired_credentials_are_not_served_after_a_suspend(
    autojump_clock: MockClock,
    scene: Scene,
) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(60)
        scene.wall.step(7200)
        assert scene.key is None
        await trio.sleep(schedule.CHECK_SECONDS + 0.1)
        assert scene.key == "ASIAFAKE0002"
    assert scene.metrics.clock_steps == 1
    assert len(scene.logged("clock_stepped")) == 1


async def test_wall_clock_set_back_does_not_extend_the_lifetime(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(60)
        scene.sts.error = refusal("Unreachable", NextStep.RETRY)
        scene.wall.step(-86_400)
        await trio.sleep(3500)
        assert scene.key == "ASIAFAKE0001"
        await trio.sleep(100)
        assert scene.key is None


async def test_wrong_wall_clock_does_not_change_the_lifetime(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    true_time = scene.wall.time

    def two_hours_ahead() -> float:
        return true_time() + 7200

    scene.sts._now = two_hours_ahead
    async with running(scene):
        await trio.sleep(1)
        assert scene.key == "ASIAFAKE0001"
        scene.sts.error = refusal("Unreachable", NextStep.RETRY)
        await trio.sleep(3580)
        assert scene.key == "ASIAFAKE0001"
        await trio.sleep(40)
        assert scene.key is None
    assert scene.refresher.health.skew_seconds == pytest.approx(7200, abs=1)
    assert scene.logged("clock_skew_detected")


async def test_late_credentials_that_expire_sooner_are_ignored(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(1)
        scene.sts.life_seconds = 600
        await trio.sleep(1850)
        assert scene.key == "ASIAFAKE0001"
    assert scene.logged("older_credentials_ignored")


@pytest.mark.parametrize("sends_date", [True, False])
@pytest.mark.parametrize("ahead_seconds", [1, 600, 3240, 3600, 39_600, 86_400 * 365])
async def test_sts_clock_set_back_leaves_no_gap(
    autojump_clock: MockClock, scene: Scene, ahead_seconds: float, *, sends_date: bool
) -> None:
    """STS's clock was ahead and was then set back, or another STS with the correct time responded."""
    scene.write_token(lifetime_seconds=86_400)
    scene.sts.clock_error, scene.sts.sends_date = ahead_seconds, sends_date or ahead_seconds > 39_600
    async with running(scene):
        await trio.sleep(1)
        scene.sts.clock_error = 0.0
        await has_no_gap(scene, minutes=300)
    assert len(scene.sts.called_at) == pytest.approx(10, abs=1)
    assert not scene.logged("older_credentials_ignored")


@pytest.mark.parametrize("ahead_seconds", [-86_400, -1800, 1800, 7200])
async def test_sts_clock_that_jumps_each_time_leaves_no_gap(
    autojump_clock: MockClock, scene: Scene, ahead_seconds: float
) -> None:
    """Use two STS endpoints with one host name. Only one of them has the correct time."""
    scene.write_token(lifetime_seconds=86_400)
    async with running(scene):
        await trio.sleep(1)
        for _ in range(20):
            scene.sts.clock_error = ahead_seconds - scene.sts.clock_error
            calls = len(scene.sts.called_at)
            while len(scene.sts.called_at) == calls:
                await has_no_gap(scene, minutes=1)
    assert all(1600 < seconds < 2000 for seconds in scene.intervals)


@pytest.mark.parametrize("granted_seconds", [3601, 7200, 43_200])
async def test_session_longer_than_requested_leaves_no_gap(
    autojump_clock: MockClock, scene: Scene, granted_seconds: float
) -> None:
    scene.write_token(lifetime_seconds=86_400)
    scene.sts.life_seconds = granted_seconds
    async with running(scene):
        await trio.sleep(1)
        scene.sts.life_seconds = 3600
        await has_no_gap(scene, minutes=300)
    assert len(scene.sts.called_at) == pytest.approx(10, abs=1)


@pytest.mark.parametrize("granted_seconds", [30, 300, 900])
async def test_ignored_credentials_never_delay_the_next_refresh(
    autojump_clock: MockClock, scene: Scene, granted_seconds: float
) -> None:
    """Let STS grant sessions that expire before the credentials in service, until these credentials have expired."""
    scene.write_token(lifetime_seconds=86_400)
    async with running(scene):
        await trio.sleep(1)
        scene.sts.life_seconds = granted_seconds
        await has_no_gap(scene, minutes=120)
    assert scene.logged("older_credentials_ignored")


async def has_no_gap(scene: Scene, *, minutes: int) -> None:
    for _ in range(minutes * 6):
        await trio.sleep(10)
        assert scene.key is not None


async def test_expired_credentials_do_not_replace_valid_ones(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(1)
        scene.sts.life_seconds = -10
        await trio.sleep(1900)
        assert scene.key == "ASIAFAKE0001"
    assert scene.refresher.health.last_error_code == "MalformedReply"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"aud": ["vault"]}, "vault"),
        ({"exp": None}, "never expires"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"iat": 1_900_000_000}, "future"),
    ],
)
async def test_suspicious_token_is_logged_once_and_tried(
    autojump_clock: MockClock, scene: Scene, changes: dict[str, Any], word: str
) -> None:
    claims = dict(changes)
    claims.setdefault("jti", "x")
    scene.write_token(**claims)
    async with running(scene):
        await trio.sleep(4000)
    warnings = scene.logged("token_claims_suspicious")
    assert len(warnings) == 1
    assert word in warnings[0]["reason"]
    assert len(scene.sts.called_at) == 3


@pytest.mark.parametrize(
    ("age_seconds", "words"),
    [(0, "before the daemon"), (200, "before the daemon"), (299, "before the daemon"), (4000, "was not renewed")],
)
async def test_token_that_is_expired_at_start_is_reported_once(
    autojump_clock: MockClock, scene: Scene, age_seconds: float, words: str
) -> None:
    """STS accepts a token for 300 s after its expiration, so the first exchanges may still succeed."""
    scene.write_token(exp=scene.wall.time() - age_seconds)
    async with running(scene):
        await trio.sleep(10)
    (warning,) = scene.logged("token_claims_suspicious")
    assert "the token expired at " in warning["reason"]
    assert words in warning["reason"]


async def test_valid_token_is_not_reported_at_start(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(10)
    assert scene.logged("token_claims_suspicious") == []


async def test_refresher_has_one_exchange_in_flight(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    scene.sts.latency_seconds = 9.0
    async with running(scene):
        for number in range(50):
            await trio.sleep(1)
            scene.write_token(jti=str(number))
    assert len(scene.sts.called_at) == 1


async def test_first_log_line_of_a_failure_has_all_details(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    async with running(scene):
        await trio.sleep(1)
        scene.sts.error = refusal("AccessDenied", NextStep.WAIT)
        await trio.sleep(1900)
    entry = scene.logged("refresh_failed")[0]
    assert entry["code"] == "AccessDenied"
    assert entry["next_step"] == "wait"
    assert entry["still_serving_until"] == "2027-01-15T09:00:00Z"
    assert scene.metrics.refreshes["default", "AccessDenied"] >= 1


async def test_failure_in_another_chain_step_is_logged_at_once(autojump_clock: MockClock, scene: Scene) -> None:
    scene.write_token()
    denied = refusal("AccessDenied", NextStep.WAIT)
    async with running(scene):
        for error in (denied, denied.in_step(1, "first"), denied.in_step(2, "second")):
            scene.sts.error = error
            await trio.sleep(200)
    failures = scene.logged("refresh_failed")
    assert [entry.get("step") for entry in failures] == [None, 1, 2]
    assert {entry["code"] for entry in failures} == {"AccessDenied"}
    assert scene.outcomes.keys() == {"AccessDenied"}
