"""Call AWS to determine the role that the credentials belong to."""

from collections.abc import Mapping

import trio

from sidecar.doctor.checks.caller import CallerFacts
from sidecar.doctor.probes import aws
from sidecar.doctor.probes.aws import AwsSettings
from sidecar.doctor.probes.endpoint import Keys
from sidecar.errors import ConfigurationError
from sidecar.sts.request import endpoint_of
from sidecar.sts.settings import read_sts_settings

NO_AWS = "the settings name no region, which signing requires, or no valid STS endpoint"


async def collect(environ: Mapping[str, str], keys: Keys | None, source: str, role_arn: str | None) -> CallerFacts:
    """
    Return the facts about the caller.

    Raises nothing.

    `source` describes the origin of the credentials. `role_arn` is the expected role.
    """
    facts = CallerFacts(source, role_arn)
    if keys is None:
        return facts._replace(skipped="there are no credentials to call AWS with")
    if not aws.is_installed():
        return facts._replace(skipped="signing needs the package botocore", fix=aws.INSTALL_BOTOCORE)
    settings = aws_settings(environ)
    if settings is None:
        return facts._replace(skipped=NO_AWS)
    caller = await trio.to_thread.run_sync(aws.caller, settings, keys, abandon_on_cancel=True)
    return facts._replace(arn=caller.arn, code=caller.code, error=caller.error)


def aws_settings(environ: Mapping[str, str]) -> AwsSettings | None:
    """Return the region and the endpoints that SDKs would use, or None if the region or a valid endpoint is missing."""
    try:
        sts = read_sts_settings(environ)
        endpoint_of(sts)
    except ConfigurationError:
        return None
    if sts.region is None:
        return None
    iam_url = environ.get("AWS_ENDPOINT_URL_IAM") or environ.get("AWS_ENDPOINT_URL") or None
    return AwsSettings(sts.region, sts.endpoint_url, iam_url, sts.ca_bundle)
