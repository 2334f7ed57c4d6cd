"""Build responses of STS as text, and parse them."""

import pytest
from hypothesis import settings

from sidecar.credentials import Credentials
from sidecar.errors import ExchangeError
from sidecar.sts.wire import read_reply

steady = settings(deadline=None, derandomize=True)
"""Hypothesis settings with the same inputs on every run, and without a deadline."""

ROLE_ARN = "arn:aws:iam::111122223333:role/app"
KEY, SECRET, SESSION_TOKEN = (
    "ASIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "IQoJb3JpZ2luX2VjEJr+/=",
)
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"

GOOD = f"""<?xml version="1.0" encoding="UTF-8"?>
<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>system:serviceaccount:shop:app</SubjectFromWebIdentityToken>
    <Audience>sts.amazonaws.com</Audience>
    <AssumedRoleUser>
      <Arn>arn:aws:sts::111122223333:assumed-role/app/shop.app</Arn>
      <AssumedRoleId>AROA3XFRBF535PLBIFPI4:shop.app</AssumedRoleId>
    </AssumedRoleUser>
    <Credentials>
      <SessionToken>{SESSION_TOKEN}</SessionToken>
      <SecretAccessKey>{SECRET}</SecretAccessKey>
      <Expiration>2026-01-02T03:04:05Z</Expiration>
      <AccessKeyId>{KEY}</AccessKeyId>
    </Credentials>
    <Provider>arn:aws:iam::111122223333:oidc-provider/oidc.example</Provider>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>ad4156e9-bce1-11e2-82e6-6b6efEXAMPLE</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>
"""


def read(
    body: str | bytes, status: int = 200, retry_after: str | None = None, milliseconds: str | None = None
) -> Credentials:
    raw = body.encode() if isinstance(body, str) else body
    return read_reply(status, raw, role_arn=ROLE_ARN, retry_after=retry_after, retry_after_milliseconds=milliseconds)


def refusal(
    body: str | bytes, status: int = 200, retry_after: str | None = None, milliseconds: str | None = None
) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        read(body, status, retry_after, milliseconds)
    return caught.value


def error_body(code: str, message: str) -> str:
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<ErrorResponse>{error}</ErrorResponse>"
