"""Test the document of /status: its form, its limits, and the absence of secrets."""

import json
from typing import Any

import pytest

from sidecar.serving import status
from sidecar.serving.status import Client, DaemonStatus, Failure, LastCall, RoleStatus, as_json, state_of

NOW = 1_800_000_000.0

DENIED = Failure("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", needs_person=False)

HEALTHY = RoleStatus(
    name="default",
    role_arn="arn:aws:iam::111122223333:role/cart",
    state=status.READY,
    expires_in_seconds=3120.04,
    next_refresh_in_seconds=1320.0,
    session_seconds=3600,
    token_expires_in_seconds=80_000.0,
    clock_skew_seconds=-0.25,
    last_call=LastCall(status.SUCCESS, 200, 480.0, 0.1234),
    error=None,
    served=12,
    clients=(Client(1000, 7, 60.0), Client(None, None, 120.0)),
)

BROKEN = HEALTHY._replace(
    name="reporting",
    role_arn="arn:aws:iam::111122223333:role/reporting",
    state=status.UNAVAILABLE,
    expires_in_seconds=None,
    next_refresh_in_seconds=30.0,
    session_seconds=None,
    token_expires_in_seconds=None,
    clock_skew_seconds=None,
    last_call=LastCall("AccessDenied", 403, 5.0, 0.05),
    error=DENIED,
    served=0,
    clients=(),
)

DAEMON = DaemonStatus("1.2.3", NOW, 600.0, (HEALTHY, BROKEN))


def document(status: DaemonStatus) -> dict[str, Any]:
    found = json.loads(as_json(status))
    assert isinstance(found, dict)
    return found


def test_document_has_the_documented_form() -> None:
    assert document(DAEMON) == {
        "schema_version": 1,
        "version": "1.2.3",
        "now": "2027-01-15T08:00:00Z",
        "started_at": "2027-01-15T07:50:00Z",
        "uptime_seconds": 600.0,
        "is_available": False,
        "roles": [
            {
                "name": "default",
                "role_arn": "arn:aws:iam::111122223333:role/cart",
                "state": "ready",
                "expires_at": "2027-01-15T08:52:00Z",
                "expires_in_seconds": 3120.0,
                "next_refresh_at": "2027-01-15T08:22:00Z",
                "next_refresh_in_seconds": 1320.0,
                "token_expires_at": "2027-01-16T06:13:20Z",
                "token_expires_in_seconds": 80_000.0,
                "session_seconds": 3600,
                "clock_skew_seconds": -0.2,
                "last_call": {
                    "code": "success",
                    "http_status": 200,
                    "at": "2027-01-15T07:52:00Z",
                    "seconds_ago": 480.0,
                    "duration_seconds": 0.123,
                },
                "error": None,
                "served": 12,
                "clients": [
                    {"uid": 1000, "pid": 7, "last_served_at": "2027-01-15T07:59:00Z", "seconds_ago": 60.0},
                    {"uid": None, "pid": None, "last_served_at": "2027-01-15T07:58:00Z", "seconds_ago": 120.0},
                ],
            },
            {
                "name": "reporting",
                "role_arn": "arn:aws:iam::111122223333:role/reporting",
                "state": "unavailable",
                "expires_at": None,
                "expires_in_seconds": None,
                "next_refresh_at": "2027-01-15T08:00:30Z",
                "next_refresh_in_seconds": 30.0,
                "token_expires_at": None,
                "token_expires_in_seconds": None,
                "session_seconds": None,
                "clock_skew_seconds": None,
                "last_call": {
                    "code": "AccessDenied",
                    "http_status": 403,
                    "at": "2027-01-15T07:59:55Z",
                    "seconds_ago": 5.0,
                    "duration_seconds": 0.05,
                },
                "error": {"code": "AccessDenied", "message": DENIED.message, "needs_person": False},
                "served": 0,
                "clients": [],
            },
        ],
    }


def test_role_before_its_first_call_has_no_call() -> None:
    found = document(DAEMON._replace(roles=(BROKEN._replace(last_call=None, error=None),)))["roles"][0]
    assert (found["last_call"], found["error"]) == (None, None)


def test_text_of_sts_is_escaped_and_limited() -> None:
    hostile = Failure("Ac\x1b[2Jcess", "\u202e" + "x" * 5000, needs_person=True)
    call = LastCall("Ac\x1b[2Jcess", 403, 1.0, 1.0)
    text = as_json(DAEMON._replace(roles=(BROKEN._replace(error=hostile, last_call=call),)))
    found = json.loads(text)["roles"][0]
    assert text.isascii()
    assert found["error"]["code"] == found["last_call"]["code"] == r"Ac\x1b[2Jcess"
    assert found["error"]["message"].startswith(r"\u202e")
    assert len(found["error"]["message"]) == status.MAX_TEXT


STATES = {
    status.READY: (True, None, False),
    status.FAILING: (True, DENIED, False),
    status.STARTING: (False, None, True),
    status.UNAVAILABLE: (False, DENIED, False),
}


@pytest.mark.parametrize("state", STATES)
def test_state_follows_credentials_and_error(state: str) -> None:
    is_valid, error, is_starting = STATES[state]
    assert state_of(is_valid=is_valid, error=error, is_starting=is_starting) == state
    assert HEALTHY._replace(state=state).is_available == is_valid


def test_expired_credentials_are_unavailable_without_an_error() -> None:
    """Check the state after the machine was suspended: the last attempt succeeded, and the credentials expired."""
    assert state_of(is_valid=False, error=None, is_starting=False) == status.UNAVAILABLE
    assert set(STATES) == set(status.STATES)
