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


def state_of(*events: LocalEvent) -> PageState:
    state = PageState()
    for each in events:
        state = after(state, each)
    return state


def exchange(*, is_allowed: bool, compared: tuple[ComparedStatement, ...] = ()) -> Exchange:
    return Exchange("arn:aws:iam::111122223333:role/app", None, is_allowed, "the reason", compared)


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


def test_decision_contains_each_condition() -> None:
    comparisons = (
        Comparison("StringEquals", "i:sub", ("a",), ("b",), holds=False, line=7),
        Comparison("StringEquals", "i:aud", ("x",), ("x",), holds=True),
    )
    compared = (ComparedStatement("Statement 1", is_allow=True, comparisons=comparisons),)
    rejected = event(
        "STS", "request_rejected", code="AccessDenied", exchange=exchange(is_allowed=False, compared=compared)
    )
    decision = state_of(rejected).decision
    assert decision is not None
    assert (decision.is_allowed, decision.code) == (False, "AccessDenied")
    conditions = decision.statements[0]["conditions"]
    assert [(each["holds"], each["line"]) for each in conditions] == [(False, 7), (True, None)]


def test_failed_attempts_are_kept_until_the_next_refresh() -> None:
    rejected = event("STS", "request_rejected", code="Throttling", exchange=exchange(is_allowed=False))
    assert state_of(rejected, rejected).failed_at == (EPOCH, EPOCH)
    assert state_of(rejected, event("daemon", "credentials_refreshed", **REFRESHED)).failed_at == ()


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
