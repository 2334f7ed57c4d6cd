"""Check that the settings are valid, and warn about settings that are probably mistakes. Pure."""

from typing import NamedTuple

from sidecar.doctor.finding import Check, Finding, failed, ok, warning
from sidecar.errors import Explanation
from sidecar.role import Role
from sidecar.sts.endpoint import is_plaintext_beyond_loopback, partition_warning

WHERE = "Correct it where this container's environment is set: its manifest, the webhook's annotations or the shell"


class SettingsFacts(NamedTuple):
    """
    Facts about the settings.

    `problems` are the invalid settings, in the order of the data flow. `warnings` are suspicious settings for the proxy
    and the User-Agent. `sts_url` is None if the settings define no usable STS. `names_role` is true if any setting
    names a role.
    """

    roles: tuple[Role, ...]
    region: str | None
    sts_url: str | None
    names_role: bool
    problems: tuple[Explanation, ...]
    unknown_variables: tuple[Explanation, ...] = ()
    warnings: tuple[Explanation, ...] = ()


def _role(facts: SettingsFacts) -> Finding | None:
    if facts.names_role:
        return None
    return failed(
        "no setting here names a role: AWS_ROLE_ARN with AWS_WEB_IDENTITY_TOKEN_FILE, IRSA_SIDECAR_CONFIG and (for an "
        "application) AWS_CONTAINER_CREDENTIALS_FULL_URI are not set",
        "Run doctor in the sidecar's or the application's container (`kubectl exec POD -c irsa-sidecar -- irsa-sidecar "
        "doctor`), or set AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_REGION here to the same values",
    )


def _values(facts: SettingsFacts) -> Finding:
    if facts.problems:
        first = facts.problems[0]
        return failed(first.problem, first.fix or WHERE)
    named = ", ".join(
        f"{role.name}: {role.role_arn}" if len(facts.roles) > 1 else role.role_arn for role in facts.roles
    )
    return ok(f"{named}, STS at {facts.sts_url}")


def _partition(facts: SettingsFacts) -> Finding | None:
    if facts.region is None or facts.sts_url is None or "amazon" not in facts.sts_url:
        return None
    found = [why for role in facts.roles if (why := partition_warning(role.role_arn, facts.region))]
    return failed(found[0].problem, found[0].fix) if found else None


def _encryption(facts: SettingsFacts) -> Finding | None:
    if facts.sts_url is None or not is_plaintext_beyond_loopback(facts.sts_url):
        return None
    return warning(f"STS is at {facts.sts_url}: the token is sent unencrypted", "Use an https:// address")


def _names(facts: SettingsFacts) -> Finding | None:
    if not facts.unknown_variables:
        return None
    return warning(facts.unknown_variables[0].problem, facts.unknown_variables[0].fix)


def _outbound(facts: SettingsFacts) -> Finding | None:
    if not facts.warnings:
        return None
    return warning(facts.warnings[0].problem, facts.warnings[0].fix)


CHECKS: tuple[Check[SettingsFacts], ...] = (
    Check("role", "does a setting select a role", _role),
    Check("values", "is every setting valid", _values, after=("role",)),
    Check("partition", "are the role and the region in the same partition", _partition, after=("values",)),
    Check("encryption", "is the token sent encrypted", _encryption, after=("values",)),
    Check("outbound", "are NO_PROXY and AWS_SDK_UA_APP_ID valid", _outbound, after=("values",)),
    Check("names", "is every IRSA_SIDECAR_ variable a setting", _names),
)
