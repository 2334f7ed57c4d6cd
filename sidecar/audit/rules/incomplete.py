"""Report the unread parts of the inventory, so that a missing permission does not look like a good result. Pure."""

from collections.abc import Iterator

from sidecar.audit.finding import Problem, Rule, Severity, Subject
from sidecar.audit.relations import Relations


def _unread(relations: Relations) -> Iterator[Problem]:
    for each in (*relations.cluster.problems, *relations.account.problems):
        yield Problem(Subject("Unread", each.part), each.reason, each.fix or "Run the audit again")


RULES = (
    Rule(
        "incomplete.unread",
        Severity.WARNING,
        "a part of the cluster or the account could not be read",
        "Rules that need this part report nothing. `irsa-sidecar audit --print-policy` prints the permissions in IAM, "
        "and k8s/audit has those in Kubernetes.",
        _unread,
    ),
)
