"""Test each response of STS with its exact status, code and message, read by botocore."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from sidecar.oidc.verification import NO_KEY
from tests.support.fakes.clock import EPOCH
from tests.unit.local.conftest import APP, AUDIENCE, ISSUER, KEY, POD, World

NOW = int(EPOCH)
NOT_VALIDATED = (
    "The web identity token provided could not be validated. See the AssumeRoleWithWebIdentity documentation for "
    "requirements."
)
SESSION_NAME = "satisfy regular expression pattern: [\\w+=,.@-]*"
NOT_AUTHORIZED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"


async def test_exchange_response_has_the_same_fields_as_aws(world: World) -> None:
    response = await world.call(DurationSeconds=900)
    credentials = response["Credentials"]
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert response["ResponseMetadata"]["RequestId"] == response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert response["ResponseMetadata"]["HTTPHeaders"]["date"] == "Fri, 15 Jan 2027 08:00:00 GMT"
    assert response["AssumedRoleUser"]["Arn"] == "arn:aws:sts::111122223333:assumed-role/app/app-0"
    role_id, _, session_name = response["AssumedRoleUser"]["AssumedRoleId"].partition(":")
    assert (role_id[:4], len(role_id), session_name) == ("AROA", 21, "app-0")
    assert (credentials["AccessKeyId"][:4], len(credentials["AccessKeyId"])) == ("ASIA", 20)
    assert len(credentials["SecretAccessKey"]) == 40
    assert credentials["Expiration"].isoformat() == "2027-01-15T08:15:00+00:00"
    assert response["SubjectFromWebIdentityToken"] == POD.subject
    assert response["Provider"] == f"arn:aws:iam::111122223333:oidc-provider/{KEY}"
    assert response["Audience"] == AUDIENCE
    assert "PackedPolicySize" not in response


async def test_role_id_is_constant_while_credentials_change(world: World) -> None:
    first, second = await world.call(), await world.call()
    assert first["AssumedRoleUser"] == second["AssumedRoleUser"]
    for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
        assert first["Credentials"][name] != second["Credentials"][name]


async def test_exchange_event_contains_no_secret(world: World) -> None:
    token = world.token()
    credentials = (await world.call(WebIdentityToken=token))["Credentials"]
    event, fields = world.events[-1]
    assert event == "exchange_granted"
    assert fields["subject"] == POD.subject
    for secret in (token, credentials["SecretAccessKey"], credentials["SessionToken"]):
        assert secret not in repr(world.events)


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "iat", "exp"])
async def test_missing_claim_is_named_in_the_error(world: World, claim: str) -> None:
    token = world.token(**{claim: None})
    assert await world.rejection(WebIdentityToken=token) == (
        400, "InvalidIdentityToken", f"Missing a required claim: {claim}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("claims", "code", "message"),
    [
        (
            {"aud": [AUDIENCE, "other"]},
            "InvalidIdentityToken",
            "Token audience contains more than one audience while authorized party is not present",
        ),
        ({"aud": ["kubernetes.default.svc"]}, "InvalidIdentityToken", NOT_VALIDATED),
        ({"azp": "other"}, "InvalidIdentityToken", NOT_VALIDATED),
        ({"iat": f"{NOW}"}, "InvalidIdentityToken", NOT_VALIDATED),
        ({"exp": NOW + 600.5}, "InvalidIdentityToken", NOT_VALIDATED),
        ({"sub": 7}, "InvalidIdentityToken", NOT_VALIDATED),
        (
            {"exp": NOW - 301},
            "ExpiredTokenException",
            f"Token expired: current date/time {NOW - 300} must be before the expiration date/time {NOW - 301}",
        ),
        (
            {"exp": NOW - 300},
            "ExpiredTokenException",
            f"Token expired: current date/time {NOW - 300} must be before the expiration date/time {NOW - 300}",
        ),
        ({"iat": NOW + 3600}, "InvalidIdentityToken", f"Token issued in the future: {NOW + 3600}"),
        ({"nbf": NOW + 3600}, "InvalidIdentityToken", f"Token not yet valid: {NOW + 3600}"),
        (
            {"iss": "https://elsewhere.test"},
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://elsewhere.test",
        ),
        (
            {"iss": f"{ISSUER}/"},
            "InvalidIdentityToken",
            f"No OpenIDConnect provider found in your account for {ISSUER}/",
        ),
        ({"iss": ["x"]}, "InvalidIdentityToken", NOT_VALIDATED),
    ],
)
async def test_invalid_claims_cause_the_same_message_as_aws(
    world: World, claims: dict[str, Any], code: str, message: str
) -> None:
    assert await world.rejection(WebIdentityToken=world.token(**claims)) == (400, code, message)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 299},
        {"exp": NOW - 1},
        {"iat": NOW + 300},
        {"nbf": NOW + 300},
        {"nbf": None},
        {"aud": AUDIENCE},
        {"aud": [AUDIENCE, "other"], "azp": AUDIENCE},
        {"aud": ["other"], "azp": AUDIENCE},
        {"exp": NOW + 60},
    ],
)
async def test_token_within_tolerance_or_with_azp_is_accepted(world: World, claims: dict[str, Any]) -> None:
    response = await world.call(WebIdentityToken=world.token(**claims), DurationSeconds=7200)
    assert response["Audience"] == AUDIENCE


@pytest.mark.parametrize("raw", ["abcd", "a.b.c", "eyJhbGciOiJSUzI1NiJ9.W10.c2ln", "é" * 10])
async def test_invalid_jwt_is_rejected(world: World, raw: str) -> None:
    assert await world.rejection(WebIdentityToken=raw) == (
        400,
        "InvalidIdentityToken",
        "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
    )


async def test_unsigned_and_shared_secret_tokens_are_rejected(world: World) -> None:
    claims, kid = jwt.decode(world.token(), options={"verify_signature": False}), world.issuer.keys.active.kid
    for key, algorithm in (("", "none"), ("x" * 64, "HS256")):
        token = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})
        assert await world.rejection(WebIdentityToken=token) == (400, "InvalidIdentityToken", NOT_VALIDATED)
        assert f"alg is {algorithm}" in world.reason


async def test_token_signed_by_another_key_is_rejected(world: World, private_keys: list[RSAPrivateKey]) -> None:
    claims, kid = jwt.decode(world.token(), options={"verify_signature": False}), world.issuer.keys.active.kid
    token = jwt.encode(claims, private_keys[1], algorithm="RS256", headers={"kid": kid})
    assert await world.rejection(WebIdentityToken=token) == (400, "InvalidIdentityToken", NOT_VALIDATED)


@pytest.mark.parametrize("headers", [{}, {"kid": "unknown"}])
async def test_token_without_a_published_kid_is_rejected(
    world: World, private_keys: list[RSAPrivateKey], headers: dict[str, str]
) -> None:
    claims = jwt.decode(world.token(), options={"verify_signature": False})
    token = jwt.encode(claims, private_keys[0], algorithm="RS256", headers=headers)
    assert await world.rejection(WebIdentityToken=token) == (400, "InvalidIdentityToken", NO_KEY)


async def test_old_tokens_stay_valid_after_a_rotation(world: World, private_keys: list[RSAPrivateKey]) -> None:
    old = world.token()
    world.issuer.rotate(private_keys[1])
    assert "Credentials" in await world.call(WebIdentityToken=old)
    assert "Credentials" in await world.call(WebIdentityToken=world.token())
    world.wall.step(600 + 301)
    world.issuer.rotate(private_keys[2])
    assert (await world.rejection(WebIdentityToken=old))[1:] == ("InvalidIdentityToken", NO_KEY)


async def test_only_the_event_has_the_reason_for_a_denial(world: World) -> None:
    token = world.token(sub="system:serviceaccount:default:till")
    assert await world.rejection(WebIdentityToken=token) == (403, "AccessDenied", NOT_AUTHORIZED)
    assert world.events[-1][0] == "request_rejected"
    assert world.reason == (
        f"the trust policy of {APP}: Statement 1: Condition StringEquals {KEY}:sub wants "
        "system:serviceaccount:default:app, the request has system:serviceaccount:default:till"
    )


async def test_unknown_role_causes_the_same_error_as_a_denial(world: World) -> None:
    arn = "arn:aws:iam::111122223333:role/nobody"
    assert await world.rejection(RoleArn=arn) == (403, "AccessDenied", NOT_AUTHORIZED)
    assert world.reason == f"there is no role {arn}"


@pytest.mark.parametrize(
    ("form", "value", "rule"),
    [
        ({"RoleSessionName": "bad name/!"}, "Value 'bad name/!' at 'roleSessionName'", SESSION_NAME),
        ({"RoleSessionName": "naïve"}, "Value 'naïve' at 'roleSessionName'", SESSION_NAME),
        ({"RoleSessionName": "x"}, "Value 'x' at 'roleSessionName'", "have length greater than or equal to 2"),
        (
            {"RoleSessionName": "x" * 65},
            f"Value '{'x' * 65}' at 'roleSessionName'",
            "have length less than or equal to 64",
        ),
        ({"DurationSeconds": 60}, "Value '60' at 'durationSeconds'", "have value greater than or equal to 900"),
        ({"DurationSeconds": 99999}, "Value '99999' at 'durationSeconds'", "have value less than or equal to 43200"),
        ({"DurationSeconds": "1h"}, "Value '1h' at 'durationSeconds'", "be a whole number"),
        ({"WebIdentityToken": "x" * 20_001}, "Value at 'webIdentityToken'", "have length less than or equal to 20000"),
        (
            {"PolicyArns.member.1.arn": "arn:short"},
            "Value 'arn:short' at 'policyArns.1.member.arn'",
            "have length greater than or equal to 20",
        ),
        ({"RoleArn": None}, "Value null at 'roleArn'", "not be null"),
    ],
)
async def test_invalid_parameter_causes_the_same_message_as_aws(
    world: World, form: dict[str, Any], value: str, rule: str
) -> None:
    message = f"1 validation error detected: {value} failed to satisfy constraint: Member must {rule}"
    assert await world.rejection(**form) == (400, "ValidationError", message)


async def test_all_violations_are_named_together(world: World) -> None:
    assert (await world.rejection(RoleArn=None, RoleSessionName=None))[2] == (
        "2 validation errors detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null; "
        "Value null at 'roleSessionName' failed to satisfy constraint: Member must not be null"
    )


@pytest.mark.parametrize(
    ("arn", "message"),
    [
        ("arn:aws:s3:::bucket/of/somebody", "Request ARN is invalid"),
        ("app-role-without-an-arn", "app-role-without-an-arn is invalid"),
    ],
)
async def test_invalid_role_arn_is_rejected(world: World, arn: str, message: str) -> None:
    assert await world.rejection(RoleArn=arn) == (400, "ValidationError", message)


async def test_session_is_at_most_as_long_as_the_role_allows(world: World) -> None:
    world.roles[APP] = type(world.roles[APP])(APP, world.roles[APP].trust_policy, 7200)
    assert "Credentials" in await world.call(DurationSeconds=7200)
    assert await world.rejection(DurationSeconds=7201) == (
        400,
        "ValidationError",
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    )


SMALL = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.mark.parametrize(
    ("form", "code", "message"),
    [
        ({"Policy": "{"}, "MalformedPolicyDocument", "This policy contains invalid Json"),
        ({"Policy": "[]"}, "MalformedPolicyDocument", "Syntax errors in policy."),
        (
            {"Policy": SMALL.ljust(1500), "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/" + "x" * 700},
            "PackedPolicyTooLarge",
            "Packed policy consumes 109% of allotted space, please use smaller policy.",
        ),
    ],
)
async def test_invalid_session_policies_are_rejected(
    world: World, form: dict[str, str], code: str, message: str
) -> None:
    assert await world.rejection(**form) == (400, code, message)


async def test_response_contains_the_packed_policy_size(world: World) -> None:
    response = await world.call(Policy=SMALL.ljust(1024))
    assert response["PackedPolicySize"] == 30
    assert response["SessionTokenSize"] == len(response["Credentials"]["SessionToken"]) == 600 + 1024
    assert response["SessionTokenUtilization"] == 40


@pytest.mark.parametrize(
    ("minimum", "size", "utilization"),
    [(None, 600, 15), (0, 600, 15), (601, 601, 15), (4095, 4095, 100), (4096, 4096, 100)],
)
async def test_session_token_has_the_requested_minimum_size(
    world: World, minimum: int | None, size: int, utilization: int
) -> None:
    response = await world.call(MinimumSessionTokenSize=minimum)
    assert len(response["Credentials"]["SessionToken"]) == size
    assert (response["SessionTokenSize"], response["SessionTokenUtilization"]) == (size, utilization)
    assert "PackedPolicySize" not in response


async def test_minimum_session_token_size_has_a_limit(world: World) -> None:
    assert "less than or equal to 4096" in (await world.rejection(MinimumSessionTokenSize=4097))[2]


@pytest.mark.parametrize(
    ("form", "code", "message"),
    [
        ({"Action": None}, "MissingAction", "Missing Action"),
        (
            {"Action": "GetSessionToken"},
            "InvalidAction",
            "Could not find operation GetSessionToken for version 2011-06-15",
        ),
        (
            {"Version": None},
            "InvalidAction",
            "Could not find operation AssumeRoleWithWebIdentity for version NO_VERSION_SPECIFIED",
        ),
    ],
)
async def test_unsupported_operation_is_named_in_the_error(
    world: World, form: dict[str, Any], code: str, message: str
) -> None:
    assert await world.rejection(**form) == (400, code, message)


async def test_xml_in_a_value_is_escaped(world: World) -> None:
    assert "'<b>&\"' at" in (await world.rejection(RoleSessionName='<b>&"'))[2]


async def test_characters_that_xml_forbids_are_replaced(world: World) -> None:
    assert "'a\ufffdb' at" in (await world.rejection(RoleSessionName="a\x00b"))[2]
    token = world.token(iss="https://\ud800")
    assert (await world.rejection(WebIdentityToken=token))[2].endswith("for https://\ufffd")
