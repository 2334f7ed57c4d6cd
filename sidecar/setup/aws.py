"""
AWS as a step asks it: botocore's clients, credential chain and retries, and its errors in our words.

Rule: botocore is imported here and nowhere else in `setup`, and no exception of it goes further. A refusal names the
IAM action that is missing.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import botocore.exceptions as fault
import botocore.session
from botocore import xform_name
from botocore.config import Config
from botocore.parsers import ResponseParserError

from sidecar import __version__
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.setup.aws_error import AwsError
from sidecar.setup.plan import Call
from sidecar.setup.resources import Account

CONNECT_SECONDS, READ_SECONDS = 10, 30
"""For each try of botocore's."""

ANY_REGION = "us-east-1"
"""For services that answer the same in every region of the partition aws, where no region was said."""


class Aws:
    """One account, through one set of credentials. A context manager; nothing is asked before the first call."""

    def __init__(self, profile: str | None = None, region: str | None = None) -> None:
        self._session = botocore.session.Session(profile=profile)
        self._region = region
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()

    def account(self) -> Account:
        """Whose credentials these are. Raises SidecarError."""
        _, partition, _, _, account_id, *_ = self.call("sts", "GetCallerIdentity")["Arn"].split(":")
        return Account(account_id, partition)

    def account_named(self, account_id: str) -> Account:
        """That account, in the partition of the region, without asking AWS. Raises ConfigurationError."""
        try:
            return Account(account_id, self._session.get_partition_for_region(self._region_said() or ANY_REGION))
        except fault.BotoCoreError as exc:
            raise _of_botocore(exc) from exc

    def make(self, call: Call) -> None:
        """One planned call to IAM, and what it made is there. Raises SidecarError."""
        self.call("iam", call.operation, **call.parameters)
        if call.operation == "CreateRole":
            self._wait_for_role(call.parameters["RoleName"])

    def _wait_for_role(self, name: str) -> None:
        """IAM is eventually consistent, and a policy is not attached to a role that is not there yet."""
        try:
            self._client("iam").get_waiter("role_exists").wait(RoleName=name)
        except fault.BotoCoreError as exc:
            raise _of_botocore(exc) from exc

    def call(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """The answer to one operation, all of its pages joined. Raises AwsError, or ConfigurationError."""
        method = xform_name(operation)
        try:
            client = self._client(service)
            if client.can_paginate(method):
                pages: Mapping[str, Any] = client.get_paginator(method).paginate(**parameters).build_full_result()
                return pages
            answer: Mapping[str, Any] = getattr(client, method)(**parameters)
        except fault.ClientError as exc:
            raise _of_aws(exc, f"{service}:{operation}") from exc
        except ResponseParserError as exc:
            raise SidecarError(
                f"What answered {service}:{operation} is not AWS: check AWS_ENDPOINT_URL and HTTPS_PROXY."
            ) from exc
        except (fault.BotoCoreError, ValueError) as exc:  # ValueError: what is no URL in AWS_ENDPOINT_URL
            raise _of_botocore(exc) from exc
        return answer

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            region = self._region_said() or (ANY_REGION if service in _THE_SAME_EVERYWHERE else None)
            config = Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                user_agent_extra=f"irsa-sidecar/{__version__}",
            )
            self._clients[service] = self._session.create_client(service, region_name=region, config=config)
        return self._clients[service]

    def _region_said(self) -> str | None:
        """Botocore by itself knows AWS_DEFAULT_REGION only; all other SDKs, and Pods, AWS_REGION."""
        region: str | None = self._region or os.environ.get("AWS_REGION") or self._session.get_config_variable("region")
        return region


_THE_SAME_EVERYWHERE = {"iam", "sts"}

_SIGN_IN = "sign in again (aws sso login, aws login), or name other credentials with --profile"
_UNKNOWN = "check --profile, and --region too, which says in what partition they are asked about"

_ADVICE = {
    ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"): (
        "have {action} allowed to these credentials, or name others with --profile"
    ),
    ("ExpiredToken", "ExpiredTokenException", "RequestExpired"): _SIGN_IN,
    (
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
    ): _UNKNOWN,
    ("LimitExceeded", "LimitExceededException"): "delete what nobody uses, or have the quota raised (Service Quotas)",
    (
        "EntityAlreadyExists",
        "ConcurrentModification",
    ): "somebody else made it or is changing it just now: run this again",
    ("ResourceNotFoundException",): "check the name, --region and --profile",
    ("NoSuchEntity", "NoSuchEntityException"): "check the name, and that it is of this account",
    ("OpenIdIdpCommunicationError",): "have the issuer's documents reachable from the internet, then run this again",
    (
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "InternalFailure",
        "ServiceFailure",
        "ServiceUnavailable",
        *("500", "502", "503", "504"),  # what botocore calls an error without a code
    ): "run this again later",
    ("MalformedPolicyDocument",): (
        "if the account lacks the provider, run `irsa-sidecar setup oidc-provider` first; else mend what was there"
    ),
}
"""AWS's codes (IAM, EKS and STS API references, Errors and Common Errors), and what a person can do."""


def _of_aws(exc: fault.ClientError, action: str) -> AwsError:
    error = exc.response.get("Error", {})
    code, message = error.get("Code", "Unknown"), error.get("Message") or "no reason given"
    advice = next((text.format(action=action) for codes, text in _ADVICE.items() if code in codes), None)
    said = f"AWS refused {action} ({code}: {message.rstrip('.')})"
    return AwsError(code, f"{said}: {advice}." if advice else f"{said}.")


_Kinds = type[Exception] | tuple[type[Exception], ...]


class _Trouble(NamedTuple):
    """What of botocore's errors is a matter of settings, and what of the outside."""

    kinds: _Kinds
    raised: type[SidecarError]
    advice: str


_TROUBLES = (
    _Trouble(
        (fault.NoCredentialsError, fault.PartialCredentialsError),
        ConfigurationError,
        "sign in (aws configure, aws sso login), or name a profile with --profile",
    ),
    _Trouble(fault.ProfileNotFound, ConfigurationError, "check --profile and AWS_PROFILE"),
    _Trouble(
        (fault.NoRegionError, fault.UnknownRegionError),
        ConfigurationError,
        "name the cluster's region with --region, or in AWS_REGION",
    ),
    _Trouble(
        (
            fault.ConfigParseError,
            fault.ConfigNotFound,
            fault.InvalidConfigError,
            fault.ParamValidationError,
            ValueError,
        ),
        ConfigurationError,
        "correct what it names",
    ),
    _Trouble(
        (fault.SSOError, fault.LoginError, fault.TokenRetrievalError, fault.CredentialRetrievalError),
        SidecarError,
        _SIGN_IN,
    ),
    _Trouble(
        fault.SSLError,
        SidecarError,
        "if a proxy here signs anew what it passes on, name its authority in AWS_CA_BUNDLE",
    ),
    _Trouble(
        (fault.ConnectionError, fault.HTTPClientError, fault.MetadataRetrievalError),
        SidecarError,
        "check the network, HTTPS_PROXY, --region and AWS_ENDPOINT_URL",
    ),
)


def _of_botocore(exc: Exception) -> SidecarError:
    said = " ".join(str(exc).split()).rstrip(".")
    for trouble in _TROUBLES:
        if isinstance(exc, trouble.kinds):
            return trouble.raised(f"AWS could not be asked ({said}): {trouble.advice}.")
    return SidecarError(f"AWS could not be asked: {said}.")
