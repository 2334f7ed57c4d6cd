"""
Call AWS for the steps with botocore, its credential chain and its retries.

Rule: in `setup`, only this module imports botocore, and no botocore exception leaves this module. The error for a
denied call names the missing IAM action.
"""

import os
import threading
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Self

import botocore.exceptions as fault
import botocore.session
from botocore import xform_name
from botocore.config import Config
from botocore.parsers import ResponseParserError

from sidecar import __version__
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.setup.aws_error import AwsError
from sidecar.setup.issuer_bucket import StoredObject
from sidecar.setup.plan import Call
from sidecar.setup.resources import Account

CONNECT_SECONDS, READ_SECONDS = 10, 30
"""Timeouts for each attempt by botocore: to connect, and to read the response."""

MAX_OBJECT_BYTES = 1 << 20
"""Maximum number of bytes that are read of an object in S3. Documents of issuers have a few kilobytes."""

ANY_REGION = "us-east-1"
"""Region for calls to global services if no region is configured. All regions of the partition aws respond equally."""


class Aws:
    """A client for one AWS account, which is also a context manager. It sends nothing before the first call."""

    def __init__(self, profile: str | None = None, region: str | None = None) -> None:
        self._session = botocore.session.Session(profile=profile)
        self._region = region
        self._clients: dict[str, Any] = {}
        # A session is not safe for several threads, and `audit` calls from several. A client is safe.
        self._creation = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()

    def account(self) -> Account:
        """
        Return the AWS account of the credentials.

        Raises SidecarError if STS does not return the account.
        """
        _, partition, _, _, account_id, *_ = self.call("sts", "GetCallerIdentity")["Arn"].split(":")
        return Account(account_id, partition)

    def account_with_id(self, account_id: str) -> Account:
        """
        Return the account in the region's partition, without a call.

        Raises ConfigurationError if the region is unknown.
        """
        try:
            return Account(account_id, self._session.get_partition_for_region(self._configured_region() or ANY_REGION))
        except fault.BotoCoreError as exc:
            raise _botocore_error(exc) from exc

    def apply(self, call: Call) -> None:
        """
        Make one planned call to IAM, and wait until a new role exists.

        Raises SidecarError if AWS rejects the call or cannot be reached.
        """
        self.call("iam", call.operation, **call.parameters)
        if call.operation == "CreateRole":
            self._wait_for_role(call.parameters["RoleName"])

    def _wait_for_role(self, name: str) -> None:
        """
        Wait until the new role is visible.

        IAM is eventually consistent, and rejects policies for an invisible role.
        """
        try:
            self._client("iam").get_waiter("role_exists").wait(RoleName=name)
        except fault.BotoCoreError as exc:
            raise _botocore_error(exc) from exc

    def call(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """
        Return the response to one operation, with all its pages joined.

        Raises AwsError if AWS rejects the call, and another SidecarError if AWS cannot be called.
        """
        method = xform_name(operation)
        try:
            client = self._client(service)
            if client.can_paginate(method):
                pages: Mapping[str, Any] = client.get_paginator(method).paginate(**parameters).build_full_result()
                return pages
            response: Mapping[str, Any] = getattr(client, method)(**parameters)
        except fault.ClientError as exc:
            raise _rejection(exc, f"{service}:{operation}") from exc
        except ResponseParserError as exc:
            raise SidecarError(
                f"The response to {service}:{operation} is not from AWS", fix="Check AWS_ENDPOINT_URL and HTTPS_PROXY"
            ) from exc
        except (fault.BotoCoreError, ValueError) as exc:  # ValueError if AWS_ENDPOINT_URL is not a URL
            raise _botocore_error(exc) from exc
        return response

    def read_object(self, bucket: str, key: str) -> StoredObject | None:
        """
        Return an object of S3 with at most MAX_OBJECT_BYTES of its content, or None if it does not exist.

        Raises AwsError if S3 rejects the request, and another SidecarError if S3 cannot be called. Without
        s3:ListBucket, S3 also rejects requests for missing objects.
        """
        try:
            response = self.call("s3", "GetObject", Bucket=bucket, Key=key)
        except AwsError as exc:
            if exc.code == "NoSuchKey":
                return None
            raise _with_listing(exc) from exc
        try:
            content = response["Body"].read(MAX_OBJECT_BYTES)
        except (fault.BotoCoreError, fault.HTTPClientError, OSError) as exc:
            raise _botocore_error(exc) from exc
        read_at = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        return StoredObject(content, response["ETag"], response["LastModified"].timestamp(), read_at.timestamp())

    def _client(self, service: str) -> Any:
        with self._creation:
            return self._existing_or_new_client(service)

    def _existing_or_new_client(self, service: str) -> Any:
        if service not in self._clients:
            region = self._configured_region() or (ANY_REGION if service in _GLOBAL_SERVICES else None)
            config = Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                user_agent_extra=f"irsa-sidecar/{__version__}",
            )
            self._clients[service] = self._session.create_client(service, region_name=region, config=config)
        return self._clients[service]

    def _configured_region(self) -> str | None:
        """
        Return the configured region, or None if there is none.

        Botocore reads only AWS_DEFAULT_REGION, but other SDKs read AWS_REGION.
        """
        region: str | None = self._region or os.environ.get("AWS_REGION") or self._session.get_config_variable("region")
        return region


