"""
Map each error of STS to the daemon's next step and to a hint for people. Pure.

Rule: no error of STS ends the daemon. One table maps error codes to next steps. A second table has rows for one
operation or for a part of the message, and takes precedence. For an unknown code, the HTTP status decides.

Sources: STS API reference (both operations and common errors), and botocore's lists of throttling codes.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from sidecar.errors import ExchangeError, Explanation, NextStep


class Operation(StrEnum):
    """The actions of STS that the daemon calls, by their names in the API."""

    ASSUME_ROLE_WITH_WEB_IDENTITY = "AssumeRoleWithWebIdentity"
    ASSUME_ROLE = "AssumeRole"


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
    NextStep.REREAD_TOKEN: ("InvalidIdentityToken",),
    NextStep.WAIT_FOR_TOKEN: ("ExpiredToken", "ExpiredTokenException"),
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
"""The next step for each of AWS's error codes (STS model, IAM's common errors, botocore's throttling codes)."""

_STATUSES: Mapping[int, NextStep] = {
    408: NextStep.RETRY,
    425: NextStep.RETRY,
    429: NextStep.SLOW_DOWN,
    509: NextStep.SLOW_DOWN,
}
"""The next step by HTTP status, for unknown error codes. Other statuses lead to RETRY from 500 on, else to WAIT."""

_NOT_STS = "The response may not be from STS. Check AWS_ENDPOINT_URL_STS, HTTPS_PROXY and NO_PROXY."

HINTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_THROTTLING, "STS is throttling: a longer IRSA_SIDECAR_DURATION means fewer calls to it."),
        "AccessDenied": "The role's trust policy does not match this token (principal, sub or aud), or the role or "
        "the provider is too new: `irsa-sidecar doctor` compares the policy with the token.",
        "ExpiredTokenException": "The token file was not renewed in time: it must be in a projected volume, and not "
        "mounted by subPath. The kubelet does not renew the token of a Pod that terminates.",
        "IDPCommunicationError": "STS could not reach the token's issuer: its discovery document and keys must be "
        "public; `irsa-sidecar token --verify` fetches them.",
        "IDPRejectedClaim": "The identity provider reports that the token was rejected or revoked: get a new token.",
        "InvalidIdentityToken": "STS could not validate the token: `irsa-sidecar token --verify` checks it against "
        "its issuer's published keys.",
        "MalformedPolicyDocument": "Correct the session policy that was sent with the request.",
        "MalformedReply": _NOT_STS,
        "OptInRequired": "The role's account has not enabled this region: enable it, or set another AWS_REGION.",
        "PackedPolicyTooLarge": "The session token would be too large: shorten the session policy, name fewer policy "
        "ARNs or set fewer session tags; transitive tags that the session inherits count too.",
        "RegionDisabledException": "STS is not active in this region for the role's account: activate it in IAM's "
        "account settings, or set another AWS_REGION.",
        "ValidationError": "Correct the setting that the message names: AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME or "
        "IRSA_SIDECAR_DURATION.",
    }
)
"""Hints for error codes. Each hint names the operator's next step."""


class _Refinement(NamedTuple):
    """A more specific row for a code. It applies if the message contains `phrase`, which may be empty."""

    code: str
    phrase: str
    next_step: NextStep
    hint: str


_DENYING_POLICIES: Mapping[str, str] = {
    "service control policy": "A service control policy (SCP) of the AWS organization denies the call, not the role: "
    "the organization's administrators can allow it. The trust policy need not change.",
    "resource control policy": "A resource control policy (RCP) of the AWS organization denies the call, not the "
    "role's trust policy. The organization's administrators can allow the token's issuer or this network.",
    "permissions boundary": "A permissions boundary denies the call, not the trust policy: let the boundary allow the "
    "action that the message names.",
    "VPC endpoint policy": "The policy of the VPC endpoint for STS denies the call, not the role: let the endpoint's "
    "policy allow the action, this role and its callers.",
    "session policy": "A session policy denies the call, not the trust policy: let the session policy of the step "
    "before allow the action that the message names.",
}
"""
The hint for each kind of policy that can deny access, by AWS's name for it.

AWS writes the name in "with an explicit deny in a … policy" and "because no … policy allows the … action". Since 2026
the policy's ARN follows the name (IAM User Guide, Troubleshoot access denied error messages).
"""

_DENIED = tuple(
    _Refinement(code, phrase, NextStep.WAIT, text)
    for code in ("AccessDenied", "AccessDeniedException")
    for kind, text in _DENYING_POLICIES.items()
    for phrase in (f"explicit deny in a {kind}", f"because no {kind} allows")
)

_OF_WEB_IDENTITY = (
    *_DENIED,
    _Refinement(
        "InvalidIdentityToken",
        "retrieve verification key",
        NextStep.RETRY,
        "STS could not fetch the issuer's keys. This is often temporary; if it persists, the keys are not public.",
    ),
    _Refinement(
        "InvalidIdentityToken",
        "No OpenIDConnect provider found",
        NextStep.WAIT,
        "The role's account has no IAM OIDC provider for the token's issuer: create it in IAM, with the issuer's URL "
        "exactly as in the token.",
    ),
    _Refinement(
        "InvalidIdentityToken",
        "Incorrect token audience",
        NextStep.WAIT,
        "The token's audience is not among the IAM OIDC provider's client IDs: add it there, or correct it in the "
        "token's volume.",
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
        "Lower IRSA_SIDECAR_DURATION, set it to `max`, or raise the role's maximum session duration.",
    ),
)

