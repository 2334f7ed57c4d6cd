"""
Compute the state of the page from the events of the feed. Pure.

Rule: the state has a limited size, contains no secret, and all its texts are escaped. The page shows the state and
needs no knowledge of single events.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from sidecar.local.conditions import ComparedStatement, Comparison
from sidecar.local.controls import CONTROLS, ActiveFaults
from sidecar.local.feed import LocalEvent
from sidecar.local.sentences import Mark, escaped, sentence_of
from sidecar.local.trust_policy import TrustPolicy

MAX_LINES, MAX_CALLS, MAX_SESSIONS, MAX_FAILURES = 50, 8, 3, 20
"""Maximum number of events, calls of clients, sessions, and failed attempts that the page shows."""

MAX_CLAIMS = 20
"""Maximum number of rows for the claims of a token. A token of the local issuer has eleven rows."""

_CALLS = frozenset({"credentials_served", "request_denied", "caller_identity_returned"})
_DECISIONS = frozenset({"exchange_granted", "role_assumed", "request_rejected"})
_FAILURES = frozenset({"request_rejected", "request_unanswered"})


@dataclass(frozen=True, slots=True)
class Line:
    """One event as the page shows it. `at` is in Unix seconds. `count` is the number of equal events in a row."""

    number: int
    at: float
    component: str
    text: str
    mark: Mark
    count: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a client. `count` is the number of equal calls that one event reports."""

    at: float
    text: str
    mark: Mark
    client: str
    count: int


@dataclass(frozen=True, slots=True)
class ShownSession:
    """A session of the role in the daemon, with instants in Unix seconds. `refresh_at` is the planned refresh."""

    access_key_id: str
    started_at: float
    refresh_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Decision:
    """
    The last decision of STS about a role. `statements` has the conditions that STS compared.

    `is_of_a_token` is false for AssumeRole, whose callers sign with the credentials of another role.
    """

    at: float
    is_of_a_token: bool
    is_allowed: bool
    code: str | None
    reason: str
    statements: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class PageState:
    """
    The content of the page. Lines, calls and sessions are newest first.

    `boxes` has the last line by component, and `decisions` the last decision by role. `roles` lists the ARNs of the
    roles. The first one is the role of the daemon. Calls for other ARNs are only in the lines.
    """

    roles: tuple[str, ...] = ()
    number: int = 0
    boxes: Mapping[str, Line] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    calls: tuple[Call, ...] = ()
    sessions: tuple[ShownSession, ...] = ()
    failed_at: tuple[float, ...] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)


def after(state: PageState, event: LocalEvent) -> PageState:
    """Return the state after the event."""
    fields = _with_label(event.fields)
    found = sentence_of(event.component, event.name, fields)
    line = Line(state.number + 1, event.at, event.component, found.text, found.mark, _count(fields))
    state = replace(
        state,
        number=line.number,
        boxes={**state.boxes, event.component: line},
        lines=_with_line(state.lines, line)[:MAX_LINES],
    )
    if event.name in _CALLS:
        state = replace(state, calls=(_call(line, fields), *state.calls)[:MAX_CALLS])
    if event.name in _DECISIONS:
        state = _after_decision(state, event.at, fields)
    if event.name in _FAILURES and _role_of(fields) in state.roles[:1]:
        state = replace(state, failed_at=(event.at, *state.failed_at)[:MAX_FAILURES])
    return _after_refresh(state, event) if event.name == "credentials_refreshed" else state


def _with_line(lines: tuple[Line, ...], line: Line) -> tuple[Line, ...]:
    """Return the lines with one more line. A client that calls often must not push all other lines off the page."""
    if lines and (lines[0].component, lines[0].text, lines[0].mark) == (line.component, line.text, line.mark):
        return (replace(line, count=lines[0].count + line.count), *lines[1:])
    return (line, *lines)


def _count(fields: Mapping[str, Any]) -> int:
    """Return the number of equal calls that one event reports."""
    return int(fields.get("count") or 1)