_GLOBAL_SERVICES = {"iam", "sts"}

_SIGN_IN = "Sign in again (aws sso login, aws login), or use other credentials with --profile"
_UNKNOWN = "Check --profile, and --region too, because the region decides which partition is called"

_ADVICE = {
    ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"): (
        "Ask an administrator to allow {action} for these credentials, or use others with --profile"
    ),
    ("ExpiredToken", "ExpiredTokenException", "RequestExpired"): _SIGN_IN,
    (
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
    ): _UNKNOWN,
    ("LimitExceeded", "LimitExceededException"): "Delete unused resources, or request a higher quota (Service Quotas)",
    (
        "EntityAlreadyExists",
        "ConcurrentModification",
    ): "Run this again: another person or tool created or changed the resource",
    ("ResourceNotFoundException",): "Check the name, --region and --profile",
    ("NoSuchEntity", "NoSuchEntityException"): "Check the name, and that it is in this account",
    (
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    ): "Set --region to the bucket's region",
    ("NoSuchBucket",): "Check the bucket's name and --profile",
    (
        "PreconditionFailed",
        "ConditionalRequestConflict",
    ): "Run this again: another person or tool changed the object",
    ("OpenIdIdpCommunicationError",): "Make the issuer's documents reachable from the internet, then run this again",
    (
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "SlowDown",
        "InternalFailure",
        "ServiceFailure",
        "ServiceUnavailable",
        *("500", "502", "503", "504"),  # botocore's code for an error that has no code
    ): "Run this again later",
    ("MalformedPolicyDocument",): (
        "If the account lacks the provider, run `irsa-sidecar setup oidc-provider` first. Otherwise fix the "
        "trust policy"
    ),
}
"""Fixes by AWS error code (IAM, EKS and STS API references, Errors and Common Errors)."""


def _with_listing(error: AwsError) -> AwsError:
    """
    Return the error of GetObject, with a fix that names s3:ListBucket if access is denied.

    Without s3:ListBucket, S3 reports AccessDenied for a missing object.
    """
    if error.code != "AccessDenied":
        return error
    fix = "Ask an administrator to allow s3:GetObject and s3:ListBucket for these credentials, or use others with"
    return AwsError(error.code, error.problem, fix=f"{fix} --profile")


def _rejection(exc: fault.ClientError, action: str) -> AwsError:
    error = exc.response.get("Error", {})
    code, message = error.get("Code", "Unknown"), error.get("Message") or "no reason given"
    advice = next((text.format(action=action) for codes, text in _ADVICE.items() if code in codes), None)
    return AwsError(code, f"AWS rejected {action} ({code}: {message.rstrip('.')})", fix=advice or "")


_Exceptions = type[Exception] | tuple[type[Exception], ...]


class _ErrorKind(NamedTuple):
    """A group of botocore errors with the same fix, and the class of our error for them."""

    exceptions: _Exceptions
    raised: type[SidecarError]
    fix: str


_ERROR_KINDS = (
    _ErrorKind(
        (fault.NoCredentialsError, fault.PartialCredentialsError),
        ConfigurationError,
        "Sign in (aws configure, aws sso login), or set --profile",
    ),
    _ErrorKind(fault.ProfileNotFound, ConfigurationError, "Check --profile and AWS_PROFILE"),
    _ErrorKind(
        (fault.NoRegionError, fault.UnknownRegionError),
        ConfigurationError,
        "Set --region or AWS_REGION to the cluster's region",
    ),
    _ErrorKind(
        (
            fault.ConfigParseError,
            fault.ConfigNotFound,
            fault.InvalidConfigError,
            fault.ParamValidationError,
            ValueError,
        ),
        ConfigurationError,
        "Correct the setting that the message names",
    ),
    _ErrorKind(
        (fault.SSOError, fault.LoginError, fault.TokenRetrievalError, fault.CredentialRetrievalError),
        SidecarError,
        _SIGN_IN,
    ),
    _ErrorKind(
        fault.SSLError,
        SidecarError,
        "If a proxy here issues its own certificates, set AWS_CA_BUNDLE to the file with its authority",
    ),
    _ErrorKind(
        (fault.ConnectionError, fault.HTTPClientError, fault.MetadataRetrievalError),
        SidecarError,
        "Check the network, HTTPS_PROXY, --region and AWS_ENDPOINT_URL",
    ),
)


def _botocore_error(exc: Exception) -> SidecarError:
    text = " ".join(str(exc).split()).rstrip(".")
    for kind in _ERROR_KINDS:
        if isinstance(exc, kind.exceptions):
            return kind.raised(f"AWS could not be called ({text})", fix=kind.fix)
    return SidecarError(f"AWS could not be called ({text})", fix="Check --profile, --region and AWS_ENDPOINT_URL")
