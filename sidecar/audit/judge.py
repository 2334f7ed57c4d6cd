"""
Apply the rules to an inventory, and separate the findings that are new from those that people know. Pure.

Rule: an acceptance needs a reason and an end date. After that date the finding is reported again.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sidecar.audit.accepted import Acceptance
from sidecar.audit.finding import SEVERITIES, Finding, Rule, Severity, Subject
from sidecar.audit.inventory import Inventory
from sidecar.audit.relations import Options, Relations
from sidecar.audit.rules.all import RULES
from sidecar.audit.rules.cost import RoleCalls, calls_by_role
from sidecar.doctor.finding import describe_bug


class Totals(NamedTuple):
    """The numbers of objects that the audit read. Only running Pods count."""

    service_accounts: int
    pods: int
    roles: int
    providers: int


class AuditReport(NamedTuple):
    """
    The result of one audit.

    `findings` are the new findings, `known` are the findings in the baseline, and `accepted` are the findings that a
    person accepted. `ended` has the acceptances whose date has passed, and `unused` has the others that match no
    finding. `unread` has the names of the parts that could not be read.
    """

    context: str
    account_id: str
    issuer: str
    read_at: float
    totals: Totals
    findings: tuple[Finding, ...]
    known: tuple[Finding, ...]
    accepted: tuple[Finding, ...]
    unused: tuple[Acceptance, ...]
    ended: tuple[Acceptance, ...]
    unread: tuple[str, ...]
    calls: tuple[RoleCalls, ...]

    def total(self, severity: Severity) -> int:
        """Return the number of findings with this severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def fails(self, threshold: Severity | None) -> bool:
        """Return whether a finding has the threshold's severity or a higher one. None means that nothing fails."""
        if threshold is None:
            return False
        counted = SEVERITIES[: SEVERITIES.index(threshold) + 1]
        return any(finding.severity in counted for finding in self.findings)


def judge(
    inventory: Inventory,
    now: float,
    options: Options,
    acceptances: Sequence[Acceptance] = (),
    baseline: Collection[str] = (),
) -> AuditReport:
    """Return the report. `now` is in Unix seconds, and `baseline` has the fingerprints of an earlier report."""
    relations = Relations(inventory, now, options)
    found = [finding for rule in RULES for finding in _findings(rule, relations)]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    valid = [each for each in acceptances if now < each.until]
    accepted = [finding for finding in found if any(each.matches(finding) for each in valid)]
    hidden = set(accepted)
    others = [finding for finding in found if finding not in hidden]
    cluster, account = inventory.cluster, inventory.account
    return AuditReport(
        context=cluster.context,
        account_id=account.account_id,
        issuer=cluster.issuer,
        read_at=cluster.read_at,
        totals=Totals(
            len(cluster.service_accounts), len(relations.running_pods), len(account.roles), len(account.providers)
        ),
        findings=tuple(finding for finding in others if finding.fingerprint not in baseline),
        known=tuple(finding for finding in others if finding.fingerprint in baseline),
        accepted=tuple(accepted),
        unused=tuple(each for each in valid if not any(each.matches(finding) for finding in found)),
        ended=tuple(each for each in acceptances if now >= each.until),
        unread=tuple(dict.fromkeys(each.part for each in (*cluster.problems, *account.problems))),
        calls=calls_by_role(relations),
    )


def _findings(rule: Rule, relations: Relations) -> Iterable[Finding]:
    """
    Return the rule's findings.

    An object from outside can cause an error in a rule. The error becomes a finding, so that the findings of other
    rules remain visible.
    """
    try:
        return list(rule.findings(relations))
    except Exception as exc:  # noqa: BLE001
        return [Finding(rule.id, Severity.WARNING, Subject("Rule", rule.id), describe_bug(exc), "Report this bug")]
