"""Test that the audit log exceeds no budget, and that its lines cover every response with credentials."""

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
UNKNOWN = Peer(None, None)


class Lines:
    """An audit log that records its lines and the number of wakes."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.wakes = 0
        self.audit = Audit(make_log(self.lines), self.wake)

    def wake(self) -> None:
        self.wakes += 1

    def serve(
        self, role: str, credentials: Snapshot, monotonic: float, address: Address = CLIENT, peer: Peer = UNKNOWN
    ) -> None:
        self.record(Response(200, credentials.response, role, credentials), monotonic, address, peer)

    def deny(self, role: str, reason: str, monotonic: float, peer: Peer = UNKNOWN) -> None:
        self.record(Response(403, b"", role, denial=reason), monotonic, CLIENT, peer)

    def record(self, response: Response, monotonic: float, address: Address = CLIENT, peer: Peer = UNKNOWN) -> None:
        """Record a response as the daemon does: it looks up the client only for a log line."""
        has_line = self.audit.reserve_line(response, monotonic)
        self.audit.record(response._replace(peer=peer) if has_line else response, address)

    def counts(self) -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        for line in self.lines:
            counts[line["role_name"], line["access_key_id"]] += line.get("count", 1)
        return counts


def test_served_credentials_are_logged_without_secrets() -> None:
    lines = Lines()
    lines.serve("default", ONE, 0.0)
    assert lines.lines == [
        {
            "event": "credentials_served",
            "level": "info",
            "role_name": "default",
            "access_key_id": "ASIAONE",
            "expiration": "2027-01-15T09:00:00Z",
            "peer": "127.0.0.1:40000",
        }
    ]
    assert lines.wakes == 0


def test_ipv6_client_is_logged_in_brackets() -> None:
    lines = Lines()
    lines.serve("default", ONE, 0.0, ("::1", 40_000, 0, 0))
    assert lines.lines[0]["peer"] == "[::1]:40000"


def test_responses_over_the_budget_are_counted_by_role_and_key() -> None:
    lines = Lines()
    for _ in range(LINES_A_SECOND):
        lines.serve("default", ONE, 5.0)
    for role, one in (("default", ONE), ("default", ONE), ("default", TWO), ("reporting", ONE)):
        lines.serve(role, one, 5.9)
    assert len(lines.lines) == LINES_A_SECOND
    assert lines.wakes == 1
    lines.audit.flush()
    summed = [(line["role_name"], line["access_key_id"], line["count"]) for line in lines.lines[LINES_A_SECOND:]]
    assert summed == [("default", "ASIAONE", 2), ("default", "ASIATWO", 1), ("reporting", "ASIAONE", 1)]
    assert not any("peer" in line for line in lines.lines[LINES_A_SECOND:])


def test_each_second_has_a_new_budget() -> None:
    lines = Lines()
    for monotonic in (5.0, 6.0):
        for _ in range(LINES_A_SECOND):
            lines.serve("default", ONE, monotonic)
    assert len(lines.lines) == 2 * LINES_A_SECOND
    assert lines.wakes == 0


def test_known_user_and_process_are_logged() -> None:
    lines = Lines()
    for peer in (Peer(1001, 7), Peer(0, None), UNKNOWN):
        lines.serve("default", ONE, 0.0, peer=peer)
    assert [{"uid", "pid"} & line.keys() for line in lines.lines] == [{"uid", "pid"}, {"uid"}, set()]
    assert (lines.lines[0]["uid"], lines.lines[0]["pid"], lines.lines[1]["uid"]) == (1001, 7, 0)


def test_denial_is_a_warning_with_client_and_reason() -> None:
    lines = Lines()
    lines.deny("reporting", "wrong user", 0.0, Peer(1002, 7))
    assert lines.lines == [
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


def test_denials_are_counted_and_have_their_own_budget() -> None:
    lines = Lines()
    for role, reason in [("default", "wrong user")] * 500 + [("default", "no secret"), ("reporting", "wrong user")]:
        lines.deny(role, reason, 5.0)
    assert len(lines.lines) == LINES_A_SECOND
    lines.serve("default", ONE, 5.9)
    assert lines.lines[-1]["event"] == "credentials_served"
    lines.audit.flush()
    summed = [
        (line["event"], line["role_name"], line["reason"], line["count"]) for line in lines.lines[LINES_A_SECOND + 1 :]
    ]
    assert summed == [
        ("request_denied", "default", "wrong user", 500 - LINES_A_SECOND),
        ("request_denied", "default", "no secret", 1),
        ("request_denied", "reporting", "wrong user", 1),
    ]
    assert lines.wakes == 1


def test_other_responses_are_not_logged() -> None:
    lines = Lines()
    for response in (Response(404, b""), Response(503, b"", "default", hold=Hold.CREDENTIALS), Response(499, b"")):
        lines.record(response, 0.0)
    lines.audit.flush()
    assert lines.lines == []


def test_flush_without_counts_writes_no_line() -> None:
    lines = Lines()
    lines.serve("default", ONE, 5.0)
    lines.audit.flush()
    lines.audit.flush()
    assert len(lines.lines) == 1


_RECORD = st.tuples(
    st.sampled_from(["default", "reporting"]), st.sampled_from([ONE, TWO]), st.floats(0, 1.2), st.integers(1, 30)
)


@given(st.lists(_RECORD | st.none(), max_size=60))
def test_every_response_is_logged_once_within_the_budget(
    steps: list[tuple[str, Snapshot, float, int] | None],
) -> None:
    """A step is a number of responses after a pause, or None for a flush. Counted responses wait for the flush."""
    lines, recorded, now = Lines(), Counter[tuple[str, str]](), 100.0
    singles: Counter[int] = Counter()
    flushes_due = 0
    for step in steps:
        before = len(lines.lines)
        if step is None:
            lines.audit.flush()
            flushes_due = lines.wakes
            assert lines.counts() == recorded
            continue
        role, served, pause, times = step
        now += pause
        for _ in range(times):
            lines.serve(role, served, now)
        recorded[role, served.credentials.access_key_id] += times
        singles[int(now)] += len(lines.lines) - before
        # Counted responses have caused one wake.
        assert lines.wakes - flushes_due == (lines.counts() != recorded)
    lines.audit.flush()
    assert lines.counts() == recorded
    assert max(singles.values(), default=0) <= LINES_A_SECOND
    assert "hush" not in str(lines.lines)
