"""Test the lines of the header and of each event."""

import re
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.local.conditions import ComparedStatement, Comparison
from sidecar.local.exchange import Exchange, TokenClaims
from sidecar.local.feed import LocalEvent
from sidecar.local.sentences import SENTENCES
from sidecar.local.terminal.lines import Style, event_lines, header_lines
from sidecar.local.terminal.wrapping import columns

PLAIN = Style(zone=UTC, config_name="trust.yaml")
WIDE = PLAIN._replace(width=200)
AT = 1_767_323_045  # 2026-01-02T03:04:05Z
SUB = "system:serviceaccount:default:app"
CLAIMS = TokenClaims("http://127.0.0.1:1", SUB, ("sts.amazonaws.com",), AT + 600, "k" * 43)
GOOD_AUD = Comparison("StringEquals", "127.0.0.1:1:aud", ("sts.amazonaws.com",), ("sts.amazonaws.com",), holds=True)
BAD_SUB = Comparison("StringEquals", "127.0.0.1:1:sub", ("system:x",), (SUB,), holds=False, line=10)
SGR = re.compile(r"\x1b\[[0-9]*m")


def allow(*comparisons: Comparison, label: str = "Statement 1", unknown: str | None = None) -> ComparedStatement:
    return ComparedStatement(label, is_allow=True, comparisons=comparisons, unknown=unknown)


def deny(*comparisons: Comparison) -> ComparedStatement:
    return ComparedStatement("Statement Never", is_allow=False, comparisons=comparisons)


def event(name: str, component: Any = "STS", **fields: Any) -> LocalEvent:
    return LocalEvent(AT, component, name, fields)


def exchange(*compared: ComparedStatement, is_allowed: bool = False, claims: TokenClaims | None = CLAIMS) -> LocalEvent:
    described = Exchange("arn", claims, is_allowed=is_allowed, reason="why", compared=compared)
    if is_allowed:
        fields = {"access_key_id": "ASIA1", "expires_at": "2026-01-02T04:04:05Z"}
        return event("exchange_granted", exchange=described, **fields)
    names = {"operation": "AssumeRoleWithWebIdentity", "code": "AccessDenied", "reason": "why"}
    return event("request_rejected", exchange=described, **names)


def details(shown: LocalEvent, style: Style = WIDE) -> list[str]:
    """Return the lines below the event and its signature, without their indent."""
    return [line.strip() for line in event_lines(shown, style)[2 if shown.fields["exchange"].claims else 1 :]]


def test_event_begins_with_component_time_and_mark() -> None:
    shown = event("token_renewed", "kubelet", path="/token", expires_at="2026-01-02T03:14:05Z")
    assert event_lines(shown, PLAIN) == ["kubelet  03:04:05  ✓ wrote a new token, which expires at 03:14:05"]


def test_granted_exchange_shows_each_condition() -> None:
    assert event_lines(exchange(allow(GOOD_AUD), is_allowed=True), PLAIN) == [
        "STS      03:04:05  ✓ accepted the token: ASIA1 until 04:04:05",
        f"                     ✓ signature is by the key {'k' * 12}…",
        "                       issuer is http://127.0.0.1:1",
        "                     ✓ aud is sts.amazonaws.com",
    ]


def test_rejected_exchange_compares_policy_and_token() -> None:
    assert event_lines(exchange(allow(GOOD_AUD, BAD_SUB)), PLAIN)[3:] == [
        "                     ✓ aud is sts.amazonaws.com",
        "                     ✗ sub wants system:x",
        "                       token has system:serviceaccount:default:app",
        "                       trust.yaml line 10",
    ]
    assert details(exchange(allow(BAD_SUB))) == [f"✗ sub wants system:x, token has {SUB}, trust.yaml line 10"]


def test_condition_for_another_issuer_shows_its_whole_key() -> None:
    missing = Comparison("StringLike", "oidc.other:sub", ("a*", "b*"), (), holds=False)
    assert details(exchange(allow(missing))) == ["✗ oidc.other:sub (StringLike) wants a* or b*, token has no such key"]


def test_pattern_is_shown_beside_the_value_that_it_matches() -> None:
    pattern = Comparison("StringLike", "i:sub", ("system:*",), (SUB,), holds=True)
    assert details(exchange(allow(pattern), is_allowed=True)) == [f"✓ sub is {SUB}, policy has system:* (StringLike)"]


def test_absent_key_that_an_operator_accepts_is_shown() -> None:
    absent = Comparison("StringNotEquals", "sts:ExternalId", ("x",), (), holds=True)
    assert details(exchange(allow(absent), is_allowed=True)) == [
        "✓ sts:ExternalId is absent, StringNotEquals accepts this"
    ]


def test_several_statements_are_shown_with_their_labels() -> None:
    assert details(exchange(allow(BAD_SUB), allow(label="Statement Other", unknown="Bool is not evaluated here")))[
        0::2
    ] == ["· Statement 1", "· Statement Other has no condition"]