_BOTH_SIDES = "in this role's trust policy and in the permissions of the role before it"
_CLOCK = (
    "STS rejects the time of the signature: set this machine's clock, and check whether a proxy changes the Date of "
    "STS's responses, which is the time of the signature."
)
_FRESH = (
    "STS does not know the credentials that it has just returned. This ends within seconds; if it persists, "
    "AWS_ENDPOINT_URL_STS leads to more than one STS."
)
_ON_THE_WAY = (
    "A signed request was changed on its way to STS: check AWS_ENDPOINT_URL_STS, HTTPS_PROXY and NO_PROXY for a proxy "
    "that changes it."
)

_OF_A_CHAIN = (
    *_DENIED,
    _Refinement(
        "AccessDenied",
        "sts:TagSession",
        NextStep.WAIT,
        f"Tags need sts:TagSession beside sts:AssumeRole, {_BOTH_SIDES}: allow it, or leave the step's tags out.",
    ),
    _Refinement(
        "AccessDenied",
        "sts:SetSourceIdentity",
        NextStep.WAIT,
        f"A source identity needs sts:SetSourceIdentity, {_BOTH_SIDES}, and stays the same along the chain.",
    ),
    _Refinement(
        "AccessDenied",
        "",
        NextStep.WAIT,
        "This role's trust policy must name the role before it, and its conditions must match, such as the external "
        "id. The role before it needs the permission sts:AssumeRole on this one.",
    ),
    *(_Refinement(code, "", NextStep.RETRY, _FRESH) for code in ("ExpiredToken", "ExpiredTokenException")),
    _Refinement("InvalidClientTokenId", "", NextStep.RETRY, _FRESH),
    _Refinement("RequestExpired", "", NextStep.RETRY, _CLOCK),
    _Refinement("SignatureDoesNotMatch", "Signature expired", NextStep.RETRY, _CLOCK),
    _Refinement("SignatureDoesNotMatch", "not yet current", NextStep.RETRY, _CLOCK),
    _Refinement(
        "SignatureDoesNotMatch",
        "valid region",
        NextStep.ASK_OPERATOR,
        "The request was signed for another region than this STS's: set AWS_REGION to that of AWS_ENDPOINT_URL_STS.",
    ),
    *(
        _Refinement(code, "", NextStep.WAIT, _ON_THE_WAY)
        for code in ("IncompleteSignature", "MissingAuthenticationToken", "SignatureDoesNotMatch")
    ),
    _Refinement(
        "PackedPolicyTooLarge",
        "",
        NextStep.ASK_OPERATOR,
        "The session token would be too large: shorten the step's session policy, or give it fewer policy_arns or "
        "tags; transitive tags that it inherits from the steps before it count too.",
    ),
    _Refinement(
        "ValidationError",
        "",
        NextStep.ASK_OPERATOR,
        "Correct the setting of this step that the message names, in the file of IRSA_SIDECAR_CONFIG.",
    ),
)

_REFINEMENTS: Mapping[Operation, tuple[_Refinement, ...]] = {
    Operation.ASSUME_ROLE_WITH_WEB_IDENTITY: _OF_WEB_IDENTITY,
    Operation.ASSUME_ROLE: _OF_A_CHAIN,
}
"""The rows for each operation. The first row that matches applies."""

_WEB_IDENTITY = Operation.ASSUME_ROLE_WITH_WEB_IDENTITY


def hint(code: str, message: str, operation: Operation = _WEB_IDENTITY) -> str:
    """Return the hint for an error of STS; an empty string if there is none."""
    refinement = _refinement(code, message, operation)
    if refinement is not None:
        return refinement.hint
    return HINTS.get(code, _NOT_STS if code.startswith("Http") else "")


def is_denied_by_another_policy(message: str) -> bool:
    """Return whether the message names a policy that denies access, other than the policies of the role itself."""
    return any(row.phrase in message for row in _DENIED)


def next_step(code: str, message: str, status: int, operation: Operation = _WEB_IDENTITY) -> NextStep:
    """
    Return the daemon's next step after an error.

    A rule for the operation and the message comes first, then the rule for the code, then the rule for the HTTP status.
    """
    refinement = _refinement(code, message, operation)
    if refinement is not None:
        return refinement.next_step
    by_status = _STATUSES.get(status, NextStep.RETRY if status >= 500 else NextStep.WAIT)
    return NEXT_STEPS.get(code, by_status)


def is_too_long(error: ExchangeError) -> bool:
    """
    Return whether STS rejected the duration of the first session, and would grant a shorter one.

    AWS reports that DurationSeconds exceeds the role's MaxSessionDuration. Emulators use other names for the parameter.
    """
    return error.code == "ValidationError" and "durationseconds" in error.message.lower() and not error.step


def _refinement(code: str, message: str, operation: Operation) -> _Refinement | None:
    return next((row for row in _REFINEMENTS[operation] if row.code == code and row.phrase in message), None)


def explained(error: ExchangeError) -> str:
    """Return the message of the error and the hint for it."""
    operation = Operation.ASSUME_ROLE if error.step else Operation.ASSUME_ROLE_WITH_WEB_IDENTITY
    advice = hint(error.code, error.message, operation)
    return str(Explanation(error.problem, advice))
