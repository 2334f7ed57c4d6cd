"""Test the store: credentials are replaced as a whole, and never by credentials that expire sooner."""

from datetime import UTC, datetime, timedelta

import pytest
import trio

from sidecar.clock import Instant
from sidecar.credentials import Credentials
from sidecar.store import Store

EXPIRES_AT = datetime(2027, 1, 15, 9, 0, 0, tzinfo=UTC)
SET = Credentials("ASIA1", "secret-one", "session-one", EXPIRES_AT, "arn:aws:iam::111122223333:role/a", "111122223333")
ENDS = Instant(EXPIRES_AT.timestamp(), 3600.0)

NOW = Instant(ENDS.wall - 1800, 1800.0)


def render(credentials: Credentials) -> bytes:
    return f"{credentials.access_key_id} {credentials.secret_access_key}".encode()


def test_snapshot_contains_credentials_and_their_response() -> None:
    store = Store(render)
    assert store.snapshot is None
    assert store.replace(SET, ENDS, NOW)
    assert store.snapshot is not None
    assert store.snapshot.response == b"ASIA1 secret-one"
    assert store.snapshot.credentials is SET


SHOWN = [timedelta(days=-1), timedelta(seconds=-1), timedelta(0), timedelta(seconds=1), timedelta(days=1)]
"""The steps of STS's clock between two responses. The Expiration changes by the same time."""


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("seconds", [-1700, -60, -0.5])
def test_replace_ignores_credentials_that_expire_sooner(seconds: float, shown: timedelta) -> None:
    store = Store(render)
    store.replace(SET, ENDS, NOW)
    late = SET._replace(access_key_id="ASIA0", expires_at=EXPIRES_AT + shown)
    assert not store.replace(late, ENDS.later(seconds), NOW)
    assert store.snapshot is not None
    assert store.snapshot.credentials is SET


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("seconds", [0, 0.5, 1800])
def test_replace_accepts_credentials_that_expire_later(seconds: float, shown: timedelta) -> None:
    store = Store(render)
    store.replace(SET, ENDS, NOW)
    newer = SET._replace(access_key_id="ASIA2", expires_at=EXPIRES_AT + shown)
    assert store.replace(newer, ENDS.later(seconds), NOW)
    assert store.snapshot is not None
    assert store.snapshot.credentials is newer


@pytest.mark.parametrize("stepped_seconds", [60, 1700, 3600])
def test_replace_compares_with_the_current_clocks(stepped_seconds: float) -> None:
    """Set the wall clock forward, so that the first credentials seem to expire too early."""
    store, later = Store(render), Instant(NOW.wall + stepped_seconds, NOW.monotonic)
    store.replace(SET, ENDS, NOW)
    same_end = ENDS._replace(wall=ENDS.wall + stepped_seconds)
    assert store.replace(SET._replace(access_key_id="ASIA1"), same_end, later)
    assert store.valid_snapshot(later.later(60)) is not None


@pytest.mark.parametrize("now", [Instant(ENDS.wall, NOW.monotonic), Instant(NOW.wall, ENDS.monotonic)])
def test_replace_treats_credentials_as_expired_on_one_clock(now: Instant) -> None:
    """Let one of the clocks step to the expiration, so that the stored credentials look expired."""
    store = Store(render)
    store.replace(SET, ENDS, NOW)
    shorter = SET._replace(access_key_id="ASIA2", expires_at=EXPIRES_AT - timedelta(seconds=60))
    assert store.replace(shorter, now.later(900), now)
    assert store.valid_snapshot(now) is not None


@pytest.mark.parametrize(
    ("now", "is_alive"),
    [
        (Instant(ENDS.wall - 1, ENDS.monotonic - 1), True),
        (Instant(ENDS.wall, ENDS.monotonic - 3600), False),  # the machine slept, so the monotonic clock stopped
        (Instant(ENDS.wall - 86_400, ENDS.monotonic), False),  # the wall clock was set back
    ],
)
def test_credentials_are_valid_only_on_both_clocks(now: Instant, *, is_alive: bool) -> None:
    store = Store(render)
    store.replace(SET, ENDS, NOW)
    assert (store.valid_snapshot(now) is not None) is is_alive


async def test_waiters_wake_up_when_credentials_arrive(autojump_clock: object) -> None:
    store = Store(render)

    async def put_later() -> None:
        await trio.sleep(5)
        store.replace(SET, ENDS, NOW)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put_later)
        await store.wait_for_next()
    assert store.snapshot is not None
    assert trio.current_time() == pytest.approx(5)


def test_no_repr_shows_a_secret() -> None:
    store = Store(render)
    store.replace(SET, ENDS, NOW)
    shown = repr(store.snapshot) + repr(SET) + str(SET)
    assert "secret-one" not in shown
    assert "session-one" not in shown
