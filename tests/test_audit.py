"""Hand-outs and the lines that tell of them: few enough lines, and no hand-out left out."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit import LINES_A_SECOND, Audit
from sidecar.clock import Instant
from sidecar.credentials import Credentials
from sidecar.store import Snapshot

CLIENT = ("127.0.0.1", 40_000)
EXPIRES_AT = datetime(2027, 1, 15, 9, 0, 0, tzinfo=UTC)


def snapshot(access_key_id: str) -> Snapshot:
    credentials = Credentials(
        access_key_id=access_key_id,
        secret_access_key="hush-secret",
        session_token="hush-session",
        expires_at=EXPIRES_AT,
        role_arn="arn:aws:iam::111122223333:role/cart",
        account_id="111122223333",
    )
    return Snapshot(credentials, b"hush-response", Instant(EXPIRES_AT.timestamp(), 3600.0), 0.0)


ONE, TWO = snapshot("ASIAONE"), snapshot("ASIATWO")


class Lines:
    """What was written, and how often a flush was asked for."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.wakes = 0
        self.audit = Audit(self.write, self.wake)

    def write(self, event: str, **values: Any) -> None:
        assert event == "credentials_handed_out"
        self.lines.append(values)

    def wake(self) -> None:
        self.wakes += 1

    def told(self) -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        for line in self.lines:
            counts[line["role"], line["access_key_id"]] += line.get("count", 1)
        return counts


def test_a_hand_out_is_told_with_who_got_what_and_no_secret() -> None:
    told = Lines()
    told.audit.record("default", ONE, CLIENT, 0.0)
    assert told.lines == [
        {
            "role": "default",
            "access_key_id": "ASIAONE",
            "expiration": "2027-01-15T09:00:00Z",
            "peer": "127.0.0.1:40000",
        }
    ]
    assert told.wakes == 0


def test_an_ipv6_client_is_told_in_brackets() -> None:
    told = Lines()
    told.audit.record("default", ONE, ("::1", 40_000, 0, 0), 0.0)
    assert told.lines[0]["peer"] == "[::1]:40000"


def test_beyond_the_budget_of_a_second_hand_outs_are_summed_by_role_and_key() -> None:
    told = Lines()
    for _ in range(LINES_A_SECOND):
        told.audit.record("default", ONE, CLIENT, 5.0)
    for role, one in (("default", ONE), ("default", ONE), ("default", TWO), ("reporting", ONE)):
        told.audit.record(role, one, CLIENT, 5.9)
    assert len(told.lines) == LINES_A_SECOND
    assert told.wakes == 1
    told.audit.flush()
    summed = [(line["role"], line["access_key_id"], line["count"]) for line in told.lines[LINES_A_SECOND:]]
    assert summed == [("default", "ASIAONE", 2), ("default", "ASIATWO", 1), ("reporting", "ASIAONE", 1)]
    assert not any("peer" in line for line in told.lines[LINES_A_SECOND:])


def test_a_new_second_has_a_new_budget() -> None:
    told = Lines()
    for monotonic in (5.0, 6.0):
        for _ in range(LINES_A_SECOND):
            told.audit.record("default", ONE, CLIENT, monotonic)
    assert len(told.lines) == 2 * LINES_A_SECOND
    assert told.wakes == 0


def test_a_flush_with_nothing_summed_writes_nothing() -> None:
    told = Lines()
    told.audit.record("default", ONE, CLIENT, 5.0)
    told.audit.flush()
    told.audit.flush()
    assert len(told.lines) == 1


_RECORD = st.tuples(
    st.sampled_from(["default", "reporting"]), st.sampled_from([ONE, TWO]), st.floats(0, 1.2), st.integers(1, 30)
)


@given(st.lists(_RECORD | st.none(), max_size=60))
def test_every_hand_out_is_told_once_within_the_budget_and_a_flush_asked_for_while_it_must_be(
    steps: list[tuple[str, Snapshot, float, int] | None],
) -> None:
    """A step is some hand-outs a while after the last ones, or None for a flush."""
    told, recorded, now = Lines(), Counter[tuple[str, str]](), 100.0
    singles: Counter[int] = Counter()
    flushes_due = 0
    for step in steps:
        before = len(told.lines)
        if step is None:
            told.audit.flush()
            flushes_due = told.wakes
            assert told.told() == recorded
            continue
        role, handed_out, pause, times = step
        now += pause
        for _ in range(times):
            told.audit.record(role, handed_out, CLIENT, now)
        recorded[role, handed_out.credentials.access_key_id] += times
        singles[int(now)] += len(told.lines) - before
        # What is held back has been announced, once.
        assert told.wakes - flushes_due == (told.told() != recorded)
    told.audit.flush()
    assert told.told() == recorded
    assert max(singles.values(), default=0) <= LINES_A_SECOND
    assert "hush" not in str(told.lines)
