"""Test the state of the page, with the events of a session and with hostile texts."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from sidecar.local.conditions import ComparedStatement, Comparison
from sidecar.local.controls import CONTROLS, ActiveFault
from sidecar.local.exchange import Exchange
from sidecar.local.feed import LocalEvent
from sidecar.local.page.state import (
    MAX_CALLS,
    MAX_LINES,
    MAX_SESSIONS,
    PageState,
    after,
    shown_claims,
    shown_controls,
    unchecked,
)
from sidecar.local.sentences import MAX_TEXT
from sidecar.local.trust_policy import default_policy, parse_policy
from tests.support.fakes.clock import EPOCH

HOSTILE = ["<script>alert(1)</script>", "a\u202eevil\x1b[2J\x00", "x" * 10_240, "</script><img src=x onerror=alert(1)>"]


def event(component: Any, name: str, at: float = EPOCH, **fields: Any) -> LocalEvent:
    return LocalEvent(at, component, name, fields)


ROLE, OTHER_ROLE = "arn:aws:iam::111122223333:role/app", "arn:aws:iam::111122223333:role/other"


def state_of(*events: LocalEvent) -> PageState:
    state = PageState((ROLE, OTHER_ROLE))
    for each in events:
        state = after(state, each)
    return state


def exchange(*, is_allowed: bool, compared: tuple[ComparedStatement, ...] = (), role: str = ROLE) -> Exchange:
    return Exchange(role, None, is_allowed, "the reason", compared)


REFRESHED: dict[str, Any] = {"access_key_id": "ASIA1", "expiration": "2026-01-02T04:04:05Z", "refresh_in_seconds": 1800}


def test_refresh_adds_a_session_with_its_refresh_point() -> None:
    state = state_of(event("daemon", "credentials_refreshed", **REFRESHED))
    session = state.sessions[0]
    assert (session.access_key_id, session.started_at, session.refresh_at) == ("ASIA1", EPOCH, EPOCH + 1800)
    assert session.expires_at == 1767326645.0


def test_last_line_of_each_component_is_in_its_box() -> None:
    state = state_of(event("kubelet", "token_renewed"), event("daemon", "token_renewed"), event("STS", "new_thing"))
    assert {name: line.mark for name, line in state.boxes.items()} == {
        "kubelet": "good",
        "daemon": "good",
        "STS": "note",
    }
    assert state.boxes["STS"].text == "new thing"
    assert [line.number for line in state.lines] == [3, 2, 1]


def test_equal_lines_in_a_row_are_one_line() -> None:
    served = event("client", "credentials_served", access_key_id="ASIA1")
    several = event("client", "credentials_served", EPOCH + 9, access_key_id="ASIA1", count=10)
    state = state_of(event("kubelet", "token_renewed"), served, several, event("kubelet", "token_renewed"), served)
    assert [(line.component, line.count) for line in state.lines] == [
        ("client", 1), ("kubelet", 1), ("client", 11), ("kubelet", 1),
    ]  # fmt: skip
    assert state.lines[2].at == EPOCH + 9
    assert len(state.calls) == 3


def test_decision_contains_each_condition() -> None:
    comparisons = (
        Comparison("StringEquals", "i:sub", ("a",), ("b",), holds=False, line=7),
        Comparison("StringEquals", "i:aud", ("x",), ("x",), holds=True),
    )
    compared = (ComparedStatement("Statement 1", is_allow=True, comparisons=comparisons),)
    rejected = event(
        "STS", "request_rejected", code="AccessDenied", exchange=exchange(is_allowed=False, compared=compared)
    )
    decision = state_of(rejected).decisions[ROLE]
    assert (decision.is_allowed, decision.code, decision.is_of_a_token) == (False, "AccessDenied", True)
    conditions = decision.statements[0]["conditions"]
    assert [(each["holds"], each["line"]) for each in conditions] == [(False, 7), (True, None)]


def test_failed_attempts_are_kept_until_the_next_refresh() -> None:
    rejected = event("STS", "request_rejected", code="Throttling", exchange=exchange(is_allowed=False))
    assert state_of(rejected, rejected).failed_at == (EPOCH, EPOCH)
    assert state_of(rejected, event("daemon", "credentials_refreshed", **REFRESHED)).failed_at == ()


def test_unanswered_request_is_a_failed_attempt() -> None:
    unanswered = event("STS", "request_unanswered", operation="AssumeRoleWithWebIdentity", role_arn=ROLE)
    state = state_of(unanswered)
    assert state.failed_at == (EPOCH,)
    assert state.boxes["STS"].text == "sends no response to AssumeRoleWithWebIdentity"


def test_each_role_has_its_own_decision() -> None:
    """The calls for another role are not attempts of the daemon."""
    granted = event("STS", "role_assumed", caller="c", exchange=exchange(is_allowed=True, role=OTHER_ROLE))
    denied = event(
        "STS", "request_rejected", operation="AssumeRole", exchange=exchange(is_allowed=False, role=OTHER_ROLE)
    )
    for name, call in (("granted", granted), ("denied", denied)):
        state = state_of(event("STS", "exchange_granted", exchange=exchange(is_allowed=True)), call)
        assert [each.is_of_a_token for each in state.decisions.values()] == [True, False], name
        assert state.decisions[OTHER_ROLE].is_allowed is (name == "granted")
        assert state.failed_at == ()


@pytest.mark.parametrize("role", ["arn:aws:iam::111122223333:role/unknown", None])
def test_call_for_an_unknown_role_is_only_a_line(role: Any) -> None:
    """Any client of STS chooses the ARN in its request."""
    state = state_of(event("STS", "request_rejected", exchange=exchange(is_allowed=False, role=role)))
    assert (state.decisions, state.failed_at, len(state.lines)) == ({}, (), 1)


def test_calls_show_the_client_and_the_count() -> None:
    served = event("client", "credentials_served", access_key_id="ASIA1", peer="127.0.0.1:9", pid=7, uid=0, count=20)
    call = state_of(served).calls[0]
    assert (call.client, call.count, call.mark) == ("127.0.0.1:9, pid 7, uid 0", 20, "good")


def test_size_of_the_state_is_limited() -> None:
    events = [event("client", "credentials_served"), event("daemon", "credentials_refreshed", **REFRESHED)] * 200
    state = state_of(*events)
    assert (len(state.lines), len(state.calls), len(state.sessions)) == (MAX_LINES, MAX_CALLS, MAX_SESSIONS)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_escaped_and_short(text: str) -> None:
    comparison = Comparison(text, text, (text,), (text,), holds=False)
    statement = ComparedStatement(text, is_allow=True, comparisons=(comparison,), unknown=text)
    fields: dict[str, Any] = {
        "code": text,
        "reason": text,
        "peer": text,
        "access_key_id": text,
        "expiration": text,
        "label": text,
    }
    given = exchange(is_allowed=False, compared=(statement,))._replace(reason=text)
    state = state_of(
        event("STS", "request_rejected", exchange=given, **fields),
        event("client", "request_denied", **fields),
        event("daemon", "credentials_refreshed", **fields),
        event("daemon", text, **fields),
    )
    shown = json.dumps([asdict(state), shown_claims({text: {text: [text]}})], ensure_ascii=False)
    assert not {"\u202e", "\x1b", "\x00"} & set(shown)
    assert "\\u001b" not in shown
    assert "x" * (MAX_TEXT + 1) not in shown


def test_controls_show_the_remaining_seconds() -> None:
    control = CONTROLS["clock-ahead"]
    shown = {each["name"]: each["left_seconds"] for each in shown_controls({"clock": ActiveFault(control, 70.0)}, 30.0)}
    assert shown["clock-ahead"] == 40.0
    assert shown["refresh"] is None


def test_policy_without_a_call_has_no_results() -> None:
    document = default_policy("arn:aws:iam::111122223333:oidc-provider/i", "i", subject="s", audience="a")
    conditions = unchecked(parse_policy(document, "p"))[0]["conditions"]
    assert [(each["key"], each["holds"], each["actual"]) for each in conditions] == [
        ("i:sub", None, None),
        ("i:aud", None, None),
    ]
