"""
Find roles and ServiceAccounts that nothing uses. Pure.

Rule: a part of the inventory that could not be read never makes an object count as unused.
"""

from collections.abc import Iterator

from sidecar.audit.finding import Problem, Rule, Severity, Subject
from sidecar.audit.inventory import ASSOCIATIONS, PODS, SERVICE_ACCOUNTS, Role
from sidecar.audit.relations import Relations
from sidecar.audit.workloads import listed

DAY_SECONDS = 86_400


def _role(relations: Relations) -> Iterator[Problem]:
    if not _is_each_name_known(relations):
        return
    for arn in relations.policies:
        if arn not in relations.named_roles:
            accepted = [f"{each.namespace}/{each.name}" for each in relations.accepted[arn]]
            yield Problem(
                Subject("Role", arn),
                "the role trusts this cluster, but no ServiceAccount, Pod or association names it"
                + (f". It accepts {listed(accepted)}" if accepted else ""),
                "Check other users of the role, then delete it or remove this cluster from its trust policy",
            )


def _is_each_name_known(relations: Relations) -> bool:
    """Return whether every object that can name a role was read."""
    are_lists_read = all(map(relations.is_read, (SERVICE_ACCOUNTS, PODS, ASSOCIATIONS)))
    return are_lists_read and all(relations.associated.values())  # the role is empty if the details are not known


def _service_account(relations: Relations) -> Iterator[Problem]:
    if not relations.is_read(PODS):
        return
    for key, role_arn in relations.annotated.items():
        if key not in relations.pods_of:
            yield Problem(
                Subject("ServiceAccount", key[1], key[0]),
                f"its annotation names the role {role_arn}, but no running Pod uses the ServiceAccount. A CronJob may "
                "use the ServiceAccount at times",
                "Delete the ServiceAccount, or remove its annotation",
            )


def _idle_role(relations: Relations) -> Iterator[Problem]:
    days = relations.options.idle_days
    for arn in relations.policies:
        if arn in relations.named_roles and _is_idle(relations, relations.roles[arn]):
            yield Problem(
                Subject("Role", arn),
                f"nobody has used the role in the last {days} days",
                "Check whether its application still needs AWS",
            )


def _is_idle(relations: Relations, role: Role) -> bool:
    if not role.is_detailed or _is_new(relations, role):
        return False
    oldest = relations.now - relations.options.idle_days * DAY_SECONDS
    return role.last_used_at is None or role.last_used_at < oldest


def _is_new(relations: Relations, role: Role) -> bool:
    """Return whether the role is too new to be unused."""
    return role.created_at > relations.now - relations.options.idle_days * DAY_SECONDS


RULES = (
    Rule(
        "unused.role",
        Severity.NOTE,
        "a role trusts the cluster, and nothing in the cluster names it",
        "Everybody who can create Pods with a ServiceAccount that the role trusts can use the role.",
        _role,
    ),
    Rule(
        "unused.service-account",
        Severity.NOTE,
        "a ServiceAccount with a role has no running Pod",
        "Everybody who can create Pods in its namespace can use the role.",
        _service_account,
    ),
    Rule(
        "unused.idle-role",
        Severity.NOTE,
        "nobody has used a role for a long time",
        "IAM reports the last use of a role (RoleLastUsed). The flag `--days` sets the time, 90 days by default.",
        _idle_role,
    ),
)
