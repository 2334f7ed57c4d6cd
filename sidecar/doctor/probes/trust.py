"""What IAM has for the role and its provider, read with the credentials just got, else with the user's own."""

from collections.abc import Mapping
from functools import partial

import trio

from sidecar.doctor.checks.trust import TrustFacts, provider_arn
from sidecar.doctor.probes import aws
from sidecar.doctor.probes.endpoint import Keys
from sidecar.doctor.probes.identity import NO_AWS, aws_settings

_OWN = ("HOME", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SHARED_CREDENTIALS_FILE")
"""Where a person's own credentials may come from."""

_MAY = "Run doctor with your own credentials of that account, which may iam:GetRole and iam:GetOpenIDConnectProvider"


async def look(environ: Mapping[str, str], facts: TrustFacts, exchanged: Keys | None) -> TrustFacts:
    """`facts` with what IAM says, or why it says nothing. Raises nothing."""
    where = aws_settings(environ)
    if where is None:
        return facts._replace(why_not=NO_AWS)
    if where.sts_url is not None and where.iam_url is None:
        why_not = f"STS at {where.sts_url} is not AWS's own, and AWS_ENDPOINT_URL_IAM is not set"
        return facts._replace(why_not=why_not, how="`irsa-sidecar local` tells on its stderr why it refuses")
    if not aws.is_here():
        return facts._replace(why_not="needs the package botocore", how=aws.HOW)
    facts = facts._replace(why_not="there are no credentials to ask with", how=_MAY)
    own = [None] if any(environ.get(name) for name in _OWN) else []
    for keys in [exchanged, *own] if exchanged else own:
        ask = partial(aws.told_of, facts.role.role_arn, provider_arn(facts), where, keys)
        told = await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
        facts = facts._replace(**told._asdict())
        if told.policy is not None:
            break
    return facts
