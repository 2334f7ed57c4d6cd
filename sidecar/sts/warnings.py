"""Find settings of STS and of roles that work but are probably not intended. Pure."""

from collections.abc import Iterable

from sidecar.errors import Explanation
from sidecar.outbound import no_proxy_warning_for
from sidecar.role import Role
from sidecar.sts.endpoint import is_plaintext_beyond_loopback, partition_warning
from sidecar.sts.request import endpoint_of
from sidecar.sts.settings import StsSettings

SHORT_SESSION_SECONDS = 1800
"""
Session duration below which the daemon logs a warning.

AWS SDKs fetch credentials on each use while less than 5 to 15 minutes remain. The daemon refreshes at half of the
session, so a session of 900 s is always within these windows.
"""


def short_session_warning(role: Role) -> Explanation | None:
    """Return a warning if the role's sessions are within the refresh windows of AWS SDKs, else None."""
    seconds = role.chain[-1].duration_seconds if role.chain else role.duration_seconds
    if seconds is None or seconds >= SHORT_SESSION_SECONDS:
        return None
    which = f"the last step of the chain of role {role.name!r}" if role.chain else f"role {role.name!r}"
    return Explanation(
        f"The duration of {which} is {seconds} s, which is within the refresh windows of AWS SDKs, so some of them "
        "fetch credentials for every request",
        fix=f"Use {SHORT_SESSION_SECONDS} s or more",
    )


def warnings_about(roles: Iterable[Role], settings: StsSettings) -> list[Explanation]:
    """
    Return warnings about settings that work but are probably not intended.

    Raises ConfigurationError if the settings do not lead to a URL of STS.
    """
    found = []
    if settings.region is not None and settings.endpoint_url is None:
        arns = [arn for role in roles for arn in (role.role_arn, *(step.role_arn for step in role.chain))]
        found += [partition_warning(arn, settings.region) for arn in dict.fromkeys(arns)]
    if settings.endpoint_url is not None and is_plaintext_beyond_loopback(settings.endpoint_url):
        problem = f"AWS_ENDPOINT_URL_STS is {settings.endpoint_url}: the token is sent unencrypted"
        found.append(Explanation(problem, fix="Use https"))
    found += outbound_warnings(settings)
    return [warning for warning in found if warning]


def outbound_warnings(settings: StsSettings) -> list[Explanation]:
    """
    Return warnings about settings of the proxy and the User-Agent that are probably not intended.

    Raises ConfigurationError if the settings do not lead to a URL of STS.
    """
    found = [no_proxy_warning_for(endpoint_of(settings))]
    if settings.app_id is not None:
        from sidecar.sts.user_agent import app_id_warning  # noqa: PLC0415  only this setting needs it

        found.append(app_id_warning(settings.app_id))
    return [warning for warning in found if warning]
