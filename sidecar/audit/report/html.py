"""
Format a report as one HTML page for a browser. Pure.

Rule: the page loads nothing, not even from its own directory, and its Content-Security-Policy allows only the style
sheet and the script inside it, by their hashes. Every text from the report is escaped first for a terminal and then for
HTML, so that invisible and reordering characters are visible.
"""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from importlib.resources import files

from sidecar.audit.finding import SEVERITIES, Finding, Severity, Subject
from sidecar.audit.inventory import Inventory
from sidecar.audit.judge import AuditReport
from sidecar.audit.report.graph import as_svg, graph_of
from sidecar.audit.report.texts import link
from sidecar.audit.rules.cost import RoleCalls
from sidecar.audit.workloads import counted
from sidecar.clock import instant_text
from sidecar.errors import sentences
from sidecar.printable import printable

MAX_TEXT = 2000
"""Longest text of one cell, in characters. Names can have any length, because a Pod's author chooses some of them."""

MAX_NAME = 600
"""Longest name of an object, in characters. Names in Kubernetes have at most 253, and ARNs of roles about 600."""

SMALLEST_SHARE = 0.0001
"""Smallest share of the quota that is shown as a number."""

CLOSED = "default-src 'none'; base-uri 'none'; form-action 'none'"
"""Directives of the Content-Security-Policy that forbid everything. Hashes then allow the page's own parts."""

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{main}</main>
<script>{script}</script>
</body>
</html>
"""


def as_html(report: AuditReport, inventory: Inventory) -> str:
    """Return the page. The graph shows the inventory's ServiceAccounts that have a role."""
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = f"{CLOSED}; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    parts = (_summary(report), _findings(report), _graph(report, inventory), _calls(report.calls), _others(report))
    title = f"Audit of {_text(report.context or 'a cluster')}"
    return _PAGE.format(policy=policy, title=title, style=style, script=script, main="".join(parts))


