"""
Check that any response to an exchange, with any status, leads to complete credentials or one ExchangeError.

The error can be logged: it is one line and quotes no secret.
"""

from datetime import UTC

from sidecar.credentials import Credentials
from sidecar.errors import ExchangeError
from sidecar.sts.wire import MAX_MESSAGE_LENGTH, read_reply

STATUSES = (200, 202, 400, 403, 429, 503)
ROLE_ARN = "arn:aws:iam::111122223333:role/app"
STS_SECRETS = ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjEJr+/=", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIi")
"""The secrets that occur in the corpus."""


def target(data: bytes) -> None:
    for status in STATUSES:
        try:
            credentials = read_reply(status, data, role_arn=ROLE_ARN)
        except ExchangeError as error:
            _is_fit_for_a_log(error, status)
        else:
            assert status == 200
            _are_whole(credentials)
            _need_every_byte(data)


def _is_fit_for_a_log(error: ExchangeError, status: int) -> None:
    assert error.status == status
    assert error.code
    assert len(str(error)) < 2 * MAX_MESSAGE_LENGTH
    assert str(error).isprintable()
    assert error.code == "MalformedReply" or status >= 300
    # An error hides only text that looks like a token, because only a success contains credentials.
    hidden = STS_SECRETS if status == 200 else STS_SECRETS[2:]
    assert not any(secret in str(error) for secret in hidden)


def _are_whole(credentials: Credentials) -> None:
    for text in (credentials.access_key_id, credentials.secret_access_key, credentials.session_token):
        assert text
        assert all("!" <= char <= "~" for char in text)
    assert credentials.expires_at.tzinfo is UTC
    assert credentials.expires_at.microsecond == 0
    assert len(credentials.account_id) == 12
    assert credentials.role_arn == ROLE_ARN


def _need_every_byte(data: bytes) -> None:
    """Check that a response without a part of its last tag is rejected."""
    try:
        read_reply(200, data[: data.rindex(b">")], role_arn=ROLE_ARN)
    except ExchangeError:
        return
    raise AssertionError("credentials from a reply that was cut off")
