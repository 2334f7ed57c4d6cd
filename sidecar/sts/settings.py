"""From settings and the token's claims to what is asked of STS: where, as whom, and once if need be."""

from collections.abc import Iterable, Mapping

from sidecar.config.settings import StsSettings, read_role, read_sts_settings, role_defaults
from sidecar.credentials import Credentials
from sidecar.errors import ConfigurationError, ExchangeError, SidecarError
from sidecar.file_thread import in_thread
from sidecar.outbound import no_proxy_warning_for
from sidecar.role import Role
from sidecar.sts.client import ExchangeRequest, StsClient
from sidecar.sts.endpoint import (
    FALLBACK_REGIONS,
    check_endpoint_url,
    check_partition,
    fallback_urls,
    is_plaintext_beyond_loopback,
    sts_url,
)
from sidecar.sts.session_name import from_template, session_name
from sidecar.sts.wire import Operation, hint
from sidecar.token import Token, read_token

DEFAULT_DURATION_SECONDS = 3600
"""For one exchange of a command: STS's own default, which every role allows."""


def endpoint_of(settings: StsSettings) -> str:
    """The URL of STS: the one that was set, else the region's own. Raises ConfigurationError."""
    if settings.endpoint_url is not None:
        url = check_endpoint_url("AWS_ENDPOINT_URL_STS", settings.endpoint_url)
        _refuse_variants_of(settings)
        return url
    if settings.region is None:
        raise ConfigurationError(
            "AWS_REGION is not set: it must be the region whose STS to ask, as eu-west-1; an EKS Pod gets it from the "
            "webhook or its manifest."
        )
    return sts_url(settings.region, fips=settings.use_fips, dualstack=settings.use_dualstack)


def _refuse_variants_of(settings: StsSettings) -> None:
    """As botocore's endpoint rules do: a URL that was given is neither made FIPS nor dual-stack."""
    for name, is_set in (
        ("AWS_USE_FIPS_ENDPOINT", settings.use_fips),
        ("AWS_USE_DUALSTACK_ENDPOINT", settings.use_dualstack),
    ):
        if is_set:
            raise ConfigurationError(
                f"{name} is true and AWS_ENDPOINT_URL_STS is {settings.endpoint_url}: unset one, since a URL that is "
                "given is used as it is."
            )


def fallbacks_of(settings: StsSettings) -> list[str]:
    """The URLs of STS in the regions to turn to when the first is out. Raises ConfigurationError."""
    if not settings.fallback_regions:
        return []
    if settings.endpoint_url is not None:
        raise ConfigurationError(
            f"{FALLBACK_REGIONS} is {','.join(settings.fallback_regions)} and AWS_ENDPOINT_URL_STS is "
            f"{check_endpoint_url('AWS_ENDPOINT_URL_STS', settings.endpoint_url)}: unset one, since a URL that is "
            "given is the only one that is asked."
        )
    first = settings.region or ""
    return fallback_urls(first, settings.fallback_regions, fips=settings.use_fips, dualstack=settings.use_dualstack)


def open_client(settings: StsSettings) -> StsClient:
    """A client of that STS. Raises ConfigurationError."""
    return StsClient(
        endpoint_of(settings), region=settings.region, ca_bundle=settings.ca_bundle, app_id=settings.app_id
    )


def request_for(role: Role, token: Token, duration_seconds: int) -> ExchangeRequest:
    """
    What to ask for the role with this token.

    The session is named `namespace.pod` unless told otherwise: it stands in CloudTrail and, unlike a timestamp,
    stays the same over refreshes.
    """
    name = _session_name(role.session_name, role, token) or _session_name_from(token)
    chain = tuple(
        step._replace(session_name=_session_name(step.session_name, role, token) or name) for step in role.chain
    )
    return ExchangeRequest(role.role_arn, name, duration_seconds, role.policy, role.policy_arns, chain)


SHORT_SESSION_SECONDS = 1800
"""
Sessions below this are warned about. AWS SDKs fetch credentials again on each use while less than 5 to 15 minutes are
left, and the daemon refreshes at half of the session: with 900 s, all of it is within these windows.
"""


def short_session_warning(role: Role) -> str | None:
    """Return a sentence if the role's sessions lie within the refresh windows of AWS SDKs."""
    seconds = role.chain[-1].duration_seconds if role.chain else role.duration_seconds
    if seconds is None or seconds >= SHORT_SESSION_SECONDS:
        return None
    which = f"the last step of the chain of role {role.name!r}" if role.chain else f"role {role.name!r}"
    return (
        f"The duration of {which} is {seconds} s, which is within the refresh windows of AWS SDKs, so some of them "
        f"fetch credentials for every request. Use {SHORT_SESSION_SECONDS} s or more."
    )


def warnings_about(roles: Iterable[Role], settings: StsSettings) -> list[str]:
    """Sentences about settings that work but are likely not meant."""
    found = []
    if settings.region is not None and settings.endpoint_url is None:
        arns = [arn for role in roles for arn in (role.role_arn, *(step.role_arn for step in role.chain))]
        found += [check_partition(arn, settings.region) for arn in dict.fromkeys(arns)]
    if settings.endpoint_url is not None and is_plaintext_beyond_loopback(settings.endpoint_url):
        found.append(f"AWS_ENDPOINT_URL_STS is {settings.endpoint_url}: the token travels unencrypted; use https.")
    found += outbound_warnings(settings)
    return [sentence for sentence in found if sentence]


def outbound_warnings(settings: StsSettings) -> list[str]:
    """
    Return sentences about the proxy and the User-Agent that work, but are likely not meant.

    Raises ConfigurationError if the settings give no STS.
    """
    found = [no_proxy_warning_for(endpoint_of(settings))]
    if settings.app_id is not None:
        from sidecar.sts.user_agent import app_id_warning  # noqa: PLC0415  for those who set one

        found.append(app_id_warning(settings.app_id))
    return [sentence for sentence in found if sentence]


def explained(error: ExchangeError) -> str:
    """What STS said, and what a person does about it."""
    operation = Operation.ASSUME_ROLE if error.step else Operation.ASSUME_ROLE_WITH_WEB_IDENTITY
    advice = hint(error.code, error.message, operation)
    return f"{str(error).removesuffix('.')}. {advice}" if advice else str(error)


async def once(environ: Mapping[str, str]) -> Credentials:
    """One exchange for a command. Raises SidecarError with the next step for a person in it."""
    from sidecar.config.checks import all_reported  # noqa: PLC0415  for one exchange of a command

    with all_reported(environ):
        role = read_role(environ, role_defaults(environ))
        client = open_client(read_sts_settings(environ))
    async with client:
        token = await in_thread(role.token_file, read_token, role.token_file)  # a volume that hangs has a deadline
        try:
            reply = await client.exchange(request_for(role, token, DEFAULT_DURATION_SECONDS), token)
        except ExchangeError as error:
            raise SidecarError(explained(error)) from error
    return reply.credentials


def _session_name(template: str | None, role: Role, token: Token) -> str | None:
    """The name that was asked for, its fields filled from the token first, which is signed, and then from the Pod."""
    if template is None:
        return None
    told = role.pod_names
    return from_template(
        template,
        {
            "namespace": token.namespace or told.namespace,
            "service_account": token.service_account or told.service_account,
            "pod": token.pod or told.pod,
            "uid": token.pod_uid or told.uid,
            "role": role.name,
        },
    )


def _session_name_from(token: Token) -> str:
    if token.namespace and token.pod:
        return session_name(token.namespace, token.pod)
    return session_name(token.subject or "irsa-sidecar")