def _hash(text: str) -> str:
    """Return the source expression of an inline style sheet or script (CSP 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _text(text: str) -> str:
    return escape(printable(text, max_length=MAX_TEXT))


def _summary(report: AuditReport) -> str:
    totals = report.totals
    objects = ", ".join(
        (
            counted(totals.service_accounts, "ServiceAccount"),
            counted(totals.pods, "running Pod"),
            counted(totals.roles, "role"),
            counted(totals.providers, "OIDC provider"),
        )
    )
    counts = "".join(_count(report.total(each), each) for each in SEVERITIES)
    return (
        f"<p>Account {_text(report.account_id or '(not known)')}, issuer {_text(report.issuer or '(not known)')}.</p>\n"
        f"<p>Read at {instant_text(report.read_at)}.</p>\n"
        f'<p class="soft">{objects}.{_known(report)}</p>\n{_unread(report)}<ul class="counts">{counts}</ul>\n'
    )


def _known(report: AuditReport) -> str:
    if not report.accepted and not report.known:
        return ""
    return f" {len(report.accepted)} accepted and {len(report.known)} known findings are at the end."


def _unread(report: AuditReport) -> str:
    names = ", ".join(_text(name) for name in report.unread)
    return f"<p><strong>Not read: {names}.</strong> Rules that need these parts report nothing.</p>\n" if names else ""


def _count(total: int, severity: Severity) -> str:
    noun = severity.value if total == 1 else f"{severity.value}s"
    return f'<li class="{severity.value}"><b>{total}</b> {noun}</li>'


def _findings(report: AuditReport) -> str:
    if not report.findings:
        return "<h2>Findings</h2>\n<p>There are none.</p>\n"
    rows = "".join(_row(finding) for finding in report.findings)
    heads = "".join(f"<th>{title}</th>" for title in ("Severity", "Object", "Problem", "Next step"))
    return (
        f"<h2>Findings</h2>\n{_filters(report)}"
        '<p class="soft" id="shown" role="status"></p>\n'
        f'<table id="findings"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody></table>\n"
    )


def _filters(report: AuditReport) -> str:
    boxes = "".join(
        f'<label><input type="checkbox" name="severity" value="{each.value}" checked>{each.value}</label>'
        for each in SEVERITIES
    )
    categories = sorted({finding.rule.partition(".")[0] for finding in report.findings})
    options = "".join(f'<option value="{escape(each)}">{escape(each)}</option>' for each in categories)
    return (
        f'<form class="filters" hidden>{boxes}<label>Category <select name="category"><option value="">all</option>'
        f'{options}</select></label><label>Search <input type="search" name="search" size="24"></label></form>\n'
    )


def _row(finding: Finding) -> str:
    severity = finding.severity.value
    category = escape(finding.rule.partition(".")[0])
    rule = f'<a href="{escape(link(finding.rule))}" rel="noreferrer">{escape(finding.rule)}</a>'
    return (
        f'<tr class="{severity}" data-severity="{severity}" data-category="{category}"><td class="mark">{severity}</td>'
        f"<td>{_subject(finding.subject)}<br>{rule}</td><td>{_sentence(finding.problem)}</td>"
        f'<td data-label="Next step">{_sentence(finding.next_step)}</td></tr>\n'
    )


def _subject(subject: Subject) -> str:
    name = f"{subject.namespace}/{subject.name}" if subject.namespace else subject.name
    shown = escape(printable(name, max_length=MAX_NAME))
    return f'<span class="kind">{_text(subject.kind)}</span> {shown}'


def _sentence(text: str) -> str:
    """Return the text with a capital letter and a full stop."""
    return sentences(_text(text[:1].upper() + text[1:]))


def _graph(report: AuditReport, inventory: Inventory) -> str:
    graph = graph_of(inventory, (*report.findings, *report.known))
    if not graph.nodes:
        return ""
    omitted = f" {counted(graph.omitted, 'box')} without findings are not drawn." if graph.omitted else ""
    items = "".join(f'<li class="{each.value}">{each.value}</li>' for each in SEVERITIES)
    return (
        "<h2>ServiceAccounts, roles and policies</h2>\n"
        f'<p class="soft">The border of a box shows the worst finding about the object.{omitted}</p>\n'
        f'<ul class="legend">{items}<li>none</li></ul>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Graph">{as_svg(graph)}</div>\n'
    )


def _calls(calls: Iterable[RoleCalls]) -> str:
    rows = "".join(_call_row(each) for each in calls)
    heads = "".join(f'<th class="number">{name}</th>' for name in _COLUMNS)
    if not rows:
        return ""
    return (
        f"<h2>Estimated calls to STS per day</h2>\n<table><thead><tr><th>Role</th>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}</tbody></table>\n"
    )


def _call_row(calls: RoleCalls) -> str:
    cells = "".join(_number(label, cell) for label, cell in zip(_COLUMNS, _cells(calls), strict=True))
    return f"<tr><td>{_text(calls.role_arn)}</td>{cells}</tr>\n"


_COLUMNS = ("Pods", "Calls", "With the longest sessions", "Share of a region's quota")
"""Columns of numbers in the table of calls."""


def _cells(calls: RoleCalls) -> tuple[str, ...]:
    share = calls.share_of_quota
    shown = f"{share:.2%}" if share >= SMALLEST_SHARE else "< 0.01%"
    return (f"{calls.pods:,}", f"{calls.calls_per_day:,}", f"{calls.longest_sessions_per_day:,}", shown)


def _number(label: str, cell: str) -> str:
    return f'<td class="number" data-label="{label}">{escape(cell)}</td>'


def _others(report: AuditReport) -> str:
    parts = []
    for title, findings in (("Accepted findings", report.accepted), ("Known findings", report.known)):
        items = "".join(
            f"<li>{escape(each.rule)}: {_text(str(each.subject))}: {_text(each.problem)}</li>\n" for each in findings
        )
        parts += [f"<h2>{title}</h2>\n<ul>\n{items}</ul>\n"] if items else []
    return "".join(parts)
