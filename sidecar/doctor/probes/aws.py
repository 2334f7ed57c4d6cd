"""
Call AWS for the caller's identity, the role and the OIDC provider, with botocore.

botocore is imported only when it is needed, because the image for Pods contains only a part of it. All calls are
read-only and have botocore's own deadlines. They block, so call them in a thread.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from sidecar.doctor.probes.endpoint import Keys
from sidecar.extras import HOW_TO_INSTALL

CONNECT_SECONDS, READ_SECONDS = 3, 5

INSTALL_BOTOCORE = f"{HOW_TO_INSTALL}, where you run doctor"
"""Next step for a check that cannot run because botocore is missing."""

WORKLOAD_PROVIDERS = ("assume-role-with-web-identity", "container-role", "iam-role")
"""Providers in botocore's chain that are skipped, because other checks cover them. They serve a Pod or a machine."""


class AwsSettings(NamedTuple):
    """The settings for calls to AWS. A URL of None means the default endpoint in `region`."""

    region: str
    sts_url: str | None = None
    iam_url: str | None = None
    ca_bundle: str | None = None


class Caller(NamedTuple):
    """The caller's `arn`, or `code` and `error`. `code` is "" if AWS did not respond."""

    arn: str | None = None
    code: str = ""
    error: str = ""


class IamFacts(NamedTuple):
    """
    The role and the provider in IAM.

    A fact is None if it cannot be read, and `unavailable_reason` is then the reason. `has_role` and `has_provider` are
    false if IAM reported that they do not exist.
    """

    policy: Mapping[str, Any] | None = None
    max_session_seconds: int | None = None
    client_ids: tuple[str, ...] | None = None
    has_role: bool = True
    has_provider: bool = True
    unavailable_reason: str = ""


class _NoKeysError(Exception):
    """An error because the user has no usable credentials."""


def is_installed() -> bool:
    """Return whether botocore has its service models. The image for Pods contains only botocore's signer."""
    try:
        import botocore  # noqa: PLC0415
    except ImportError:
        return False
    return os.path.isdir(os.path.join(botocore.BOTOCORE_ROOT, "data", "sts"))


def caller(settings: AwsSettings, keys: Keys) -> Caller:
    """Call GetCallerIdentity, which needs no permission. An error is part of the result."""
    try:
        return Caller(arn=str(_client("sts", settings, keys).get_caller_identity()["Arn"]))
    except Exception as exc:  # noqa: BLE001  botocore raises anything for a response that is not from STS, even KeyError
        return Caller(None, *_code_and_message(exc))


def collect_iam_facts(role_arn: str, provider_arn: str, settings: AwsSettings, keys: Keys | None) -> IamFacts:
    """Call GetRole and GetOpenIDConnectProvider with `keys`, or with the user's own credentials if `keys` is None."""
    try:
        iam = _client("iam", settings, keys or _own_keys(settings, role_arn.split(":")[4]))
        return _with_provider(_role_facts(iam, role_arn), iam, provider_arn)
    except Exception as exc:  # noqa: BLE001  as above, and our own _NoKeysError
        return IamFacts(unavailable_reason=_code_and_message(exc)[1])


def _role_facts(iam: Any, role_arn: str) -> IamFacts:
    try:
        role = iam.get_role(RoleName=role_arn.rpartition("/")[2])["Role"]
    except Exception as exc:
        code, message = _code_and_message(exc)
        if not code:  # IAM is not reachable, as in many VPCs, so do not also wait for the provider
            raise
        return IamFacts(has_role=code != "NoSuchEntity", unavailable_reason=f"{code}: {message}")
    return IamFacts(role["AssumeRolePolicyDocument"], role.get("MaxSessionDuration"))


def _with_provider(facts: IamFacts, iam: Any, provider_arn: str) -> IamFacts:
    try:
        provider = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider_arn)
    except Exception as exc:  # noqa: BLE001  as above
        code, message = _code_and_message(exc)
        return facts._replace(
            has_provider=code != "NoSuchEntity",
            unavailable_reason=facts.unavailable_reason or f"{code}: {message}".removeprefix(": "),
        )
    return facts._replace(client_ids=tuple(provider["ClientIDList"]))


def _own_keys(settings: AwsSettings, account: str) -> Keys:
    """
    Return the user's own credentials.

    Raises botocore's errors, and _NoKeysError if the user has none, or only credentials for another account.
    """
    import botocore.session  # noqa: PLC0415

    session = botocore.session.Session()
    chain = session.get_component("credential_provider")
    for name in WORKLOAD_PROVIDERS:
        chain.remove(name)
    found = session.get_credentials()
    if found is None:
        raise _NoKeysError("you have no AWS credentials of your own here")
    frozen = found.get_frozen_credentials()
    keys = Keys(frozen.access_key or "", frozen.secret_key or "", frozen.token or "")
    own = caller(settings, keys)
    if own.arn is None:
        raise _NoKeysError(f"GetCallerIdentity with your own credentials failed: {own.code or own.error}")
    if own.arn.split(":")[4] != account:
        raise _NoKeysError(f"your own credentials are of {own.arn}, which is not in account {account}")
    return keys


def _client(service: str, settings: AwsSettings, keys: Keys) -> Any:
    """Return a client that uses only these keys, and no configuration file."""
    import botocore.config  # noqa: PLC0415
    import botocore.session  # noqa: PLC0415

    unset = (None, None, None, None)
    session = botocore.session.Session(session_vars={"profile": unset})
    for name in ("config_file", "credentials_file"):
        session.set_config_variable(name, os.devnull)
    return session.create_client(
        service,
        region_name=settings.region,
        endpoint_url=settings.sts_url if service == "sts" else settings.iam_url,
        verify=settings.ca_bundle,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
        aws_session_token=keys.session_token or None,
        config=botocore.config.Config(
            connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"total_max_attempts": 1}
        ),
    )


def _code_and_message(exc: Exception) -> tuple[str, str]:
    """
    Return the error code and the message from AWS.

    Without an error from AWS, return "" and the message from botocore or from our own error. For any other exception,
    return "" and a text with its type.
    """
    response = getattr(exc, "response", None)
    if isinstance(response, dict) and "Error" in response:
        return str(response["Error"].get("Code")), str(response["Error"].get("Message"))
    is_known = type(exc).__module__.startswith(("botocore", "sidecar"))
    return "", str(exc) if is_known else f"the response cannot be read ({type(exc).__name__})"
