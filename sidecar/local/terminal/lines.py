"""
Lay out the header and each event as lines for a terminal. Pure.

Rule: every text from outside is escaped before it is laid out, so only our own code writes escape sequences. Each mark
is a sign or a word, and the colour only repeats its meaning.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple

from sidecar.local.conditions import ComparedStatement, Comparison
from sidecar.local.exchange import Exchange
from sidecar.local.feed import LocalEvent
from sidecar.local.sentences import escaped, sentence_of
from sidecar.local.terminal.wrapping import columns, wrap

UNICODE_MARKS = {"good": "✓", "bad": "✗", "note": "·"}
ASCII_MARKS = {"good": "ok", "bad": "no", "note": "--"}
"""The marks for a terminal that cannot show other characters."""

_COLOURS = {"good": "32", "bad": "31", "note": "2", "component": "1", "time": "2"}
"""The SGR parameters of each part (ECMA-48, 8.3.117): green, red, faint, bold."""

_COMPONENT_COLUMNS = len("kubelet")

CLAUSE = "\n"
"""The separator of the clauses of a text. Texts from outside cannot contain it, because they are escaped."""

MAX_KEY_ID_CHARACTERS = 12
"""Maximum number of characters that are shown of a key id. The whole id has 43."""

NARROW_COLUMNS = 60
"""The width below which the text of an event begins on a line of its own."""

_DETAILED: Mapping[str, str] = {
    "credentials_refreshed": "has {access_key_id}, and refreshes at {refresh_at}",
    "exchange_granted": "accepted the token: {access_key_id} until {expires_at}",
    "role_assumed": "issued {access_key_id} of another role to {caller}, until {expires_at}",
    "token_renewed": "wrote a new token, which expires at {expires_at}",
}
"""The sentences with more facts than those on the page, which shows these facts elsewhere."""


class Style(NamedTuple):
    """The abilities of a terminal, its time zone (None: local), and the name of the configuration file, if any."""

    width: int = 80
    is_colour: bool = False
    is_unicode: bool = True
    zone: tzinfo | None = None
    config_name: str | None = None

    def mark(self, kind: str) -> str:
        return (UNICODE_MARKS if self.is_unicode else ASCII_MARKS)[kind]

    def painted(self, text: str, kind: str) -> str:
        return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if self.is_colour else text


class _Part(NamedTuple):
    """One part of a line's beginning: its text, and its kind in _COLOURS, or ""."""

    text: str
    kind: str = ""


def header_lines(urls: Mapping[str, str], style: Style) -> list[str]:
    """Return the lines of the header: a title, and each URL after its name."""
    title = _laid_out([], "irsa-sidecar local runs all of IRSA on this machine.", style)
    label = max(map(len, urls), default=0)
    rows = [
        line
        for name, url in urls.items()
        for line in _laid_out([_Part("  "), _Part(f"{name:<{label}}", "component"), _Part("  ")], escaped(url), style)
    ]
    return [*title, "", *rows, ""]


def event_lines(event: LocalEvent, style: Style) -> list[str]:
    """Return the lines of one event: the component, the time, a mark, a sentence, and the details below."""
    fields = {name: _localized(value, style) for name, value in event.fields.items()}
    if isinstance(seconds := fields.get("refresh_in_seconds"), (int, float)):
        fields["refresh_at"] = _time(event.at + seconds, style)
    sentence = sentence_of(event.component, event.name, fields)
    text = _detailed(event, fields) or sentence.text
    place = [
        _Part(f"{event.component:<{_COMPONENT_COLUMNS}}", "component"),
        _Part("  "),
        _Part(_time(event.at, style), "time"),
    ]
    lines, start, indent = [], [*place, _Part("  ")], [_Part(" " * (_columns(place) + 4))]
    if style.width < NARROW_COLUMNS:
        lines, start, indent = [_painted(place, style)], [_Part("  ")], [_Part("    ")]
    lines += _laid_out([*start, *_mark(sentence.mark, style)], text, style)
    for kind, detail in _details(event, style):
        lines += _laid_out([*indent, *_mark(kind, style)], detail, style)
    return lines


def _detailed(event: LocalEvent, fields: Mapping[str, Any]) -> str | None:
    template = _DETAILED.get(event.name)
    if template is None:
        return None
    try:
        return escaped(template.format_map(fields))
    except KeyError:  # for example, the daemon's event token_renewed has other fields than the kubelet's
        return None


def _laid_out(start: Sequence[_Part], text: str, style: Style) -> list[str]:
    """Return the text, which may have clauses, after the start. Later lines are indented to the same column."""
    taken = _columns(start)
    first, *others = _clauses(text, max(style.width - taken, 1))
    return [f"{_painted(start, style)}{first}", *(" " * taken + line for line in others)]


