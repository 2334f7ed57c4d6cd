"""Read the role and its provider from IAM, with credentials from the exchange or with the user's own."""

from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

import trio

from sidecar.doctor.checks.trust import TrustFacts, provider_arn
from sidecar.doctor.probes import aws
from sidecar.doctor.probes.caller import NO_AWS, aws_settings
from sidecar.doctor.probes.endpoint import Keys

_USER_VARIABLES = ("HOME", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SHARED_CREDENTIALS_FILE")
"""Variables that botocore uses to find the user's own credentials."""

_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn")
"""The domains of AWS's endpoints, also of interface endpoints without private DNS (AWS PrivateLink guide)."""

_USE_OWN_CREDENTIALS = (
    "Run doctor with credentials of that account that allow iam:GetRole and iam:GetOpenIDConnectProvider"
)


async def collect(environ: Mapping[str, str], facts: TrustFacts, exchanged: Keys | None) -> TrustFacts:
    """
    Return `facts` with IAM's role and provider, or with the reason why these are not known.

    Raises nothing.
    """
    settings = aws_settings(environ)
    if settings is None:
        return facts._replace(unavailable_reason=NO_AWS)
    if settings.iam_url is None and not _is_of_aws(settings.sts_url):
        reason = f"STS at {settings.sts_url} is not AWS's own, and AWS_ENDPOINT_URL_IAM is not set"
        return facts._replace(
            unavailable_reason=reason, fix="`irsa-sidecar local` prints on stderr why it rejects a request"
        )
    if not aws.is_installed():
        return facts._replace(unavailable_reason="this needs the package botocore", fix=aws.INSTALL_BOTOCORE)
    facts = facts._replace(unavailable_reason="there are no credentials to call IAM with", fix=_USE_OWN_CREDENTIALS)
    own = [None] if any(environ.get(name) for name in _USER_VARIABLES) else []
    for keys in [exchanged, *own] if exchanged else own:
        probe = partial(aws.collect_iam_facts, facts.role.role_arn, provider_arn(facts), settings, keys)
        iam = await trio.to_thread.run_sync(probe, abandon_on_cancel=True)
        facts = facts._replace(**iam._asdict())
        if iam.policy is not None:
            break
    return facts


def _is_of_aws(sts_url: str | None) -> bool:
    """Return whether STS is AWS's own. None means the usual endpoint of the region."""
    return sts_url is None or (urlsplit(sts_url).hostname or "").endswith(_AWS_DOMAINS)
