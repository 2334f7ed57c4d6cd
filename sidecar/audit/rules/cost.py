"""
Estimate each role's calls to STS per day, and find the roles for which longer sessions would save calls. Pure.

Rule: the estimate for an application with an SDK is a minimum, because each process exchanges the token itself.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sidecar.audit.finding import Problem, Rule, Severity, Subject
from sidecar.audit.inventory import Pod
from sidecar.audit.relations import Identity, Relations, applications_of, identities_of, role_in_use, sidecar_of
from sidecar.audit.workloads import counted
from sidecar.doctor.checks.calls import DAY_SECONDS, calls_per_day
from sidecar.role import LONGEST

QUOTA_PER_SECOND = 600
"""
Quota for signed STS requests of an account in a region (IAM and STS quotas, STS request quotas).

AWS does not publish the quota of AssumeRoleWithWebIdentity. docs/capacity.md uses the same number.
"""

DEFAULT_SESSION_SECONDS = 3600

SDK_CALLS_PER_DAY = 24
"""Minimum number of exchanges of one SDK per day: one for each session of an hour."""

_DURATION = re.compile("[1-9][0-9]{2,5}")
"""Pattern for a duration in seconds. Anybody who can create a Pod can set the variable to any other text."""

WORTHWHILE_CALLS = 100
"""Smallest saving, in calls per day, that is reported."""


class RoleCalls(NamedTuple):
    """The estimated calls of all Pods with one role, now and with the longest session that the role allows."""

    role_arn: str
    pods: int
    calls_per_day: int
    longest_sessions_per_day: int

    @property
    def share_of_quota(self) -> float:
        """The average share of a region's quota that the calls use. A value of 1 means the whole quota."""
        return self.calls_per_day / (QUOTA_PER_SECOND * DAY_SECONDS)


def calls_by_role(relations: Relations) -> tuple[RoleCalls, ...]:
    """Return the calls of each role that a running Pod uses, in descending order of the calls."""
    pods: dict[str, list[Pod]] = {}
    for pod in relations.running_pods:
        role_arn = role_in_use(pod)
        if role_arn:
            pods.setdefault(role_arn, []).append(pod)
    found = (_role_calls(relations, role_arn, some) for role_arn, some in pods.items())
    return tuple(sorted(found, key=lambda each: (-each.calls_per_day, each.role_arn)))


def _role_calls(relations: Relations, role_arn: str, pods: Iterable[Pod]) -> RoleCalls:
    role = relations.roles.get(role_arn)
    longest = role.max_session_seconds if role else DEFAULT_SESSION_SECONDS
    each = [_calls_of(pod, longest) for pod in pods]
    return RoleCalls(role_arn, len(each), sum(each), calls_per_day(longest) * len(each))


def _calls_of(pod: Pod, longest_seconds: int) -> int:
    sidecar = sidecar_of(pod)
    if sidecar is None:
        users = [c for c in applications_of(pod) if Identity.WEB_IDENTITY in identities_of(pod, c) and not c.is_init]
        return SDK_CALLS_PER_DAY * max(len(users), 1)
    values = (v.value for v in sidecar.variables if v.name == "IRSA_SIDECAR_DURATION")
    duration = next(values, None) or ""
    if duration == LONGEST:
        return calls_per_day(longest_seconds)
    return calls_per_day(int(duration) if _DURATION.fullmatch(duration) else DEFAULT_SESSION_SECONDS)


def _longer_sessions(relations: Relations) -> Iterator[Problem]:
    for each in calls_by_role(relations):
        saved = each.calls_per_day - each.longest_sessions_per_day
        if saved >= WORTHWHILE_CALLS and each.role_arn in relations.roles:
            yield Problem(
                Subject("Role", each.role_arn),
                f"about {each.calls_per_day} calls to STS per day for {counted(each.pods, 'Pod')}, but only "
                f"{each.longest_sessions_per_day} with the longest session that the role allows",
                "Set the annotation irsa-sidecar.io/duration to max",
            )


RULES = (
    Rule(
        "cost.longer-sessions",
        Severity.NOTE,
        "longer sessions would save calls to STS",
        "Each call uses a part of the account's quota. Longer sessions also survive a longer outage of STS.",
        _longer_sessions,
    ),
)