def _columns(parts: Sequence[_Part]) -> int:
    return sum(columns(part.text) for part in parts)


def _painted(parts: Sequence[_Part], style: Style) -> str:
    return "".join(style.painted(part.text, part.kind) if part.kind else part.text for part in parts)


def _mark(kind: str, style: Style) -> list[_Part]:
    return [_Part(style.mark(kind), kind), _Part(" ")]


def _clauses(text: str, width: int) -> list[str]:
    """Return the text on one line if it fits, or else with each clause on a line of its own."""
    whole = text.replace(CLAUSE, ", ")
    if columns(whole) <= width:
        return [whole]
    return [line for clause in text.split(CLAUSE) for line in wrap(clause, width)]


def _details(event: LocalEvent, style: Style) -> Iterator[tuple[str, str]]:
    """Yield the mark and the text of each line below an event."""
    exchange = event.fields.get("exchange")
    if isinstance(exchange, Exchange) and exchange.compared:
        yield from _signature(exchange)
        yield from _statements(exchange, style)
    elif event.name in {"request_rejected", "refresh_failed"}:
        yield "note", escaped(event.fields.get("reason") or "the reason is not known")


def _signature(exchange: Exchange) -> Iterator[tuple[str, str]]:
    """Yield the check of the signature. STS evaluates a trust policy only after this check succeeded."""
    if exchange.claims is not None:
        key = str(exchange.claims.kid)
        short = f"{key[:MAX_KEY_ID_CHARACTERS]}…" if len(key) > MAX_KEY_ID_CHARACTERS else key
        yield "good", _clauses_of(f"signature is by the key {short}", f"issuer is {exchange.claims.iss}")


def _clauses_of(*texts: str) -> str:
    return CLAUSE.join(escaped(text) for text in texts if text)


def _statements(exchange: Exchange, style: Style) -> Iterator[tuple[str, str]]:
    """Yield the conditions of the statements that denied or allowed the call, or else of all Allow statements."""
    shown = _deciding(exchange)
    for statement in shown:
        if not statement.is_allow:
            yield "bad", escaped(f"{statement.label} denies the call")
        elif len(shown) > 1 or not statement.comparisons:
            yield "note", escaped(f"{statement.label}{'' if statement.comparisons else ' has no condition'}")
        for comparison in statement.comparisons:
            yield "good" if comparison.holds else "bad", _comparison(comparison, exchange, style)
        if statement.unknown:
            yield "bad", escaped(f"{statement.label}: {statement.unknown}")


def _deciding(exchange: Exchange) -> list[ComparedStatement]:
    holding = [each for each in exchange.compared if all(comparison.holds for comparison in each.comparisons)]
    denying = [each for each in holding if not each.is_allow]
    if denying:
        return denying
    if exchange.is_allowed:
        return [each for each in holding if not each.unknown][:1]
    return [each for each in exchange.compared if each.is_allow]


def _comparison(comparison: Comparison, exchange: Exchange, style: Style) -> str:
    operator = "" if comparison.operator == "StringEquals" else f" ({comparison.operator})"
    wanted, actual = " or ".join(comparison.wanted), " and ".join(comparison.actual)
    if not comparison.holds:
        has = f"{_source(exchange)} has {actual or 'no such key'}"
        return _clauses_of(f"{_name(comparison)}{operator} wants {wanted}", has, _place(comparison, style))
    if not actual:
        return _clauses_of(f"{comparison.key} is absent", f"{comparison.operator} accepts this")
    return _clauses_of(f"{_short(comparison.key)} is {actual}", operator and f"policy has {wanted}{operator}")


def _source(exchange: Exchange) -> str:
    return "request" if exchange.claims is None else "token"


def _name(comparison: Comparison) -> str:
    """Return the short name of the key, or the whole key if the request lacks it. The issuer in it may be wrong."""
    return _short(comparison.key) if comparison.actual else comparison.key


def _short(key: str) -> str:
    """Return the claim of a key such as `oidc.example.com/id/A:sub`, or the whole key."""
    issuer, _, claim = key.rpartition(":")
    return claim if claim.lower() in {"aud", "sub", "amr"} and issuer else key


def _place(comparison: Comparison, style: Style) -> str:
    if comparison.line is None or comparison.holds or style.config_name is None:
        return ""
    return f"{style.config_name} line {comparison.line}"


def _time(at: float, style: Style) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone(style.zone).strftime("%H:%M:%S")


def _localized(value: Any, style: Style) -> Any:
    """Return an instant such as `2026-01-02T03:04:05Z` as a time of day. Return other values unchanged."""
    if not isinstance(value, str) or len(value) != len("2026-01-02T03:04:05Z") or not value.endswith("Z"):
        return value
    try:
        return datetime.fromisoformat(value).astimezone(style.zone).strftime("%H:%M:%S")
    except ValueError:
        return value
