"""Test the errors of STS: messages, next steps and hints."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ExchangeError, NextStep
from sidecar.sts.errors import HINTS, NEXT_STEPS, Operation, hint, is_too_long, next_step
from sidecar.sts.wire import read_reply
from tests.unit.sts.responses import GOOD, JWT, ROLE_ARN, SESSION_TOKEN, error_body, read, refusal

STEPS = [
    (
        400,
        "ExpiredTokenException",
        "Token expired: current date/time 2 must be before the expiration date/time 1",
        NextStep.WAIT_FOR_TOKEN,
    ),
    (400, "ExpiredToken", "The security token included in the request is expired", NextStep.WAIT_FOR_TOKEN),
    (400, "InvalidIdentityToken", "Missing a required claim: iss", NextStep.REREAD_TOKEN),
    (400, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider", NextStep.RETRY),
    (400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://oidc", NextStep.WAIT),
    (400, "InvalidIdentityToken", "Incorrect token audience", NextStep.WAIT),
    (400, "IDPCommunicationError", "unreachable", NextStep.RETRY),
    (403, "IDPRejectedClaim", "rejected", NextStep.WAIT),
    (403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", NextStep.WAIT),
    (403, "AccessDenied", "MaxSessionDuration in the message of another code", NextStep.WAIT),
    (403, "RegionDisabledException", "disabled", NextStep.WAIT),
    (400, "MalformedPolicyDocument", "Syntax errors in policy", NextStep.ASK_OPERATOR),
    (400, "PackedPolicyTooLarge", "too large", NextStep.ASK_OPERATOR),
    (400, "ValidationError", "1 validation error detected: Value at 'roleArn'", NextStep.ASK_OPERATOR),
    (400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration", NextStep.ASK_OPERATOR),
    (400, "ValidationError", "1 validation error detected: Value at 'webIdentityToken' failed", NextStep.REREAD_TOKEN),
    (400, "Throttling", "Rate exceeded", NextStep.SLOW_DOWN),
    (503, "SlowDown", "slow down", NextStep.SLOW_DOWN),
    (500, "InternalFailure", "oops", NextStep.RETRY),
    (503, "ServiceUnavailable", "oops", NextStep.RETRY),
    (400, "RequestExpired", "oops", NextStep.RETRY),
    (400, "NeverHeardOf", "oops", NextStep.WAIT),
    (404, "NeverHeardOf", "oops", NextStep.WAIT),
    (408, "NeverHeardOf", "oops", NextStep.RETRY),
    (429, "NeverHeardOf", "oops", NextStep.SLOW_DOWN),
    (500, "NeverHeardOf", "oops", NextStep.RETRY),
    (504, "NeverHeardOf", "oops", NextStep.RETRY),
]


@pytest.mark.parametrize(("status", "code", "message", "next_step"), STEPS)
def test_error_has_its_next_step(status: int, code: str, message: str, next_step: NextStep) -> None:
    error = refusal(error_body(code, message), status)
    assert (error.code, error.message, error.status) == (code, message, status)
    assert error.next_step is next_step
    assert error.problem == f"{code}: {message}"


@pytest.mark.parametrize(
    ("code", "message", "next_step"),
    [
        ("AccessDenied", "User: x is not authorized to perform: sts:AssumeRole on resource: y", NextStep.WAIT),
        ("ExpiredToken", "The security token included in the request is expired", NextStep.RETRY),
        ("ExpiredTokenException", "The security token included in the request is expired", NextStep.RETRY),
        ("InvalidClientTokenId", "The security token included in the request is invalid", NextStep.RETRY),
        ("RequestExpired", "Request has expired.", NextStep.RETRY),
        ("SignatureDoesNotMatch", "Signature not yet current: 1 is still later than 2", NextStep.RETRY),
        ("SignatureDoesNotMatch", "Credential should be scoped to a valid region. ", NextStep.ASK_OPERATOR),
        ("SignatureDoesNotMatch", "The request signature we calculated does not match", NextStep.WAIT),
        ("IncompleteSignature", "Authorization header requires 'Signature' parameter.", NextStep.WAIT),
        ("PackedPolicyTooLarge", "Packed policy consumes 120% of allotted space", NextStep.ASK_OPERATOR),
        ("ValidationError", "1 validation error detected: Value at 'tags.1.member.key'", NextStep.ASK_OPERATOR),
        ("InvalidParameterValue", "Duplicate tag keys found.", NextStep.ASK_OPERATOR),
        ("Throttling", "Rate exceeded", NextStep.SLOW_DOWN),
    ],
)
def test_error_of_a_chain_step_has_its_own_next_step(code: str, message: str, next_step: NextStep) -> None:
    with pytest.raises(ExchangeError) as caught:
        read_reply(400, error_body(code, message).encode(), role_arn=ROLE_ARN, operation=Operation.ASSUME_ROLE)
    assert caught.value.next_step is next_step
    advice = hint(code, message, Operation.ASSUME_ROLE)
    assert "token file" not in advice
    assert len(advice) < 220
    assert advice.endswith(".") or code == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("code", "message", "step", "expected"),
    [
        ("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", 0, True),
        ("ValidationError", "Value '43200' at 'durationSeconds' failed to satisfy constraint", 0, True),
        (
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            1,
            False,
        ),
        ("ValidationError", "1 validation error detected: Value at 'roleArn'", 0, False),
        ("AccessDenied", "DurationSeconds", 0, False),
    ],
)
def test_too_long_duration_is_recognized_in_the_message(code: str, message: str, step: int, *, expected: bool) -> None:
    error = ExchangeError(code, message, NextStep.ASK_OPERATOR, status=400, step=step)
    assert is_too_long(error) is expected


@pytest.mark.parametrize(
    ("status", "body", "code", "message", "next_step"),
    [
        (301, "", "Http301", "no message came with it", NextStep.WAIT),
        (302, "<a href='https://login.example'>Sign in</a>", "Http302", "Sign in", NextStep.WAIT),
        (407, "<html><h1>Proxy\n authentication</h1></html>", "Http407", "Proxy authentication", NextStep.WAIT),
        (429, "", "Http429", "no message came with it", NextStep.SLOW_DOWN),
        (500, "<ErrorResponse><Error>", "Http500", "no message came with it", NextStep.RETRY),
        (502, b"\xff\x00\x1b[31mBad gateway", "Http502", "\ufffd  [31mBad gateway", NextStep.RETRY),
        (
            503,
            "<html><b>Http/1.1 Service Unavailable</b></html>",
            "Http503",
            "Http/1.1 Service Unavailable",
            NextStep.RETRY,
        ),
        (503, '{"message": "try later"}', "Http503", '{"message": "try later"}', NextStep.RETRY),
        (400, error_body("", "who knows"), "Http400", "Sender who knows", NextStep.WAIT),
        (400, error_body("two words", "who knows"), "Http400", "who knows", NextStep.WAIT),
        (403, error_body("AccessDenied", ""), "AccessDenied", "no message came with it", NextStep.WAIT),
    ],
)
def test_error_without_aws_code_is_classified_by_status(
    status: int, body: str | bytes, code: str, message: str, next_step: NextStep
) -> None:
    error = refusal(body, status)
    assert (error.code, error.message, error.next_step) == (code, message, next_step)


def test_error_cuts_long_bodies_and_messages() -> None:
    assert refusal("word " * 10_000, 502).message == ("word " * 40)[:199] + "…"
    assert refusal(error_body("Throttling", "so " * 1000), 400).message == ("so " * 1000)[:1999] + "…"


@pytest.mark.parametrize(
    "body",
    [
        f"<html>refused: WebIdentityToken={JWT}&amp;DurationSeconds=3600</html>",
        error_body("InvalidIdentityToken", f"cannot read {JWT}!"),
        error_body("InvalidIdentityToken", JWT),
        f"<html>{'x' * 150} {JWT * 30}</html>",
        f"<html>{'x' * 1980} {JWT}</html>",
    ],
    ids=[
        "a proxy's page",
        "in a message",
        "the whole message",
        "across the end of the excerpt",
        "across the end of the read bytes",
    ],
)
def test_error_hides_an_echoed_token(body: str) -> None:
    error = refusal(body, 400)
    assert not any(part[:12] in str(error) for part in JWT.split("."))


def test_error_hides_a_part_of_a_token() -> None:
    assert refusal(f"<p>bad signature {'c2lnbmF0dXJl' * 20}</p>", 400).message == "bad signature [hidden]"


DENIED = (
    "User: arn:aws:sts::111122223333:assumed-role/cart/shop.cart is not authorized to perform: sts:AssumeRole on "
    "resource: arn:aws:iam::444455556666:role/data with an explicit deny in a service control policy: "
    "arn:aws:organizations::777788889999:policy/o-exampleorgid/service_control_policy/p-examplepolicyid111. "
    "Go to https://us-east-1.console.aws.amazon.com/iam/home?region=us-east-1#/authorization-details/{id} for complete "
    "details, or call the GetRequestAuthorizationDetails API with the following authorization id: {id}"
)


@pytest.mark.parametrize("length", [1, 20, 56, 57, 58, 79, 80, 81, 128, 255, 256])
def test_error_shows_the_authorization_id_and_its_link(length: int) -> None:
    message = DENIED.format(id="".join("a1b2c3d4e5f6g7h8i9z0"[n % 20] for n in range(length)))
    assert refusal(error_body("AccessDenied", message), 403).message == message


LONG_ARNS = (
    f"arn:aws:organizations::777788889999:policy/o-{'a1' * 16}/service_control_policy/p-{'b2' * 64}",
    f"arn:aws-cn:iam::111122223333:policy/{'team/' * 20}{'Deny-Outside_Office' * 5}",
    f"arn:aws:iam::111122223333:role/{'r' * 64}",
    f"arn:aws:sts::111122223333:assumed-role/{'r' * 64}/{'s' * 64}",
)


@pytest.mark.parametrize("arn", LONG_ARNS)
def test_error_shows_the_longest_arns(arn: str) -> None:
    message = f"not authorized with an explicit deny in a service control policy: {arn}"
    assert refusal(error_body("AccessDenied", message), 403).message == message


@pytest.mark.parametrize(
    "secret", ["aB3/+" * 60, "eyJhbGciOiJSUzI1NiJ9", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"]
)
@pytest.mark.parametrize("start", ["policy/", "role/x/", "assumed-role/a/"])
def test_error_hides_a_token_in_an_arn(start: str, secret: str) -> None:
    message = refusal(error_body("AccessDenied", f"denied by arn:aws:iam::111122223333:{start}{secret}"), 403).message
    assert secret[:15] not in message
    assert "[hidden]" in message


@pytest.mark.parametrize(
    "secret",
    [
        "A" * 80,
        "aB3" * 30,
        "abc123" * 50,
        "abc/" * 30,
        "ab=" * 40,
        "ab_" * 40,
        JWT,
        JWT.split(".")[1],
        SESSION_TOKEN * 6,
        f"{'a' * 60}{JWT}",
        f"{'a1' * 40}+{'B' * 90}",
    ],
)
def test_error_hides_a_token_in_the_authorization_id(secret: str) -> None:
    message = refusal(error_body("AccessDenied", DENIED.format(id=secret)), 403).message
    assert secret not in message
    assert "[hidden]" in message
    assert not any(part[:12] in message for part in JWT.split("."))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "token: {}",
        "id: {}",
        "/authorization-details/{}",
        "authorization-details/{}",
        "authorization id:{}",
        "authorization id {}",
        "authorizationid: {}",
        "https://console.example/?id={}",
    ],
)
def test_error_hides_long_lower_case_text_outside_an_id(text: str) -> None:
    run = "0123456789abcdef" * 6
    message = refusal(error_body("AccessDenied", text.format(run)), 403).message
    assert run not in message
    assert "[hidden]" in message


@given(st.text("abzAZ019_-+/=.", max_size=400), st.sampled_from(["#/authorization-details/", "authorization id: "]))
def test_authorization_id_has_only_lower_case_and_digits(text: str, place: str) -> None:
    shown = refusal(error_body("AccessDenied", f"x {place}{text} y"), 403).message
    run = re.search(r"[A-Za-z0-9_+/=-]{80,}", shown.partition(place)[2])
    assert run is None or re.fullmatch(r"[0-9a-z]{80,256}", run[0])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", None),
        ("-1", None),
        ("1e9", None),
        ("inf", None),
        ("\u0667", None),
        ("9" * 400, None),
        ("Fri, 02 Jan 2026 03:04:05 GMT", None),
    ],
)
def test_retry_after_is_in_whole_seconds(header: str | None, seconds: float | None) -> None:
    assert refusal(error_body("Throttling", "Rate exceeded"), 400, header).retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("milliseconds", "seconds", "expected"),
    [
        ("1500", None, 1.5),
        ("0", None, 0.0),
        (" 250 ", None, 0.25),
        ("1500", "7", 7.0),
        ("7500", "7", 7.5),
        ("1500", "soon", 1.5),
        ("999999999", None, 999_999.999),
        *[
            (hostile, None, None)
            for hostile in ("", "-1", "1.5", "1e9", "nan", "inf", "9" * 400, "0x10", "5, 5", "\u0667")
        ],
        ("nan", "7", 7.0),
    ],
)
def test_amazons_retry_after_is_in_milliseconds(milliseconds: str, seconds: str | None, expected: float | None) -> None:
    """Use the longer time of the two headers. The schedule limits this time."""
    error = refusal(error_body("Throttling", "Rate exceeded"), 400, seconds, milliseconds)
    assert error.retry_after_seconds == expected


SIZES = "<SessionTokenSize>{}</SessionTokenSize><SessionTokenUtilization>{}</SessionTokenUtilization>"


def sized(size: str, percent: str) -> str:
    end = "</AssumeRoleWithWebIdentityResult>"
    return GOOD.replace(end, SIZES.format(size, percent) + end)


def test_session_token_size_is_part_of_the_credentials() -> None:
    found = read(sized("1234", "30"))
    assert (found.token_bytes, found.token_percent) == (1234, 30)


@pytest.mark.parametrize(
    "value", ["", "-1", "1.5", "many", "9" * 10, "9" * 100_000, "<x>1</x>", "1e5", "\u0667", "NaN"]
)
def test_invalid_session_token_size_is_ignored(value: str) -> None:
    found = read(sized(value, value))
    assert (found.token_bytes, found.token_percent) == (None, None)
    assert found.session_token == SESSION_TOKEN


# Hints


def test_hint_for_each_known_code_is_a_sentence() -> None:
    assert HINTS.keys() <= NEXT_STEPS.keys() | {"MalformedReply"}
    for text in HINTS.values():
        assert text[0].isupper()
        assert text.endswith(".")
        assert len(text) < 200


@pytest.mark.parametrize(
    ("code", "message", "part"),
    [
        ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", "`irsa-sidecar doctor`"),
        ("InvalidIdentityToken", "Missing a required claim: iss", "`irsa-sidecar token --verify`"),
        (
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account",
            "create it in IAM",
        ),
        ("InvalidIdentityToken", "Incorrect token audience", "client IDs"),
        ("ValidationError", "1 validation error detected: Value at 'roleArn'", "AWS_ROLE_ARN"),
        (
            "ValidationError",
            "DurationSeconds exceeds the MaxSessionDuration set for this role.",
            "IRSA_SIDECAR_DURATION",
        ),
        ("Throttling", "Rate exceeded", "throttling"),
        ("Http407", "Proxy authentication", "HTTPS_PROXY"),
        ("MalformedReply", "STS returned a malformed response", "AWS_ENDPOINT_URL_STS"),
    ],
)
def test_hint_names_the_next_step(code: str, message: str, part: str) -> None:
    assert part in hint(code, message)


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException"])
@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("service control policy", "SCP"),
        ("resource control policy", "RCP"),
        ("permissions boundary", "boundary"),
        ("VPC endpoint policy", "VPC endpoint for STS"),
        ("session policy", "session policy"),
    ],
)
@pytest.mark.parametrize(
    "reason",
    [
        "with an explicit deny in a {}",
        "with an explicit deny in a {}: arn:aws:organizations::1:policy/o-a/kind/p-b",
        "because no {} allows the sts:AssumeRole action",
    ],
)
def test_hint_about_another_policy_omits_the_trust_policy(
    kind: str, word: str, reason: str, code: str, operation: Operation
) -> None:
    message = f"User: a is not authorized to perform: sts:TagSession on resource: b {reason.format(kind)}"
    found = hint(code, message, operation)
    assert word in found
    assert "trust policy must" not in found
    assert "does not match" not in found
    assert next_step(code, message, 403, operation) is NextStep.WAIT


def test_denial_that_names_no_policy_keeps_its_hint() -> None:
    message = "User: a is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::1:role/session-policy"
    assert "trust policy" in hint("AccessDenied", message, Operation.ASSUME_ROLE)
    assert "trust policy" in hint("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")


@pytest.mark.parametrize("operation", Operation)
def test_packed_policy_hint_names_policy_tags_and_inherited_tags(operation: Operation) -> None:
    found = hint("PackedPolicyTooLarge", "the session token exceeded the maximum allowed size", operation)
    assert all(word in found for word in ("session policy", "tags", "ransitive tags", "inherits"))


def test_hint_is_empty_for_a_code_without_advice() -> None:
    assert hint("Timeout", "no complete response within 10 s") == ""
    assert hint("NeverHeardOf", "oops") == ""
