"""Hand-outs and the lines that tell of them: few enough lines, and no hand-out left out."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.clock import Instant
from sidecar.credentials import Credentials
from sidecar.serving.audit import LINES_A_SECOND, Address, Audit
from sidecar.serving.container_credentials import Hold, Response
from sidecar.serving.peer import Peer
from sidecar.store import Snapshot
from tests.unit.daemon.test_daemon import make_log

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
NOBODY = Peer(None, None)


class Lines:
    """What was written, and how often a flush was asked for."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.wakes = 0
        self.audit = Audit(make_log(self.lines), self.wake)

    def wake(self) -> None:
        self.wakes += 1

    def hand_out(
        self, role: str, given: Snapshot, monotonic: float, address: Address = CLIENT, peer: Peer = NOBODY
    ) -> None:
        self.answer(Response(200, given.response, role, given), monotonic, address, peer)

    def refuse(self, role: str, reason: str, monotonic: float, peer: Peer = NOBODY) -> None:
        self.answer(Response(403, b"", role, denial=reason), monotonic, CLIENT, peer)

    def answer(self, answer: Response, monotonic: float, address: Address = CLIENT, peer: Peer = NOBODY) -> None:
        """As the daemon does it: who asked is only looked up for what has a line."""
        has_line = self.audit.reserve_line(answer, monotonic)
        self.audit.record(answer._replace(peer=peer) if has_line else answer, address)

    def told(self) -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        for line in self.lines:
            counts[line["role_name"], line["access_key_id"]] += line.get("count", 1)
        return counts


def test_a_hand_out_is_told_with_who_got_what_and_no_secret() -> None:
    told = Lines()
    told.hand_out("default", ONE, 0.0)
    assert told.lines == [
        {
            "event": "credentials_served",
            "level": "info",
            "role_name": "default",
            "access_key_id": "ASIAONE",
            "expiration": "2027-01-15T09:00:00Z",
            "peer": "127.0.0.1:40000",
        }
    ]
    assert told.wakes == 0


def test_an_ipv6_client_is_told_in_brackets() -> None:
    told = Lines()
    told.hand_out("default", ONE, 0.0, ("::1", 40_000, 0, 0))
    assert told.lines[0]["peer"] == "[::1]:40000"


def test_beyond_the_budget_of_a_second_hand_outs_are_summed_by_role_and_key() -> None:
    told = Lines()
    for _ in range(LINES_A_SECOND):
        told.hand_out("default", ONE, 5.0)
    for role, one in (("default", ONE), ("default", ONE), ("default", TWO), ("reporting", ONE)):
        told.hand_out(role, one, 5.9)
    assert len(told.lines) == LINES_A_SECOND
    assert told.wakes == 1
    told.audit.flush()
    summed = [(line["role_name"], line["access_key_id"], line["count"]) for line in told.lines[LINES_A_SECOND:]]
    assert summed == [("default", "ASIAONE", 2), ("default", "ASIATWO", 1), ("reporting", "ASIAONE", 1)]
    assert not any("peer" in line for line in told.lines[LINES_A_SECOND:])


def test_a_new_second_has_a_new_budget() -> None:
    told = Lines()
    for monotonic in (5.0, 6.0):
        for _ in range(LINES_A_SECOND):
            told.hand_out("default", ONE, monotonic)
    assert len(told.lines) == 2 * LINES_A_SECOND
    assert told.wakes == 0


def test_the_user_and_the_process_are_told_as_far_as_they_are_known() -> None:
    told = Lines()
    for peer in (Peer(1001, 7), Peer(0, None), NOBODY):
        told.hand_out("default", ONE, 0.0, peer=peer)
    assert [{"uid", "pid"} & line.keys() for line in told.lines] == [{"uid", "pid"}, {"uid"}, set()]
    assert (told.lines[0]["uid"], told.lines[0]["pid"], told.lines[1]["uid"]) == (1001, 7, 0)


def test_a_refusal_is_a_warning_with_who_asked_and_why() -> None:
    told = Lines()
    told.refuse("reporting", "wrong user", 0.0, Peer(1002, 7))
    assert told.lines == [
        {
            "event": "request_denied",
            "level": "warning",
            "role_name": "reporting",
            "reason": "wrong user",
            "peer": "127.0.0.1:40000",
            "uid": 1002,
            "pid": 7,
        }
    ]


def test_a_flood_of_refusals_is_summed_by_role_and_reason_and_takes_no_line_of_a_hand_out() -> None:
    told = Lines()
    for role, reason in [("default", "wrong user")] * 500 + [("default", "no secret"), ("reporting", "wrong user")]:
        told.refuse(role, reason, 5.0)
    assert len(told.lines) == LINES_A_SECOND
    told.hand_out("default", ONE, 5.9)
    assert told.lines[-1]["event"] == "credentials_served"
    told.audit.flush()
    summed = [
        (line["event"], line["role_name"], line["reason"], line["count"]) for line in told.lines[LINES_A_SECOND + 1 :]
    ]
    assert summed == [
        ("request_denied", "default", "wrong user", 500 - LINES_A_SECOND),
        ("request_denied", "default", "no secret", 1),
        ("request_denied", "reporting", "wrong user", 1),
    ]
    assert told.wakes == 1


def test_an_answer_that_gave_and_refused_nothing_is_no_event() -> None:
    told = Lines()
    for answer in (Response(404, b""), Response(503, b"", "default", hold=Hold.CREDENTIALS), Response(499, b"")):
        told.answer(answer, 0.0)
    told.audit.flush()
    assert told.lines == []


def test_a_flush_with_nothing_summed_writes_nothing() -> None:
    told = Lines()
    told.hand_out("default", ONE, 5.0)
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
            told.hand_out(role, handed_out, now)
        recorded[role, handed_out.credentials.access_key_id] += times
        singles[int(now)] += len(told.lines) - before
        # What is held back has been announced, once.
        assert told.wakes - flushes_due == (told.told() != recorded)
    told.audit.flush()
    assert told.told() == recorded
    assert max(singles.values(), default=0) <= LINES_A_SECOND
    assert "hush" not in str(told.lines)
