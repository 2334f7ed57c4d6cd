"""Test that each error from AWS or botocore becomes one line with a fix."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import botocore.exceptions as fault
import pytest

from sidecar.errors import ConfigurationError, SidecarError
from sidecar.setup import aws
from sidecar.setup.aws_error import AwsError
from tests.support.fakes.threaded import serving
from tests.unit.setup.conftest import ISSUER, Account, run_setup

ROLE = ("role", "cart", "--issuer", ISSUER, "--service-account", "shop/cart")


def rejection(code: str, message: str = "No.") -> bytes:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>".encode()


class Endpoint(BaseHTTPRequestHandler):
    """A server that gives the next response of `queue` to each request."""

    queue: list[tuple[int, bytes]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.queue.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log lines."""


@pytest.fixture
def responses(aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, bytes]]]:
    """Return the list from which the AWS endpoint takes its responses. Botocore does not retry."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    responses: list[tuple[int, bytes]] = []
    with serving(type("Endpoint", (Endpoint,), {"queue": responses})) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield responses


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "AccessDenied", "allow sts:GetCallerIdentity"),
        (403, "ExpiredToken", "Sign in again"),
        (403, "InvalidClientTokenId", "--region"),
        (403, "SignatureDoesNotMatch", "--region"),
        (400, "Throttling", "Run this again later"),
        (500, "InternalFailure", "Run this again later"),
        (400, "Newfangled", "AWS rejected sts:GetCallerIdentity (Newfangled: No)."),
    ],
)
def test_error_of_a_rejected_call_has_action_code_and_fix(
    responses: list[tuple[int, bytes]], capsys: pytest.CaptureFixture[str], status: int, code: str, advice: str
) -> None:
    responses.append((status, rejection(code)))
    done = run_setup(capsys, *ROLE)
    assert (done.status, done.out) == (1, "")
    assert f"AWS rejected sts:GetCallerIdentity ({code}: No)" in done.err
    assert advice in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("status", [200, 403])
def test_error_of_a_response_not_from_aws_names_a_setting(
    responses: list[tuple[int, bytes]], capsys: pytest.CaptureFixture[str], status: int
) -> None:
    responses.append((status, b"<html><p>hello"))
    done = run_setup(capsys, *ROLE)
    assert done.status == 1
    assert "sts:GetCallerIdentity" in done.err
    assert "AWS_ENDPOINT_URL" in done.err
    assert done.err.count("\n") == 1


def test_bad_gateway_is_named_in_the_error(
    responses: list[tuple[int, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    responses.append((502, b"<html><p>hello"))
    assert "(502: Bad Gateway)." in run_setup(capsys, *ROLE).err


def test_missing_permission_is_named_in_the_fix(account: Account) -> None:
    keys = _person(account, "sts:GetCallerIdentity", "iam:GetRole")
    done = account.setup(*ROLE)
    assert done.status == 1
    assert f"The provider of {ISSUER} could not be checked: " in done.err
    assert "AWS rejected iam:CreateRole (AccessDenied: " in done.err
    assert "allow iam:CreateRole" in done.err
    assert "--profile" in done.err
    assert keys["SecretAccessKey"] not in done.err


@pytest.mark.parametrize(
    ("step", "action"),
    [(ROLE, "iam:GetRole"), (("oidc-provider", *ROLE[2:4], "--skip-checks"), "iam:GetOpenIDConnectProvider")],
)
def test_denied_read_is_an_error(account: Account, step: tuple[str, ...], action: str) -> None:
    _person(account, "sts:GetCallerIdentity")
    done = account.setup(*step)
    assert (done.status, done.out) == (1, "")
    assert f"AWS rejected {action} (AccessDenied: " in done.err


def _person(account: Account, *actions: str) -> dict[str, str]:
    """Use the credentials of a user who has only these permissions."""
    account.iam.create_user(UserName="somebody")
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    account.iam.put_user_policy(UserName="somebody", PolicyName="x", PolicyDocument=document)
    keys: dict[str, str] = account.iam.create_access_key(UserName="somebody")["AccessKey"]
    account.use(keys["AccessKeyId"], keys["SecretAccessKey"])
    return keys


@pytest.mark.usefixtures("responses")
@pytest.mark.parametrize(
    ("environment", "arguments", "status", "word"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, (), 2, "aws sso login"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, (), 2, "aws sso login"),
        ({}, ("--profile", "nobody"), 2, "AWS_PROFILE"),
        ({"AWS_ENDPOINT_URL": "nowhere"}, (), 2, "nowhere"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, (), 1, "HTTPS_PROXY"),
        ({}, ("--region", "x y"), 2, "x y"),
    ],
)
def test_local_error_is_one_line_with_a_fix(  # noqa: PLR0917
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    arguments: tuple[str, ...],
    status: int,
    word: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = run_setup(capsys, *ROLE, *arguments)
    assert (done.status, done.out) == (status, "")
    assert word in done.err
    assert done.err.count("\n") == 1


def test_cluster_flag_requires_a_region(
    responses: list[tuple[int, bytes]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    responses.append(
        (200, b"<R><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/x</Arn></GetCallerIdentityResult></R>")
    )
    done = run_setup(capsys, "oidc-provider", "--cluster", "shop")
    assert done.status == 2
    assert "--region" in done.err
    assert "AWS_REGION" in done.err


def test_missing_cluster_is_named_in_the_error(account: Account) -> None:
    done = account.setup("oidc-provider", "--cluster", "nowhere")
    assert done.status == 1
    assert "eks:DescribeCluster (ResourceNotFoundException: No cluster found for name: nowhere)" in done.err


def _all_errors(kind: type[Exception]) -> Iterator[type[Exception]]:
    for child in kind.__subclasses__():
        yield child
        yield from _all_errors(child)


def test_every_botocore_error_becomes_a_sidecar_error() -> None:
    for kind in _all_errors(fault.BotoCoreError):
        exc = kind.__new__(kind)
        Exception.__init__(exc, "two\nlines.")
        ours = aws._botocore_error(exc)
        assert isinstance(ours, SidecarError)
        assert "(two lines)" in str(ours) or str(ours).endswith("two lines.")
    assert isinstance(aws._botocore_error(fault.SSOTokenLoadError(error_msg="x")), SidecarError)
    assert not isinstance(aws._botocore_error(fault.SSOTokenLoadError(error_msg="x")), ConfigurationError)


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("AccessDenied", "allow s3:GetObject and s3:ListBucket"),
        ("SlowDown", "Run this again later"),
        ("PermanentRedirect", "Set --region to the bucket's region"),
    ],
)
def test_rejection_of_s3_has_a_fix(monkeypatch: pytest.MonkeyPatch, code: str, fix: str) -> None:
    """Without s3:ListBucket, S3 denies access to a missing object."""

    def rejected(*_: Any, **__: Any) -> Any:
        raise aws._rejection(fault.ClientError({"Error": {"Code": code}}, "GetObject"), "s3:GetObject")

    client = aws.Aws()
    monkeypatch.setattr(client, "call", rejected)
    with pytest.raises(AwsError, match=fix):
        client.read_object("shop-oidc", "jwks")