def test_only_the_statement_that_allows_is_shown() -> None:
    other = allow(BAD_SUB, label="Statement 2")
    assert details(exchange(other, allow(GOOD_AUD), is_allowed=True)) == ["✓ aud is sts.amazonaws.com"]


def test_only_the_statement_that_denies_is_shown() -> None:
    assert details(exchange(allow(GOOD_AUD), deny(GOOD_AUD)))[0] == "✗ Statement Never denies the call"
    assert details(exchange(allow(BAD_SUB), deny(BAD_SUB)))[0].startswith("✗ sub wants")


def test_rejection_before_the_policy_shows_the_reason() -> None:
    assert event_lines(exchange(), WIDE) == [
        "STS      03:04:05  ✗ rejected AssumeRoleWithWebIdentity: AccessDenied",
        "                     · why",
    ]


def test_chained_call_compares_policy_and_request() -> None:
    external = Comparison("StringEquals", "sts:ExternalId", ("x",), ("y",), holds=False)
    assert details(exchange(allow(external), claims=None)) == ["✗ sts:ExternalId wants x, request has y"]


def test_event_of_a_refresh_shows_key_and_next_refresh() -> None:
    fields = {"access_key_id": "ASIA1", "expiration": "2026-01-02T04:04:05Z", "refresh_in_seconds": 60}
    assert event_lines(event("credentials_refreshed", "daemon", **fields), WIDE) == [
        "daemon   03:04:05  ✓ has ASIA1, and refreshes at 03:05:05"
    ]


def test_colours_change_no_text() -> None:
    shown = exchange(allow(GOOD_AUD, BAD_SUB))
    coloured = event_lines(shown, PLAIN._replace(is_colour=True))
    assert coloured[0].startswith("\x1b[1mSTS    \x1b[0m")
    assert [SGR.sub("", line) for line in coloured] == event_lines(shown, PLAIN)


def test_terminal_without_unicode_gets_ascii_marks() -> None:
    lines = event_lines(exchange(allow(GOOD_AUD, BAD_SUB)), PLAIN._replace(is_unicode=False))
    assert lines[0] == "STS      03:04:05  no rejected AssumeRoleWithWebIdentity: AccessDenied"
    assert "ok aud is sts.amazonaws.com" in "\n".join(lines)


def test_header_lists_each_url_after_its_name() -> None:
    assert header_lines({"issuer": "http://a", "STS": "http://b"}, PLAIN) == [
        "irsa-sidecar local runs all of IRSA on this machine.", "", "  issuer  http://a", "  STS     http://b", "",
    ]  # fmt: skip


def test_narrow_terminal_gets_the_text_on_its_own_line() -> None:
    lines = event_lines(exchange(allow(GOOD_AUD), is_allowed=True), PLAIN._replace(width=30))
    assert lines[:3] == ["STS      03:04:05", "  ✓ accepted the token: ASIA1", "    until 04:04:05"]


NASTY = st.text(st.sampled_from("ab:\n\x1b\x9b\u202e\u200b日\x07\r "), max_size=40)


@pytest.mark.parametrize("width", [40, 80, 120])
@given(NASTY, NASTY, NASTY)
def test_texts_from_outside_cannot_leave_their_lines(width: int, one: str, two: str, three: str) -> None:
    """Check the width of each line, and that no line has a control character."""
    style = PLAIN._replace(width=width, config_name=two)
    comparison = Comparison("StringEquals", f"{one}:sub", (two,), (three,), holds=False, line=1)
    claims = TokenClaims(one, two, (three,), None, three)
    described = Exchange(one, claims, is_allowed=False, reason=two, compared=(allow(comparison, label=three),))
    fields = {"operation": one, "code": two, "reason": three, "exchange": described, "access_key_id": one}
    for name in ("request_rejected", "exchange_granted", one):
        for line in event_lines(event(name, **fields), style):
            assert columns(line) <= width
            assert not set(line) & set("\n\x1b\x9b\u202e\u200b\x07\r")


@pytest.mark.parametrize("component", ["kubelet", "STS", "daemon", "client"])
@pytest.mark.parametrize("name", [*SENTENCES, "an_unknown_event"])
def test_event_without_fields_has_at_most_two_lines(component: str, name: str) -> None:
    lines = event_lines(event(name, component), WIDE)
    assert lines[0].startswith(f"{component:<7}  03:04:05  ")
    assert len(lines) <= 2


def test_invalid_instant_is_shown_unchanged() -> None:
    shown = event("token_renewed", "kubelet", path="/token", expires_at="2026-99-99T99:99:99Z")
    assert event_lines(shown, PLAIN) == [
        "kubelet  03:04:05  ✓ wrote a new token, which expires at 2026-99-99T99:99:99Z"
    ]
