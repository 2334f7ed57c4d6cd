"""
What only AWS's own API can tell: who the credentials are, and what IAM has for role and provider. Needs botocore.

botocore is imported when it is needed, as a Pod's image has not all of it. Everything here is read-only, blocks, and
has botocore's own deadlines: call it in a thread.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from sidecar.doctor.probes.endpoint import Keys
from sidecar.extras import HOW_TO_INSTALL

CONNECT_SECONDS, READ_SECONDS = 3, 5

HOW = f"{HOW_TO_INSTALL}, where you run doctor"

NOT_OF_A_PERSON = ("assume-role-with-web-identity", "container-role", "iam-role")
"""Providers of botocore's chain that stand for a Pod or a machine: what they give is looked at elsewhere."""


class AwsSettings(NamedTuple):
    """Where AWS is. An endpoint that is None is AWS's own in `region`."""

    region: str
    sts_url: str | None = None
    iam_url: str | None = None
    ca_bundle: str | None = None


class Caller(NamedTuple):
    """Either `arn`, or `code` and `error`; `code` is "" where AWS did not answer."""

    arn: str | None = None
    code: str = ""
    error: str = ""


class Told(NamedTuple):
    """
    What IAM says of role and provider.

    What may not be read is None, and `why_not` says why. `has_role` and `has_provider` are false where IAM says that
    there is none.
    """

    policy: Mapping[str, Any] | None = None
    max_session_seconds: int | None = None
    client_ids: tuple[str, ...] | None = None
    has_role: bool = True
    has_provider: bool = True
    why_not: str = ""


class _NoKeysError(Exception):
    """There are no credentials of a person that could be used."""


def is_here() -> bool:
    """The image that Pods run has botocore's signer, and nothing of what botocore knows of services."""
    try:
        import botocore  # noqa: PLC0415
    except ImportError:
        return False
    return os.path.isdir(os.path.join(botocore.BOTOCORE_ROOT, "data", "sts"))


def caller(settings: AwsSettings, keys: Keys) -> Caller:
    """GetCallerIdentity, which nobody can be forbidden."""
    try:
        return Caller(arn=str(_client("sts", settings, keys).get_caller_identity()["Arn"]))
    except Exception as exc:  # noqa: BLE001  of an answer that is not STS's botocore raises whatever comes, KeyErrors too
        return Caller(None, *_code_and_message(exc))


def told_of(role_arn: str, provider_arn: str, settings: AwsSettings, keys: Keys | None) -> Told:
    """GetRole and GetOpenIDConnectProvider with these credentials, or with the user's own where that is None."""
    try:
        iam = _client("iam", settings, keys or _own_keys(settings, role_arn.split(":")[4]))
        return _of_provider(_of_role(iam, role_arn), iam, provider_arn)
    except Exception as exc:  # noqa: BLE001  as above; ours among them
        return Told(why_not=_code_and_message(exc)[1])


def _of_role(iam: Any, role_arn: str) -> Told:
    try:
        role = iam.get_role(RoleName=role_arn.rpartition("/")[2])["Role"]
    except Exception as exc:
        code, message = _code_and_message(exc)
        if not code:  # IAM is out of reach, as from many VPCs: the provider is not worth another wait
            raise
        return Told(has_role=code != "NoSuchEntity", why_not=f"{code}: {message}")
    return Told(role["AssumeRolePolicyDocument"], role.get("MaxSessionDuration"))


def _of_provider(told: Told, iam: Any, provider_arn: str) -> Told:
    try:
        provider = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider_arn)
    except Exception as exc:  # noqa: BLE001  as above
        code, message = _code_and_message(exc)
        return told._replace(
            has_provider=code != "NoSuchEntity", why_not=told.why_not or f"{code}: {message}".removeprefix(": ")
        )
    return told._replace(client_ids=tuple(provider["ClientIDList"]))


def _own_keys(settings: AwsSettings, account: str) -> Keys:
    """A person's, if they are of the role's account. Raises _NoKeysError, or what botocore does."""
    import botocore.session  # noqa: PLC0415

    session = botocore.session.Session()
    chain = session.get_component("credential_provider")
    for name in NOT_OF_A_PERSON:
        chain.remove(name)
    found = session.get_credentials()
    if found is None:
        raise _NoKeysError("there are no AWS credentials of your own here")
    frozen = found.get_frozen_credentials()
    keys = Keys(frozen.access_key or "", frozen.secret_key or "", frozen.token or "")
    own = caller(settings, keys)
    if own.arn is None or own.arn.split(":")[4] != account:
        raise _NoKeysError(f"your own credentials are {own.arn or own.code}, and not of account {account}")
    return keys


def _client(service: str, settings: AwsSettings, keys: Keys) -> Any:
    """A client that knows these keys and no configuration file."""
    import botocore.config  # noqa: PLC0415
    import botocore.session  # noqa: PLC0415

    nothing = (None, None, None, None)
    session = botocore.session.Session(session_vars={"profile": nothing})
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
    """AWS's own, or no code and what botocore says."""
    response = getattr(exc, "response", None)
    if isinstance(response, dict) and "Error" in response:
        return str(response["Error"].get("Code")), str(response["Error"].get("Message"))
    is_told = type(exc).__module__.startswith(("botocore", "sidecar"))
    return "", str(exc) if is_told else f"the answer cannot be read ({type(exc).__name__})"
