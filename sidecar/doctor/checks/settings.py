"""Whether the settings can be read, and whether they are likely meant as they are. Pure."""

from typing import NamedTuple

from sidecar.doctor.finding import Check, Finding, ok, split_advice, warning, wrong
from sidecar.role import Role
from sidecar.sts.endpoint import is_plaintext_beyond_loopback, partition_warning

WHERE = "Correct it where this container's environment is set: its manifest, the webhook's annotations, or the shell"


class SettingsFacts(NamedTuple):
    """
    `problems` are the messages of settings that cannot be used, in the order of the flow.

    `doubts` are about the proxy and the User-Agent. `sts_url` is None where the settings give none.
    `is_told` is false where nothing names a role at all.
    """

    roles: tuple[Role, ...]
    region: str | None
    sts_url: str | None
    is_told: bool
    problems: tuple[str, ...]
    unknown_variables: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def _told(facts: SettingsFacts) -> Finding | None:
    if facts.is_told:
        return None
    return wrong(
        "nothing here names a role: neither AWS_ROLE_ARN with AWS_WEB_IDENTITY_TOKEN_FILE, nor IRSA_SIDECAR_CONFIG, "
        "nor, as in an application's container, AWS_CONTAINER_CREDENTIALS_FULL_URI is set",
        "Run doctor where the sidecar or the application runs (`kubectl exec POD -c irsa-sidecar -- irsa-sidecar "
        "doctor`), or set AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_REGION here as they are there",
    )


def _readable(facts: SettingsFacts) -> Finding:
    if facts.problems:
        seen, advice = split_advice(facts.problems[0])
        return wrong(seen, advice or WHERE)
    named = ", ".join(
        f"{role.name}: {role.role_arn}" if len(facts.roles) > 1 else role.role_arn for role in facts.roles
    )
    return ok(f"{named}, STS at {facts.sts_url}")


def _partition(facts: SettingsFacts) -> Finding | None:
    if facts.region is None or facts.sts_url is None or "amazon" not in facts.sts_url:
        return None
    found = [text for role in facts.roles if (text := partition_warning(role.role_arn, facts.region))]
    return wrong(*split_advice(found[0])) if found else None


def _encrypted(facts: SettingsFacts) -> Finding | None:
    if facts.sts_url is None or not is_plaintext_beyond_loopback(facts.sts_url):
        return None
    return warning(f"STS is asked at {facts.sts_url}, where the token travels unencrypted", "Use an https:// address")


def _known(facts: SettingsFacts) -> Finding | None:
    if not facts.unknown_variables:
        return None
    return warning(facts.unknown_variables[0].removesuffix("."), "Correct its name, or take it out")


def _outbound(facts: SettingsFacts) -> Finding | None:
    if not facts.doubts:
        return None
    seen, _, fix = facts.doubts[0].removesuffix(".").partition(". ")
    return warning(seen, fix or "Correct or remove those entries")


CHECKS: tuple[Check[SettingsFacts], ...] = (
    Check("role", "does anything here name a role", _told),
    Check("values", "can every setting be used", _readable, after=("role",)),
    Check("partition", "are role and region in one partition", _partition, after=("values",)),
    Check("encryption", "does the token travel encrypted", _encrypted, after=("values",)),
    Check("outbound", "do NO_PROXY and the application id work as written", _outbound, after=("values",)),
    Check("names", "is every IRSA_SIDECAR_ variable a setting", _known),
)
