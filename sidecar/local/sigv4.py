"""
Verify a request's AWS Signature Version 4, in a header or in the query (presigned). Pure.

Rule: botocore's own signer calculates the signature again from the received request. It uses exactly the headers that
the client claims to have signed, and the received body. The checks follow STS's order and use STS's messages: form,
key, session token, expiration of the credentials, time, scope, signature.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPMessage
from typing import Any
from urllib.parse import parse_qsl

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sidecar.local.sessions import Session
from sidecar.oidc.sts_rejection import StsRejection
from sidecar.serving.http_message import Request

ALGORITHM, SERVICE, TERMINATOR = "AWS4-HMAC-SHA256", "sts", "aws4_request"
WINDOW = timedelta(minutes=15)
"""
Maximum difference between a signature's time and now, in the past and in the future.

STS uses the same window for presigned requests and ignores X-Amz-Expires.
"""

_STAMP = "%Y%m%dT%H%M%SZ"
_REQUIRED = ("Credential", "Signature", "SignedHeaders")
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True)
class Signature:
    """
    The parts of the client's signature.

    `scope` consists of date, region, service and terminator. `target` is the request target without the signature.
    """

    access_key_id: str
    scope: tuple[str, str, str, str]
    signed_headers: tuple[str, ...]
    signed_at: datetime
    target: str = field(repr=False)
    signature: str = field(repr=False)
    session_token: str | None = field(repr=False)


def verify(request: Request, find: Callable[[str], Session | None], *, region: str, now: datetime) -> Session:
    """
    Return the session whose credentials signed the request.

    Raises StsRejection if the signature is invalid, or its credentials are unknown or expired.
    """
    signature = read_signature(request)
    session = find(signature.access_key_id)
    if session is None or not _is_same(session.session_token, signature.session_token or ""):
        raise _denied(
            "InvalidClientTokenId",
            "The security token included in the request is invalid",
            f"{signature.access_key_id} is not a key of this STS, or the request has another session token",
        )
    if session.expires_at <= now:
        raise _denied(
            "ExpiredToken",
            "The security token included in the request is expired",
            f"the credentials {session.access_key_id} expired at {session.expires_at}",
        )
    _check_time(signature.signed_at, now)
    _check_scope(signature, region)
    if not _is_same(recompute(request, signature, session), signature.signature):
        reason = "the client used another secret key, or the request was changed in transit"
        raise _denied("SignatureDoesNotMatch", _MISMATCH, reason)
    return session


def read_signature(request: Request) -> Signature:
    """
    Read the signature's parts from the Authorization header, or from the query.

    Raises StsRejection if the signature is missing or malformed.
    """
    authorization = request.header("authorization")
    query = parse_qsl(request.query, keep_blank_values=True)
    in_query = {name.removeprefix("X-Amz-"): value for name, value in query if name.startswith("X-Amz-")}
    if authorization is not None:
        stamp = request.header("x-amz-date") or request.header("date")
        token = request.header("x-amz-security-token")
        return _signature(_authorization(authorization), stamp, token, request.target)
    if "Algorithm" in in_query:
        _check_algorithm(in_query["Algorithm"])
        target = _without_signature(request)
        return _signature(in_query, in_query.get("Date"), in_query.get("Security-Token"), target)
    raise _denied("MissingAuthenticationToken", "Request is missing Authentication Token")


def recompute(request: Request, signature: Signature, session: Session) -> str:
    """Return this request's signature with the session's secret."""
    _, region, service, _ = signature.scope
    signer = _Signer(Credentials(session.access_key_id, session.secret_access_key), service, region)
    signer.signed = [(n, v) for name in signature.signed_headers for n, v in request.headers if n == name]
    # The host in this URL does not matter, because botocore signs the received header Host instead.
    target = signature.target if signature.target.startswith("/") else f"/{signature.target}"
    aws_request = AWSRequest(request.method, f"http://{SERVICE}{target}", data=request.body)
    aws_request.context["timestamp"] = signature.signed_at.strftime(_STAMP)
    text = signer.string_to_sign(aws_request, signer.canonical_request(aws_request))
    return str(signer.signature(text, aws_request))


class _Signer(SigV4Auth):
    """
    botocore's signer, limited to the headers that the client signed.

    Other SDKs sign more or fewer headers than botocore does.
    """

    signed: list[tuple[str, str]]

    def headers_to_sign(self, request: Any) -> HTTPMessage:  # noqa: ARG002  (botocore's signature)
        headers = HTTPMessage()
        for name, value in self.signed:
            headers[name] = value
        return headers


def _signature(parts: dict[str, str], stamp: str | None, token: str | None, target: str) -> Signature:
    missing = [f"Authorization header requires '{name}' parameter." for name in _REQUIRED if not parts.get(name)]
    if stamp is None:
        missing.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if missing or stamp is None:
        raise _incomplete(" ".join(missing))
    key, *scope = parts["Credential"].split("/")
    if len(scope) != 4:
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{parts['Credential']}'"
        )
    headers = tuple(parts["SignedHeaders"].split(";"))
    if "host" not in headers:
        raise _incomplete("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    date, region, service, terminator = scope
    signed_at = _instant(stamp)
    return Signature(key, (date, region, service, terminator), headers, signed_at, target, parts["Signature"], token)


def _authorization(header: str) -> dict[str, str]:
    algorithm, _, rest = header.partition(" ")
    _check_algorithm(algorithm)
    pairs = (item.strip().partition("=") for item in rest.split(","))
    return {name: value for name, _, value in pairs}


def _check_algorithm(algorithm: str) -> None:
    if algorithm != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{algorithm}'.")


def _without_signature(request: Request) -> str:
    pairs = [pair for pair in request.query.split("&") if not pair.startswith("X-Amz-Signature=")]
    return f"{request.path}?{'&'.join(pairs)}"


def _instant(stamp: str) -> datetime:
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(stamp).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise _incomplete(f"Date must be in ISO-8601 'basic format'. Got '{stamp}'.") from exc


def _check_time(signed_at: datetime, now: datetime) -> None:
    at, current = signed_at.strftime(_STAMP), now.strftime(_STAMP)
    if signed_at < now - WINDOW:
        limit = (now - WINDOW).strftime(_STAMP)
        raise _mismatch(f"Signature expired: {at} is now earlier than {limit} ({current} - 15 min.)")
    if signed_at > now + WINDOW:
        limit = (now + WINDOW).strftime(_STAMP)
        raise _mismatch(f"Signature not yet current: {at} is still later than {limit} ({current} + 15 min.)")


def _check_scope(signature: Signature, region: str) -> None:
    date, scope_region, service, terminator = signature.scope
    day = signature.signed_at.strftime("%Y%m%d")
    if date != day:
        stamp = signature.signed_at.strftime(_STAMP)
        raise _mismatch(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{date}' != '{day}', from '{stamp}'."
        )
    if scope_region != region:
        raise _denied(
            "SignatureDoesNotMatch",
            "Credential should be scoped to a valid region. ",
            f"the request is signed for {scope_region}, and this STS is in {region}: set AWS_REGION",
        )
    if service != SERVICE:
        raise _mismatch(f"Credential should be scoped to correct service: '{SERVICE}'. ")
    if terminator != TERMINATOR:
        raise _mismatch(f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'.")


def _is_same(expected: str, received: str) -> bool:
    return hmac.compare_digest(expected.encode(), received.encode())


def _denied(code: str, message: str, reason: str | None = None) -> StsRejection:
    return StsRejection(code, message, status=403, reason=reason)


def _mismatch(message: str) -> StsRejection:
    return _denied("SignatureDoesNotMatch", message)


def _incomplete(message: str) -> StsRejection:
    return StsRejection("IncompleteSignature", message)
