"""
Build the request to STS for a role, and its URL, from the settings and the token's claims. Pure.

Rule: the session name is `namespace.pod` unless a setting defines another one. CloudTrail shows the session name.
Unlike a timestamp, the name stays the same over refreshes.
"""

from typing import NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.role import ChainStep, Role
from sidecar.sts.endpoint import FALLBACK_REGIONS, fallback_urls, parse_endpoint_url, sts_url
from sidecar.sts.session_name import from_template, session_name
from sidecar.sts.settings import StsSettings
from sidecar.token import Token


class ExchangeRequest(NamedTuple):
    """The parameters of an exchange for one role, with the session names of its chain."""

    role_arn: str
    session_name: str
    duration_seconds: int
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()
    chain: tuple[ChainStep, ...] = ()

    @property
    def served_seconds(self) -> int:
        """Return the requested duration of the served credentials, which are those of the chain's last step."""
        return self.chain[-1].duration_seconds if self.chain else self.duration_seconds


def endpoint_of(settings: StsSettings) -> str:
    """
    Return the configured URL of STS, or else that of the region.

    Raises ConfigurationError if the URL or region is missing or invalid, or a flag is set together with the URL.
    """
    if settings.endpoint_url is not None:
        url = parse_endpoint_url("AWS_ENDPOINT_URL_STS", settings.endpoint_url)
        _reject_variants(settings)
        return url
    if settings.region is None:
        raise ConfigurationError(
            "AWS_REGION is not set",
            fix="Set it to the region of the STS to call, such as eu-west-1. On EKS, Amazon's webhook sets it. "
            "Elsewhere, set it in the Pod's manifest",
            setting="AWS_REGION",
        )
    return sts_url(settings.region, fips=settings.use_fips, dualstack=settings.use_dualstack)


def _reject_variants(settings: StsSettings) -> None:
    """Raise ConfigurationError for FIPS and dual-stack flags together with a URL, as botocore's endpoint rules do."""
    for name, is_set in (
        ("AWS_USE_FIPS_ENDPOINT", settings.use_fips),
        ("AWS_USE_DUALSTACK_ENDPOINT", settings.use_dualstack),
    ):
        if is_set:
            raise ConfigurationError(
                f"{name} is true and AWS_ENDPOINT_URL_STS is {settings.endpoint_url}, but a configured URL is "
                "used unchanged",
                fix="Unset one of them",
                setting=name,
            )


def fallbacks_of(settings: StsSettings) -> list[str]:
    """
    Return the URLs of STS in the fallback regions, in order.

    Raises ConfigurationError if a region is invalid, or AWS_ENDPOINT_URL_STS is set too.
    """
    if not settings.fallback_regions:
        return []
    if settings.endpoint_url is not None:
        raise ConfigurationError(
            f"{FALLBACK_REGIONS} is {','.join(settings.fallback_regions)} and AWS_ENDPOINT_URL_STS is "
            f"{parse_endpoint_url('AWS_ENDPOINT_URL_STS', settings.endpoint_url)}, but then no "
            "other STS is called",
            fix="Unset one of them",
            setting=FALLBACK_REGIONS,
        )
    first = settings.region or ""
    return fallback_urls(first, settings.fallback_regions, fips=settings.use_fips, dualstack=settings.use_dualstack)


def request_for(role: Role, token: Token, duration_seconds: int) -> ExchangeRequest:
    """Return the request for credentials of the role with this token."""
    name = _session_name(role.session_name, role, token) or _session_name_from(token)
    chain = tuple(
        step._replace(session_name=_session_name(step.session_name, role, token) or name) for step in role.chain
    )
    return ExchangeRequest(role.role_arn, name, duration_seconds, role.policy, role.policy_arns, chain)


def _session_name(template: str | None, role: Role, token: Token) -> str | None:
    """Return the template filled from the token, or else from the Downward API. Return None without a template."""
    if template is None:
        return None
    pod = role.pod_names
    return from_template(
        template,
        {
            "namespace": token.namespace or pod.namespace,
            "service_account": token.service_account or pod.service_account,
            "pod": token.pod or pod.pod,
            "uid": token.pod_uid or pod.uid,
            "role": role.name,
        },
    )


def _session_name_from(token: Token) -> str:
    if token.namespace and token.pod:
        return session_name(token.namespace, token.pod)
    return session_name(token.subject or "irsa-sidecar")
