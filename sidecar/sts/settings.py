"""
Read the settings of STS from the variables that the AWS SDKs read. Pure.

Rule: the module imports little, because the daemon imports it before it binds the listener.
"""

from collections.abc import Mapping
from typing import NamedTuple

from sidecar.errors import ConfigurationError


class StsSettings(NamedTuple):
    """
    The STS that the daemon calls, and the certificate authorities that it trusts.

    `fallback_regions` are called in this order during an outage of the first region. `app_id` is the application's name
    for the User-Agent, exactly as configured.
    """

    region: str | None
    endpoint_url: str | None
    use_fips: bool
    use_dualstack: bool
    ca_bundle: str | None
    fallback_regions: tuple[str, ...] = ()
    app_id: str | None = None


def read_sts_settings(environ: Mapping[str, str], *, fallback_regions: tuple[str, ...] = ()) -> StsSettings:
    """
    Return the settings of STS as the SDKs read them.

    Raises ConfigurationError if a value is invalid.
    """
    return StsSettings(
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None,
        endpoint_url=read_endpoint_url(environ),
        use_fips=read_boolean(environ, "AWS_USE_FIPS_ENDPOINT"),
        use_dualstack=read_boolean(environ, "AWS_USE_DUALSTACK_ENDPOINT"),
        ca_bundle=environ.get("AWS_CA_BUNDLE") or None,
        fallback_regions=fallback_regions,
        app_id=environ.get("AWS_SDK_UA_APP_ID") or None,
    )


def read_endpoint_url(environ: Mapping[str, str]) -> str | None:
    """
    Return AWS_ENDPOINT_URL_STS, or else AWS_ENDPOINT_URL, or None if neither is set or the SDKs would ignore them.

    Raises ConfigurationError if the URL has a user name, or is invalid in a way that may hide one.
    """
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    for name in ("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"):
        if url := environ.get(name):
            return _without_password(name, url)
    return None


def _without_password(name: str, url: str) -> str:
    """
    Return the URL unchanged. Check it first if it may contain a password, because messages show the URL.

    Raises ConfigurationError if the check fails.
    """
    if not url.isascii() or any(character in url for character in "@%"):
        from sidecar.sts.endpoint import parse_endpoint_url  # noqa: PLC0415  a rare value, before the daemon listens

        parse_endpoint_url(name, url)
    return url


def read_boolean(environ: Mapping[str, str], name: str) -> bool:
    """
    Return whether the variable is true.

    Raises ConfigurationError unless it is true, false or unset.
    """
    text = environ.get(name, "").lower()
    if text not in {"", "true", "false"}:
        problem = f"{name} is {environ[name][:100]!r}, which is not a boolean"
        raise ConfigurationError(problem, fix="Set it to true or false", setting=name)
    return text == "true"
