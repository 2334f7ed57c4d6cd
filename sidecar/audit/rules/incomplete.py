"""
Report the unread parts of the inventory, so that a missing permission does not look like a good result. Pure.

Rule: if the whole cluster or the whole account could not be read, the finding is an error. So a job with expired
credentials fails.
"""

from collections.abc import Iterator

from sidecar.audit.finding import Problem, Rule, Severity, Subject
from sidecar.audit.inventory import CALLER, PODS, SERVICE_ACCOUNTS
from sidecar.audit.inventory import Problem as ReadProblem
from sidecar.audit.relations import Relations

CLUSTER = frozenset({SERVICE_ACCOUNTS, PODS})
"""The parts without which the audit knows nothing about a cluster."""


def _source(relations: Relations) -> Iterator[Problem]:
    if relations.unread >= CLUSTER:
        yield _problem(next(each for each in relations.cluster.problems if each.part == SERVICE_ACCOUNTS))
    for each in relations.account.problems:
        if each.part == CALLER:
            yield _problem(each)


def _unread(relations: Relations) -> Iterator[Problem]:
    for each in (*relations.cluster.problems, *relations.account.problems):
        if each.part != CALLER:
            yield _problem(each)


def _problem(unread: ReadProblem) -> Problem:
    return Problem(Subject("Unread", unread.part), unread.reason, unread.fix or "Run the audit again")


RULES = (
    Rule(
        "incomplete.source",
        Severity.ERROR,
        "the cluster or the account could not be read at all",
        "Without this error, a CI job with expired credentials would pass.",
        _source,
    ),
    Rule(
        "incomplete.unread",
        Severity.WARNING,
        "a part of the cluster or the account could not be read",
        "Rules that need this part report nothing. `irsa-sidecar audit --print-policy` prints the IAM permissions, "
        "and the manifests in k8s/audit contain the Kubernetes permissions.",
        _unread,
    ),
)
