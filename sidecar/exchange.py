"""From settings and the token's claims to what is asked of STS: where, as whom, and once if need be."""

from collections.abc import Mapping

from sidecar.config import Role, StsSettings, read_role, read_sts_settings
from sidecar.credentials import Credentials
from sidecar.errors import ConfigurationError, ExchangeError
from sidecar.session_name import check_session_name, session_name
from sidecar.sts import hint
from sidecar.sts_client import ExchangeRequest, StsClient
from sidecar.sts_endpoint import check_endpoint_url, sts_url
from sidecar.token import Token, read_token


def endpoint_of(settings: StsSettings) -> str:
    """The URL of STS: the one that was set, else the region's own. Raises ConfigurationError."""
    if settings.endpoint_url is not None:
        return check_endpoint_url("AWS_ENDPOINT_URL_STS", settings.endpoint_url)
    if settings.region is None:
        raise ConfigurationError(
            "AWS_REGION is not set: it must be the region whose STS to ask, as eu-west-1; an EKS Pod gets it from the "
            "webhook or its manifest."
        )
    return sts_url(settings.region, fips=settings.use_fips, dualstack=settings.use_dualstack)


def open_client(settings: StsSettings) -> StsClient:
    """A client of that STS. Raises ConfigurationError."""
    return StsClient(endpoint_of(settings), ca_bundle=settings.ca_bundle)


def check_role(role: Role) -> Role:
    """The role, if STS can take its session name. Raises ConfigurationError."""
    if role.session_name is not None:
        check_session_name(role.session_name)
    return role


def request_for(role: Role, token: Token) -> ExchangeRequest:
    """
    What to ask for the role with this token.

    The session is named `namespace.pod` unless told otherwise: it stands in CloudTrail and, unlike a timestamp,
    stays the same over refreshes.
    """
    return ExchangeRequest(role.role_arn, role.session_name or _session_name_from(token), role.duration_seconds)


async def once(environ: Mapping[str, str]) -> Credentials:
    """One exchange for a command. Raises ConfigurationError, TokenError, or ExchangeError with advice in it."""
    role = check_role(read_role(environ))
    async with open_client(read_sts_settings(environ)) as client:
        token = read_token(role.token_file)
        try:
            reply = await client.exchange(request_for(role, token), token)
        except ExchangeError as error:
            advice = hint(error.code, error.message)
            raise ExchangeError(error.code, " ".join(filter(None, [error.message, advice])), error.next_step) from error
    return reply.credentials


def _session_name_from(token: Token) -> str:
    if token.namespace and token.pod:
        return session_name(token.namespace, token.pod)
    return session_name(token.subject or "irsa-sidecar")
