"""
What follows each of STS's errors: for the daemon its next step, for a person a hint.

Rule: nothing that STS may say ends the daemon. Its codes stand in one table; the few messages that tell more than
their code stand in another and win; a code that nobody knows is judged by its HTTP status.

Codes: STS API reference (AssumeRoleWithWebIdentity and common errors), and botocore's lists of throttling codes.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from sidecar.errors import NextStep

_THROTTLING = (
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
)

_CODES: Mapping[NextStep, Iterable[str]] = {
    NextStep.RETRY: (
        "IDPCommunicationError",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "RequestExpired",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    ),
    NextStep.SLOW_DOWN: _THROTTLING,
    NextStep.REREAD_TOKEN: ("ExpiredToken", "ExpiredTokenException", "InvalidIdentityToken"),
    NextStep.WAIT: (
        "AccessDenied",
        "AccessDeniedException",
        "IDPRejectedClaim",
        "NoSuchEntity",
        "OptInRequired",
        "RegionDisabledException",
    ),
    NextStep.ASK_OPERATOR: (
        "InvalidAction",
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "MalformedPolicyDocument",
        "MalformedQueryString",
        "MissingAction",
        "MissingParameter",
        "PackedPolicyTooLarge",
        "ValidationError",
    ),
}

NEXT_STEPS: Mapping[str, NextStep] = MappingProxyType({code: step for step, codes in _CODES.items() for code in codes})
"""What follows each of AWS's error codes (STS model, IAM's common errors, botocore's throttling codes)."""

_STATUSES: Mapping[int, NextStep] = {
    408: NextStep.RETRY,
    425: NextStep.RETRY,
    429: NextStep.SLOW_DOWN,
    509: NextStep.SLOW_DOWN,
}
"""For codes not in the table. What is not here either is a RETRY from 500 on, and a WAIT below."""

_NOT_STS = "The answer may not be STS's own: check AWS_ENDPOINT_URL_STS, HTTPS_PROXY and NO_PROXY."

HINTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_THROTTLING, "STS is throttling: a longer IRSA_SIDECAR_DURATION means fewer calls to it."),
        "AccessDenied": "The role's trust policy does not match this token (principal, sub or aud), or role and "
        "provider are new and still spreading: `irsa-sidecar doctor` compares the two.",
        "ExpiredTokenException": "The token file was not renewed in time: it must be a projected volume's, and not "
        "mounted by subPath.",
        "IDPCommunicationError": "STS could not reach the token's issuer: its discovery document and keys must be "
        "public; `irsa-sidecar token --verify` tries them.",
        "IDPRejectedClaim": "The identity provider calls the token rejected or revoked: a new token is needed.",
        "InvalidIdentityToken": "STS could not validate the token: `irsa-sidecar token --verify` checks it against "
        "its issuer's published keys.",
        "MalformedPolicyDocument": "Correct the session policy that was sent with the request.",
        "MalformedReply": _NOT_STS,
        "OptInRequired": "The role's account has not enabled this region: enable it, or set another AWS_REGION.",
        "PackedPolicyTooLarge": "Shorten the session policy, or name fewer policy ARNs.",
        "RegionDisabledException": "STS is not active in this region for the role's account: activate it in IAM's "
        "account settings, or set another AWS_REGION.",
        "ValidationError": "Correct the setting that the message names: AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME or "
        "IRSA_SIDECAR_DURATION.",
    }
)
"""By code, what a person does next."""


class _Refinement(NamedTuple):
    """A message that says more than its code: one code of STS's covers both a passing trouble and a lasting one."""

    code: str
    phrase: str
    next_step: NextStep
    hint: str


_REFINEMENTS = (
    _Refinement(
        "InvalidIdentityToken",
        "retrieve verification key",
        NextStep.RETRY,
        "STS could not fetch the issuer's keys. This often passes; if it stays, they are not public.",
    ),
    _Refinement(
        "InvalidIdentityToken",
        "No OpenIDConnect provider found",
        NextStep.WAIT,
        "The role's account has no IAM OIDC provider for the token's issuer: create it in IAM, with the issuer's URL "
        "letter by letter as it stands in the token.",
    ),
    _Refinement(
        "InvalidIdentityToken",
        "Incorrect token audience",
        NextStep.WAIT,
        "The token's audience is not among the IAM OIDC provider's client IDs: add it there, or correct the volume's.",
    ),
    _Refinement(
        "InvalidIdentityToken",
        "thumbprint",
        NextStep.WAIT,
        "The issuer's certificate changed: update the thumbprints of the IAM OIDC provider.",
    ),
    _Refinement(
        "ValidationError",
        "webIdentityToken",
        NextStep.REREAD_TOKEN,
        "The token file does not hold a whole token: check AWS_WEB_IDENTITY_TOKEN_FILE.",
    ),
    _Refinement(
        "ValidationError",
        "MaxSessionDuration",
        NextStep.ASK_OPERATOR,
        "Lower IRSA_SIDECAR_DURATION, or raise the role's maximum session duration.",
    ),
)


def hint(code: str, message: str) -> str:
    """A sentence for a person on what to do about an error of STS's; empty when there is nothing to add."""
    refinement = _refinement(code, message)
    if refinement is not None:
        return refinement.hint
    return HINTS.get(code, _NOT_STS if code.startswith("Http") else "")


def next_step(code: str, message: str, status: int) -> NextStep:
    """What follows an error of STS's: by what its message says, else by its code, else by the HTTP status."""
    refinement = _refinement(code, message)
    if refinement is not None:
        return refinement.next_step
    by_status = _STATUSES.get(status, NextStep.RETRY if status >= 500 else NextStep.WAIT)
    return NEXT_STEPS.get(code, by_status)


def _refinement(code: str, message: str) -> _Refinement | None:
    return next((row for row in _REFINEMENTS if row.code == code and row.phrase in message), None)