def _with_label(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    control = CONTROLS.get(str(fields.get("control")))
    return fields if control is None else {**fields, "label": control.label}


def _call(line: Line, fields: Mapping[str, Any]) -> Call:
    known = [f"{name} {fields[name]}" for name in ("pid", "uid") if fields.get(name) is not None]
    client = ", ".join([str(fields.get("peer", "")), *known]).strip(", ")
    return Call(line.at, f"{line.component} {line.text}", line.mark, escaped(client), _count(fields))


def _after_refresh(state: PageState, event: LocalEvent) -> PageState:
    refresh_at = event.at + float(event.fields.get("refresh_in_seconds") or 0)
    session = ShownSession(
        escaped(event.fields.get("access_key_id")),
        event.at,
        refresh_at,
        _unix_seconds(event.fields.get("expiration")) or event.at,
    )
    sessions = (session, *state.sessions)[:MAX_SESSIONS]
    return replace(state, sessions=sessions, failed_at=())


def _after_decision(state: PageState, at: float, fields: Mapping[str, Any]) -> PageState:
    role = _role_of(fields)
    if role is None or role not in state.roles:
        return state
    return replace(state, decisions={**state.decisions, role: _decision(at, fields)})


def _role_of(fields: Mapping[str, Any]) -> str | None:
    """Return the ARN of the role that a call names, as the page shows it, or None."""
    exchange = fields.get("exchange")
    arn = fields.get("role_arn") if exchange is None else exchange.role_arn
    return None if arn is None else escaped(arn)


def _decision(at: float, fields: Mapping[str, Any]) -> Decision:
    exchange = fields["exchange"]
    code = fields.get("code")
    return Decision(
        at,
        fields.get("operation") != "AssumeRole" and "caller" not in fields,
        exchange.is_allowed,
        None if code is None else escaped(code),
        escaped(exchange.reason),
        tuple(_statement(each) for each in exchange.compared),
    )


def unchecked(policy: TrustPolicy) -> list[Mapping[str, Any]]:
    """Return the statements of the policy as they are before STS compares them with a token."""
    return [
        _statement(
            ComparedStatement(
                each.label,
                each.is_allow,
                tuple(Comparison(c.text, c.key, c.wanted, (), holds=False, line=c.line) for c in each.conditions),
                each.unknown,
            ),
            is_checked=False,
        )
        for each in policy.statements
    ]


def _statement(statement: ComparedStatement, *, is_checked: bool = True) -> Mapping[str, Any]:
    return {
        "label": escaped(statement.label),
        "effect": "Allow" if statement.is_allow else "Deny",
        "unknown": None if statement.unknown is None else escaped(statement.unknown),
        "conditions": [_comparison(each, is_checked=is_checked) for each in statement.comparisons],
    }


def _comparison(comparison: Comparison, *, is_checked: bool) -> Mapping[str, Any]:
    return {
        "operator": escaped(comparison.operator),
        "key": escaped(comparison.key),
        "wanted": [escaped(each) for each in comparison.wanted],
        "actual": [escaped(each) for each in comparison.actual] if is_checked else None,
        "holds": comparison.holds if is_checked else None,
        "line": comparison.line,
    }


def shown_claims(claims: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return up to MAX_CLAIMS rows of a token's claims. A claim such as `kubernetes.io` has one row per member."""
    rows = [row for name, value in claims.items() for row in _rows(str(name), value)]
    return [(escaped(name), escaped(text)) for name, text in rows[:MAX_CLAIMS]]


def _rows(name: str, value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for member, item in value.items():
            if member != "uid":
                yield from _rows(f"{name} {member}".removesuffix(" name"), item)
    elif isinstance(value, list):
        yield name, ", ".join(str(item) for item in value)
    else:
        yield name, str(value)


def shown_controls(active: ActiveFaults, monotonic: float) -> list[Mapping[str, Any]]:
    """Return the controls, with the seconds until the end of those in progress."""
    left = {fault.control.name: fault.ends_at - monotonic for fault in active.values()}
    return [{**asdict(control), "left_seconds": left.get(name)} for name, control in CONTROLS.items()]


def _unix_seconds(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
