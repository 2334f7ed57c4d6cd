"""Format a report as text for a terminal. Pure."""

from collections.abc import Iterator
from itertools import groupby

from sidecar.audit.finding import SEVERITIES, Finding, Severity
from sidecar.audit.judge import AuditReport
from sidecar.audit.report.texts import link
from sidecar.audit.rules.all import RULES
from sidecar.audit.rules.cost import RoleCalls
from sidecar.audit.workloads import counted
from sidecar.clock import instant_text
from sidecar.printable import printable
from sidecar.wrapping import wrapped

MAX_PER_RULE = 20
"""Maximum number of findings of one rule that are shown without --verbose."""

MAX_ROLES = 5
"""Maximum number of roles in the list of calls to STS without --verbose."""

SMALLEST_SHARE = 0.001
"""Smallest share of the quota that is shown."""

_COLOURS = {Severity.ERROR: "1;31", Severity.WARNING: "33", Severity.NOTE: "36"}


def as_text(report: AuditReport, *, width: int, colours: bool, is_verbose: bool = False) -> str:
    """Return a summary, then the findings by rule with their next steps, then the calls to STS."""
    lines = [*_summary(report, colours=colours), ""]
    for rule_id, group in groupby(report.findings, key=lambda finding: finding.rule):
        lines += [*_rule(rule_id, list(group), width, colours=colours, is_verbose=is_verbose), ""]
    lines += _calls(report.calls if is_verbose else report.calls[:MAX_ROLES], len(report.calls))
    return "\n".join(lines).rstrip("\n")


def _summary(report: AuditReport, *, colours: bool) -> Iterator[str]:
    totals = report.totals
    yield printable(
        f"Cluster {report.context or '(not known)'}, account {report.account_id or '(not known)'}, read at "
        f"{instant_text(report.read_at)}"
    )
    yield (
        f"{counted(totals.service_accounts, 'ServiceAccount')}, {counted(totals.pods, 'running Pod')}, "
        f"{counted(totals.roles, 'role')}, {counted(totals.providers, 'OIDC provider')}"
    )
    counts = [
        _painted(counted(report.total(each), each.value), each, colours=colours)
        for each in SEVERITIES
        if report.total(each)
    ]
    others = [f"{len(report.known)} in the baseline"] if report.known else []
    others += [f"{len(report.accepted)} accepted"] if report.accepted else []
    yield f"Findings: {', '.join([*counts, *others]) or 'none'}"
    if report.unread:
        yield printable(f"Not read: {', '.join(report.unread)}. Rules that need these parts report nothing.")
    for each in report.ended:
        yield printable(f"The acceptance in line {each.line} has expired: {each.rule} {each.subject}")
    for each in report.unused:
        yield printable(f"The acceptance in line {each.line} matches no finding: {each.rule} {each.subject}")


def _rule(rule_id: str, findings: list[Finding], width: int, *, colours: bool, is_verbose: bool) -> Iterator[str]:
    title = next((rule.title for rule in RULES if rule.id == rule_id), rule_id)
    severity = findings[0].severity
    first, *others = wrapped(printable(f"{severity.value} {rule_id}: {title} ({len(findings)})"), width)
    yield _painted(severity.value, severity, colours=colours) + first.removeprefix(severity.value)
    yield from others
    yield f"  see {link(rule_id)}"
    shown = findings if is_verbose else findings[:MAX_PER_RULE]
    for finding in shown:
        yield from wrapped(printable(f"{finding.subject}: {finding.problem}"), width, first="  ", later="    ")
        yield from wrapped(printable(f"next: {finding.next_step}"), width, first="    ", later="      ")
    if len(findings) > len(shown):
        yield f"  and {len(findings) - len(shown)} more (--verbose lists them)"


def _calls(calls: tuple[RoleCalls, ...], total: int) -> Iterator[str]:
    if not calls:
        return
    yield "Estimated calls to STS per day, now and with the longest sessions:"
    for each in calls:
        yield printable(
            f"  {each.calls_per_day:>8,} {each.longest_sessions_per_day:>8,}  {each.role_arn} "
            f"({counted(each.pods, 'Pod')}{_share(each)})"
        )
    if total > len(calls):
        yield f"  and {counted(total - len(calls), 'other role')} (--verbose lists them)"


def _share(calls: RoleCalls) -> str:
    """Return the share of the quota, or an empty text if it is negligible."""
    share = calls.share_of_quota
    return f", {share:.1%} of a region's quota" if share >= SMALLEST_SHARE else ""


def _painted(text: str, severity: Severity, *, colours: bool) -> str:
    return f"\x1b[{_COLOURS[severity]}m{text}\x1b[0m" if colours else text
