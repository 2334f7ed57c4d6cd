"""
Show the state of a daemon to a person, as text for curl and as HTML for browsers. Pure.

Rule: the page loads nothing and has no script, and its Content-Security-Policy allows only its own style sheet. Every
text is escaped first for a terminal and then for HTML.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator

from sidecar.clock import instant_text
from sidecar.printable import printable
from sidecar.serving.status import DaemonStatus, LastCall, RoleStatus
from sidecar.serving.status_table import (
    ROLE_COLUMNS,
    ago_text,
    duration_text,
    problem_of,
    role_cells,
    skew_note,
    table_lines,
)
from sidecar.wrapping import wrapped

TEXT_WIDTH = 80
"""The width of the text, in columns, because the width of the reader's terminal is unknown."""

_STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
h1 { font-size: 1.4rem }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .25rem 1rem; margin: 0 }
dt { font-weight: 600 }
dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap }
.ready { color: light-dark(#116329, #56d364) }
.failing, .starting { color: light-dark(#8a4600, #e3b341) }
.unavailable { color: light-dark(#a40e26, #ff7b72) }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HTML_HEADERS = (("Content-Security-Policy", _POLICY), ("Referrer-Policy", "no-referrer"))
"""The headers of the HTML page, besides those of every response."""

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>irsa-sidecar status</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>irsa-sidecar status</h1>
<p>{summary}</p>
{roles}</main>
</body>
</html>
"""

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
"""The replacements of html.escape, whose module would import a table of all entities."""


def wants_html(accept: bytes | None) -> bool:
    """Return whether the client is a browser. curl accepts every type and names none."""
    return any(_accepts_html(media_range) for media_range in (accept or b"").lower().split(b","))


def _accepts_html(media_range: bytes) -> bool:
    """Return whether the range names HTML, and does not exclude it with `q=0` (RFC 9110, section 12.4.2)."""
    name, *parameters = (part.strip() for part in media_range.split(b";"))
    is_excluded = any(each.startswith(b"q=") and not each[2:].strip(b"0.") for each in parameters)
    return name == b"text/html" and not is_excluded


def as_text(status: DaemonStatus, width: int = TEXT_WIDTH) -> str:
    lines = [*wrapped(printable(_summary(status)), width, later=""), ""]
    lines += table_lines(ROLE_COLUMNS, [role_cells(role) for role in status.roles], width)
    for role in status.roles:
        for note in _notes(role):
            lines += ["", *wrapped(printable(f"{role.name}: {note}"), width)]
    return "".join(f"{line}\n" for line in lines)


def as_html(status: DaemonStatus) -> str:
    roles = "".join(_section(role, status.now) for role in status.roles)
    return _PAGE.format(style=_STYLE, summary=_escaped(_summary(status)), roles=roles)


def _summary(status: DaemonStatus) -> str:
    return (
        f"Version {status.version}, started {ago_text(status.uptime_seconds)}. "
        f"The clock of this Pod shows {instant_text(status.now)}."
    )


def _notes(role: RoleStatus) -> Iterator[str]:
    yield from filter(None, (problem_of(role), skew_note(role)))


def _section(role: RoleStatus, now: float) -> str:
    rows = "".join(f"<dt>{_escaped(name)}</dt><dd>{_escaped(value)}</dd>\n" for name, value in _rows(role, now))
    state = _escaped(role.state)
    return f'<h2>{_escaped(role.name)}</h2>\n<dl>\n<dt>State</dt><dd class="{state}">{state}</dd>\n{rows}</dl>\n'


def _rows(role: RoleStatus, now: float) -> Iterator[tuple[str, str]]:
    yield "Role", role.role_arn
    for note in _notes(role):
        yield "Problem", note
    yield "Credentials expire", _instant(role.expires_in_seconds, now)
    yield "Next refresh", _instant(role.next_refresh_in_seconds, now)
    yield "Last call to STS", "none yet" if role.last_call is None else _call(role.last_call, now)
    yield "Token expires", _instant(role.token_expires_in_seconds, now)
    yield "Responses served", str(role.served)
    yield "Last clients", "\n".join(_clients(role)) or "none yet"


def _instant(seconds: float | None, now: float) -> str:
    if seconds is None:
        return "unknown"
    relative = f"in {duration_text(seconds)}" if seconds > 0 else ago_text(-seconds)
    return f"{relative} ({instant_text(now + seconds)})"


def _call(call: LastCall, now: float) -> str:
    status = "no response" if call.http_status is None else f"HTTP {call.http_status}"
    return f"{call.code} ({status}) after {call.duration_seconds:.2f} s, {_instant(-call.seconds_ago, now)}"


def _clients(role: RoleStatus) -> Iterable[str]:
    for client in role.clients:
        uid = "unknown user" if client.uid is None else f"user {client.uid}"
        pid = "" if client.pid is None else f", process {client.pid}"
        yield f"{uid}{pid}, {ago_text(client.seconds_ago)}"


def _escaped(text: str) -> str:
    return printable(text, keep="\n").translate(_ESCAPES)
