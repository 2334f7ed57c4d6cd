"""Test operations that need a signature. botocore signs headers or the query. STS rejects an invalid signature."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sidecar.serving.http_message import Request
from tests.support.fakes.clock import EPOCH
from tests.unit.local.conftest import APP, LAST, NEXT, World, rejection_of

NOW = datetime.fromtimestamp(EPOCH, UTC)
IDENTITY = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)
INVALID = "The security token included in the request is invalid"

Sign = Callable[..., Request]


@pytest.fixture
def sign(monkeypatch: pytest.MonkeyPatch) -> Sign:
    """Return a function that signs a request with botocore, either in its headers or in its query (presigned)."""

    def signed(
        keys: dict[str, Any],
        form: dict[str, str] = IDENTITY,
        *,
        at: datetime = NOW,
        scope: tuple[str, str] = ("sts", "us-east-1"),
        presigned: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Request:
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: at)
        text = urlencode(form)
        url = "http://sts.test/" + (f"?{text}" if presigned else "")
        request = AWSRequest(presigned or "POST", url, headers, b"" if presigned else text.encode())
        kind = botocore.auth.SigV4QueryAuth if presigned else botocore.auth.SigV4Auth
        kind(Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]), *scope).add_auth(request)
        parts = urlsplit(str(request.url))
        sent = tuple((name.lower(), str(value)) for name, value in request.headers.items())
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return Request(str(request.method), target, (("host", "sts.test"), *sent), b"" if presigned else text.encode())

    return signed


async def keys_of(world: World, **form: Any) -> dict[str, Any]:
    return dict((await world.call(**form))["Credentials"])


async def test_caller_is_the_session_that_signed_the_request(world: World, sign: Sign) -> None:
    response = await world.send(sign(await keys_of(world)))
    assert response["Account"] == "111122223333"
    assert response["Arn"] == "arn:aws:sts::111122223333:assumed-role/app/app-0"
    assert response["UserId"].startswith("AROA")
    assert world.events[-1] == ("caller_identity_returned", {"arn": response["Arn"]})


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_presigned_request_identifies_its_caller(world: World, sign: Sign, method: str) -> None:
    response = await world.send(sign(await keys_of(world), presigned=method))
    assert response["Arn"] == "arn:aws:sts::111122223333:assumed-role/app/app-0"


@pytest.mark.parametrize("presigned", [None, "GET"])
@pytest.mark.parametrize(
    ("changes", "rejection"),
    [
        ({"SecretAccessKey": "x" * 40}, (403, "SignatureDoesNotMatch", MISMATCH)),
        ({"AccessKeyId": "ASIA" + "X" * 16}, (403, "InvalidClientTokenId", INVALID)),
        ({"SessionToken": "x" * 40}, (403, "InvalidClientTokenId", INVALID)),
        ({"SessionToken": None}, (403, "InvalidClientTokenId", INVALID)),
    ],
)
async def test_wrong_credentials_are_rejected(
    world: World, sign: Sign, changes: dict[str, Any], rejection: tuple[int, str, str], presigned: str | None
) -> None:
    keys = await keys_of(world) | changes
    assert rejection_of(await world.send(sign(keys, presigned=presigned))) == rejection


@pytest.mark.parametrize("presigned", [None, "GET"])
async def test_credentials_are_rejected_when_they_expire(world: World, sign: Sign, presigned: str | None) -> None:
    keys = await keys_of(world, DurationSeconds=900)
    world.wall.step(899)
    later = NOW + timedelta(seconds=899)
    assert "Arn" in await world.send(sign(keys, at=later, presigned=presigned))
    world.wall.step(1)
    assert rejection_of(await world.send(sign(keys, at=later, presigned=presigned))) == (
        403,
        "ExpiredToken",
        "The security token included in the request is expired",
    )


@pytest.mark.parametrize("presigned", [None, "GET"])
@pytest.mark.parametrize(
    ("minutes", "message"),
    [
        (-16, "Signature expired: 20270115T074400Z is now earlier than 20270115T074500Z (20270115T080000Z - 15 min.)"),
        (
            16,
            (
                "Signature not yet current: 20270115T081600Z is still later than 20270115T081500Z "
                "(20270115T080000Z + 15 min.)"
            ),
        ),
    ],
)
async def test_wrong_clock_causes_an_error_with_both_times(
    world: World, sign: Sign, minutes: int, message: str, presigned: str | None
) -> None:
    request = sign(await keys_of(world), at=NOW + timedelta(minutes=minutes), presigned=presigned)
    assert rejection_of(await world.send(request)) == (403, "SignatureDoesNotMatch", message)


@pytest.mark.parametrize("minutes", [-15, 15])
async def test_clock_skew_of_15_minutes_is_accepted(world: World, sign: Sign, minutes: int) -> None:
    assert "Arn" in await world.send(sign(await keys_of(world), at=NOW + timedelta(minutes=minutes)))


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        (("sts", "eu-west-1"), "Credential should be scoped to a valid region. "),
        (("s3", "us-east-1"), "Credential should be scoped to correct service: 'sts'. "),
    ],
)
async def test_signature_for_another_scope_is_rejected(
    world: World, sign: Sign, scope: tuple[str, str], message: str
) -> None:
    request = sign(await keys_of(world), scope=scope)
    assert rejection_of(await world.send(request)) == (403, "SignatureDoesNotMatch", message)


def _with_header(request: Request, name: str, change: Callable[[str], str]) -> Request:
    return replace(request, headers=tuple((n, change(v) if n == name else v) for n, v in request.headers))


@pytest.mark.parametrize(
    "tamper",
    [
        lambda request: replace(request, body=request.body + b"&RoleArn=x"),
        lambda request: replace(request, method="PUT"),
        lambda request: replace(request, target="/?Action=GetCallerIdentity"),
        lambda request: replace(request, target="[::1"),
        lambda request: replace(request, target="*"),
        lambda request: _with_header(request, "host", lambda _: "evil.test"),
        lambda request: _with_header(request, "host", lambda _: "[::1"),
        lambda request: _with_header(request, "host", lambda _: "[x]:99999999"),
        lambda request: _with_header(request, "x-amz-date", lambda _: "20270115T080001Z"),
        lambda request: _with_header(request, "x-extra", lambda _: "other"),
        lambda request: replace(
            request, headers=(*request.headers, ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), ("x-extra", "2"))
        ),
    ],
)
async def test_change_after_signing_is_rejected(world: World, sign: Sign, tamper: Callable[[Request], Request]) -> None:
    request = sign(await keys_of(world), headers={"X-Extra": "1"})
    assert "Arn" in await world.send(request)
    assert rejection_of(await world.send(tamper(request))) == (403, "SignatureDoesNotMatch", MISMATCH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA1'."),
        (
            lambda v: v.replace("Signature=", "Sig="),
            "Authorization header requires 'Signature' parameter.",
        ),
        (
            lambda _: "AWS4-HMAC-SHA256 nothing",
            (
                "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' "
                "parameter. Authorization header requires 'SignedHeaders' parameter."
            ),
        ),
        (
            lambda v: v.replace("SignedHeaders=host;", "SignedHeaders="),
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
        ),
    ],
)
async def test_incomplete_signature_is_rejected(
    world: World, sign: Sign, change: Callable[[str], str], message: str
) -> None:
    request = _with_header(sign(await keys_of(world)), "authorization", change)
    assert rejection_of(await world.send(request)) == (400, "IncompleteSignature", message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: v.replace("20270115/", "20270114/"),
            (
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                "'20270114' != '20270115', from '20270115T080000Z'."
            ),
        ),
        (
            lambda v: v.replace("aws4_request", "aws5_request"),
            "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'.",
        ),
    ],
)
async def test_invalid_scope_is_rejected(world: World, sign: Sign, change: Callable[[str], str], message: str) -> None:
    request = _with_header(sign(await keys_of(world)), "authorization", change)
    assert rejection_of(await world.send(request)) == (403, "SignatureDoesNotMatch", message)


def _instead(new: str, _old: str) -> str:
    return new


async def test_malformed_credential_or_date_is_rejected(world: World, sign: Sign) -> None:
    request = sign(await keys_of(world))
    short = _with_header(request, "authorization", lambda v: v.replace("/sts/", "/"))
    assert rejection_of(await world.send(short))[2].startswith(
        "Credential must have exactly 5 slash-delimited elements"
    )
    for date in ("yesterday", "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 1 Jan 99999 00:00:00 GMT"):
        dated = _with_header(request, "x-amz-date", partial(_instead, date))
        assert rejection_of(await world.send(dated))[2] == f"Date must be in ISO-8601 'basic format'. Got '{date}'."
    undated = replace(request, headers=tuple(pair for pair in request.headers if pair[0] != "x-amz-date"))
    assert rejection_of(await world.send(undated))[2] == (
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
    )


async def test_unsigned_call_of_a_signed_operation_is_rejected(world: World) -> None:
    for operation in ("GetCallerIdentity", "AssumeRole"):
        assert await world.rejection(operation) == (
            403,
            "MissingAuthenticationToken",
            "Request is missing Authentication Token",
        )


def chain(**form: Any) -> dict[str, str]:
    plain = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": NEXT, "RoleSessionName": "hop"}
    return plain | {"ExternalId": "secret-handshake"} | form


async def test_session_assumes_a_role_that_trusts_its_role(world: World, sign: Sign) -> None:
    response = await world.send(sign(await keys_of(world), chain()), "AssumeRole")
    assert response["AssumedRoleUser"]["Arn"] == "arn:aws:sts::111122223333:assumed-role/next/hop"
    assert response["Credentials"]["Expiration"] == NOW + timedelta(hours=1)
    caller = await world.send(sign(response["Credentials"]))
    assert caller["Arn"] == "arn:aws:sts::111122223333:assumed-role/next/hop"


CALLER = "arn:aws:sts::111122223333:assumed-role/app/app-0"


@pytest.mark.parametrize(
    ("form", "action", "role"),
    [
        ({"ExternalId": "guess"}, "sts:AssumeRole", NEXT),
        ({"RoleArn": APP}, "sts:AssumeRole", APP),
        ({"RoleArn": f"{NEXT}-2"}, "sts:AssumeRole", f"{NEXT}-2"),
        ({"RoleArn": LAST}, "sts:AssumeRole", None),
        ({"RoleArn": LAST, "SourceIdentity": "alice"}, "sts:SetSourceIdentity", LAST),
        ({"RoleArn": LAST, "Tags.member.1.Key": "a", "Tags.member.1.Value": "b"}, "sts:TagSession", LAST),
    ],
)
async def test_trust_policy_must_allow_each_requested_action(
    world: World, sign: Sign, form: dict[str, str], action: str, role: str | None
) -> None:
    response = await world.send(sign(await keys_of(world), chain(**form)), "AssumeRole")
    if role is None:
        assert "Credentials" in response
        return
    message = f"User: {CALLER} is not authorized to perform: {action} on resource: {role}"
    assert rejection_of(response) == (403, "AccessDenied", message)


@pytest.mark.parametrize(
    ("form", "code", "message"),
    [
        (
            {"DurationSeconds": "3601"},
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        ),
        (
            {
                "Tags.member.1.Key": "Team",
                "Tags.member.1.Value": "a",
                "Tags.member.2.Key": "team",
                "Tags.member.2.Value": "",
            },
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ),
        (
            {"TransitiveTagKeys.member.1": "team"},
            "InvalidParameterValue",
            "The specified transitive tag key must be included in the requested tags.",
        ),
        (
            {"Tags.member.1.Key": "a;b", "Tags.member.1.Value": "x"},
            "ValidationError",
            (
                "1 validation error detected: Value 'a;b' at 'tags.1.member.key' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+"
            ),
        ),
    ],
)
async def test_invalid_parameter_of_a_chained_role_is_rejected(
    world: World, sign: Sign, form: dict[str, str], code: str, message: str
) -> None:
    request = sign(await keys_of(world), chain(**form))
    assert rejection_of(await world.send(request, "AssumeRole")) == (400, code, message)


async def test_more_than_50_tags_are_rejected(world: World, sign: Sign) -> None:
    tags = {f"Tags.member.{n}.{part}": f"{part}{n}" for n in range(1, 52) for part in ("Key", "Value")}
    response = await world.send(sign(await keys_of(world), chain(**tags)), "AssumeRole")
    assert rejection_of(response)[2].endswith(
        "at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50"
    )


async def test_source_identity_and_tags_are_kept_in_the_session(world: World, sign: Sign) -> None:
    tags = {"Tags.member.1.Key": "Größe", "Tags.member.1.Value": "XL", "TransitiveTagKeys.member.1": "größe"}
    response = await world.send(sign(await keys_of(world), chain(SourceIdentity="alice", **tags)), "AssumeRole")
    assert response["SourceIdentity"] == "alice"
    changed = sign(response["Credentials"], chain(SourceIdentity="bob"))
    assert rejection_of(await world.send(changed, "AssumeRole"))[:2] == (403, "AccessDenied")
    assert world.reason == "the session already has the source identity alice"
