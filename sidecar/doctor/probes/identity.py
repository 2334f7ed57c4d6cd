"""Who AWS says the credentials are."""

from collections.abc import Mapping

import trio

from sidecar.doctor.checks.identity import IdentityFacts
from sidecar.doctor.probes import aws
from sidecar.doctor.probes.aws import AwsSettings
from sidecar.doctor.probes.endpoint import Keys
from sidecar.errors import ConfigurationError
from sidecar.sts.request import endpoint_of
from sidecar.sts.settings import read_sts_settings

NO_AWS = "the settings name no region, by which requests are signed, or no STS that can be asked"


async def look(environ: Mapping[str, str], keys: Keys | None, source: str, role_arn: str | None) -> IdentityFacts:
    """`source` says where the credentials came from, `role_arn` whose they should be. Raises nothing."""
    facts = IdentityFacts(source, role_arn)
    if keys is None:
        return facts._replace(left_out="there are no credentials to ask with")
    if not aws.is_here():
        return facts._replace(left_out="needs the package botocore, to sign", how=aws.HOW)
    where = aws_settings(environ)
    if where is None:
        return facts._replace(left_out=NO_AWS)
    caller = await trio.to_thread.run_sync(aws.caller, where, keys, abandon_on_cancel=True)
    return facts._replace(arn=caller.arn, code=caller.code, error=caller.error)


def aws_settings(environ: Mapping[str, str]) -> AwsSettings | None:
    """Where AWS is, as its SDKs read it; None without a region or with an address that cannot be used."""
    try:
        sts = read_sts_settings(environ)
        endpoint_of(sts)
    except ConfigurationError:
        return None
    if sts.region is None:
        return None
    iam_url = environ.get("AWS_ENDPOINT_URL_IAM") or environ.get("AWS_ENDPOINT_URL") or None
    return AwsSettings(sts.region, sts.endpoint_url, iam_url, sts.ca_bundle)
