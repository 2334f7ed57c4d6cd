"""Test the limit of the session table, the length of session tokens, and that `repr` shows no secret."""

import os

import pytest

from sidecar.local import sessions
from sidecar.local.roles import IamRole
from sidecar.local.sessions import SessionTable, new_session
from sidecar.local.trust_policy import TrustPolicy

ROLE = IamRole("arn:aws:iam::111122223333:role/app", TrustPolicy(()))


def test_full_table_removes_the_first_session_to_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    table = SessionTable()
    sessions_added = [
        new_session(ROLE, "app", now=0, seconds=seconds, random_bytes=os.urandom) for seconds in (3600, 900, 1800, 7200)
    ]
    for session in sessions_added:
        table.add(session)
    assert [table.get(session.access_key_id) for session in sessions_added] == [
        sessions_added[0],
        None,
        sessions_added[2],
        sessions_added[3],
    ]


def test_repr_of_a_session_contains_no_secret() -> None:
    session = new_session(ROLE, "app", now=0, seconds=900, random_bytes=os.urandom)
    assert session.secret_access_key not in repr(session)
    assert session.session_token not in repr(session)


@pytest.mark.parametrize("characters", [600, 601, 4096])
def test_session_token_has_at_least_the_requested_length(characters: int) -> None:
    session = new_session(ROLE, "app", now=0, seconds=900, random_bytes=os.urandom, token_characters=characters)
    assert characters <= len(session.session_token) < characters + 4
