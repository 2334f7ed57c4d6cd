"""Test the decisions of the credentials endpoint: served credentials, held requests and rejections."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.clock import Instant
from sidecar.credentials import Credentials
from sidecar.serving.container_credentials import Hold, Response, credentials_response, respond
from sidecar.serving.hosts import LOOPBACK, Hosts
from sidecar.serving.http import Request
from sidecar.store import Snapshot

PATH = b"/v1/credentials"
SECRET = b"s3cr3t-of-the-endpoint"
NOW = Instant(wall=1_000_000.0, monotonic=50.0)
CREDENTIALS = Credentials(
    access_key_id="ASIAEXAMPLE",
    secret_access_key="wJalr/secret+key",
    session_token="IQoJb3JpZ2luX2Vj=",
    expires_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    role_arn="arn:aws:iam::111122223333:role/app",
    account_id="111122223333",
)
SNAPSHOT = Snapshot(CREDENTIALS, credentials_response(CREDENTIALS), NOW.later(3600), NOW.wall)


@dataclass(frozen=True)
class Role:
    """A route with fixed values."""

    role_name: str = "default"
    snapshot: Snapshot | None = SNAPSHOT
    authorization: bytes | None = field(default=SECRET, repr=False)
    can_check_secret: bool = False
    last_error: str | None = None
    allow_uids: frozenset[int] | None = None


ROLE = Role()


GOOD: Mapping[bytes, bytes | None] = {b"host": b"127.0.0.1:4772", b"authorization": SECRET}


def no_lookup() -> NoReturn:
    """Fail, because the user is looked up only for a role with allow_uids."""
    raise AssertionError


def is_user(uid: int | None) -> Callable[[], int | None]:
    return lambda: uid


def send(
    role: Role = ROLE,
    headers: Mapping[bytes, bytes | None] | None = None,
    *,
    path: bytes = PATH,
    now: Instant = NOW,
    uid: Callable[[], int | None] = no_lookup,
) -> Response:
    """Send a valid request for the role. `headers` adds or replaces headers. The value None removes a header."""
    sent = {name: value for name, value in {**GOOD, **(headers or {})}.items() if value is not None}
    return respond(Request(path, b"1.1", sent, 100), {PATH: role}, LOOPBACK, now, uid)


def body_of(response: Response) -> dict[str, Any]:
    body = json.loads(response.content.partition(b"\r\n\r\n")[2])
    assert isinstance(body, dict)
    return body


def test_valid_request_gets_the_rendered_credentials() -> None:
    assert send() == Response(200, SNAPSHOT.response, "default", SNAPSHOT, is_for_all=True)


def test_body_has_exactly_the_six_names_that_sdks_read() -> None:
    assert body_of(send()) == {
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "wJalr/secret+key",
        "Token": "IQoJb3JpZ2luX2Vj=",
        "Expiration": "2026-01-02T03:04:05Z",
        "AccountId": "111122223333",
        "RoleArn": "arn:aws:iam::111122223333:role/app",
    }


@given(st.text(), st.text())
def test_any_text_from_sts_is_served_unchanged_as_ascii(secret: str, token: str) -> None:
    whole = credentials_response(CREDENTIALS._replace(secret_access_key=secret, session_token=token))
    assert whole.isascii()
    body = json.loads(whole.partition(b"\r\n\r\n")[2])
    assert (body["SecretAccessKey"], body["Token"]) == (secret, token)


@pytest.mark.parametrize(
    "host",
    [b"127.0.0.1", b"127.0.0.1:4772", b"127.0.0.1:80", b"localhost", b"LOCALHOST:4772", b"[::1]", b"[::1]:4772", None],
)
def test_loopback_host_is_accepted_with_any_port(host: bytes | None) -> None:
    assert send(headers={b"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [b"", b":4772", b"evil.example", b"127.0.0.1.evil.example", b"127.0.0.1:", b"127.0.0.1:80:80", b"127.0.0.1:http",
     b"localhost.", b"2130706433", b"::1", b"[::1", b"127.0.0.1, evil", b"\xff", b"user@127.0.0.1"],
)  # fmt: skip
def test_any_other_host_is_rejected(host: bytes) -> None:
    assert send(headers={b"host": host}).status == 403


def test_configured_host_is_accepted() -> None:
    request = Request(PATH, b"1.1", {b"host": b"Sidecar:4772", b"authorization": SECRET}, 100)
    assert respond(request, {PATH: ROLE}, Hosts(LOOPBACK.names | {b"sidecar"}), NOW, no_lookup).status == 200


@pytest.mark.parametrize(
    "name",
    ["x-forwarded-for", "x-forwarded-host", "x-forwarded-anything", "x-real-ip", "forwarded", "via", "origin",
     "referer", "sec-fetch-site", "sec-fetch-mode"],
)  # fmt: skip
def test_header_of_a_browser_or_proxy_is_rejected(name: str) -> None:
    assert send(headers={name.encode(): b""}).status == 403


@pytest.mark.parametrize("name", ["original", "x-via", "forwarded-by", "accept", "amz-sdk-request", "x-origin"])
def test_similar_headers_are_ignored(name: str) -> None:
    assert send(headers={name.encode(): b"x"}).status == 200


@pytest.mark.parametrize(
    "path", [b"/", b"/v1/credentials/", b"/v1/credentials/other", b"/V1/credentials", b"//v1/credentials"]
)
def test_request_to_another_path_is_not_found(path: bytes) -> None:
    assert send(path=path).status == 404


def test_missing_secret_gets_401_with_a_challenge() -> None:
    denied = send(headers={b"authorization": None})
    assert (denied.status, denied.role_name, denied.snapshot) == (401, "default", None)
    assert b"\r\nWWW-Authenticate: " in denied.content


@pytest.mark.parametrize(
    "sent", [b"", b"wrong", SECRET[:-1], SECRET + b"x", SECRET.upper(), b"Bearer " + SECRET, b"\xff\xfe"]
)
def test_wrong_secret_gets_403(sent: bytes) -> None:
    denied = send(headers={b"authorization": sent})
    assert (denied.status, denied.role_name, denied.snapshot) == (403, "default", None)


@pytest.mark.parametrize(
    "prefix",
    [b"Bearer ", b"bearer ", b"Token ", b"TOKEN\t", b"Basic ", b"Digest ", b"AWS ", b"AWS4-HMAC-SHA256 ", b"token=",
     b"Bearer:", b"ApiKey ", b"api-key: ", b"JWT ", b"OAuth ", b"DPoP ", b"SCRAM-SHA-256 ", b"NTLM "],
)  # fmt: skip
def test_scheme_before_the_secret_is_reported(prefix: bytes) -> None:
    denied = send(headers={b"authorization": prefix + SECRET})
    assert (denied.status, denied.denial) == (403, "authorization scheme")
    assert "without a scheme" in body_of(denied)["message"]
    assert SECRET.decode() not in body_of(denied)["message"]


@pytest.mark.parametrize("quote", [b'"', b"'"])
def test_quotes_around_the_secret_are_reported(quote: bytes) -> None:
    denied = send(headers={b"authorization": quote + SECRET + quote})
    assert (denied.status, denied.denial) == (403, "quoted secret")
    assert "without quotes" in body_of(denied)["message"]


@pytest.mark.parametrize("sent", [b"Bearer", b"bearing " + SECRET, b"x " + SECRET, b'"' + SECRET, b'"', SECRET + b" x"])
def test_other_wrong_secret_gets_the_general_message(sent: bytes) -> None:
    assert send(headers={b"authorization": sent}).denial == "wrong secret"


@pytest.mark.parametrize("secret", [b"Bearer abc", b'"quoted"', b"Token x"])
def test_secret_with_a_scheme_or_quotes_is_accepted(secret: bytes) -> None:
    assert send(Role(authorization=secret), headers={b"authorization": secret}).status == 200


def test_missing_header_gets_401_for_an_empty_secret() -> None:
    assert send(Role(authorization=b""), headers={b"authorization": None}).status == 401


def test_authorization_header_is_ignored_without_a_secret() -> None:
    assert send(Role(authorization=None), headers={b"authorization": b"anything"}).status == 200
    assert send(Role(authorization=None), headers={b"authorization": None}).status == 200


def test_request_before_the_first_credentials_is_held() -> None:
    waiting = send(Role(snapshot=None, last_error="AccessDenied: Not authorized; check the trust policy."))
    assert (waiting.status, waiting.hold, waiting.snapshot) == (503, Hold.CREDENTIALS, None)
    assert body_of(waiting)["Code"] == "CredentialsUnavailable"
    assert "AccessDenied: Not authorized; check the trust policy." in body_of(waiting)["message"]
    assert b"\r\nRetry-After: 1\r\n" in waiting.content


def test_reason_defaults_to_the_pending_first_exchange() -> None:
    assert "STS" in body_of(send(Role(snapshot=None)))["message"]


@pytest.mark.parametrize("now", [NOW.later(3600), NOW._replace(wall=NOW.wall + 3600), NOW._replace(monotonic=3650.0)])
def test_expired_credentials_are_never_served(now: Instant) -> None:
    expired = send(Role(last_error="Timeout: no answer"), now=now)
    assert (expired.status, expired.hold, expired.snapshot) == (503, None, None)
    assert "2026-01-02T03:04:05Z" in body_of(expired)["message"]
    assert "Timeout: no answer" in body_of(expired)["message"]


FOR_ONE = Role(allow_uids=frozenset({1001}))


def test_allow_uids_denies_other_and_unknown_users() -> None:
    assert send(FOR_ONE, uid=is_user(1001)) == send()._replace(is_for_all=False)
    for uid in (1002, 0, 65534, None):
        denied = send(FOR_ONE, uid=is_user(uid))
        assert (denied.status, denied.role_name, denied.snapshot, denied.hold) == (403, "default", None, None)
        assert ("User id " + str(uid) in body_of(denied)["message"]) is (uid is not None)
        assert "allow_uids" in body_of(denied)["message"]
        assert "1001" not in body_of(denied)["message"], "the message does not list the allowed users"
    assert send(Role(allow_uids=frozenset()), uid=is_user(0)).status == 403


def test_secret_is_checked_before_the_user() -> None:
    assert send(FOR_ONE, headers={b"authorization": None}).status == 401
    assert send(FOR_ONE, headers={b"authorization": b"wrong"}) == send(headers={b"authorization": b"wrong"})
    without_secret = replace(FOR_ONE, authorization=None)
    assert send(without_secret, uid=is_user(1001)).status == 200
    assert send(without_secret, headers={b"authorization": SECRET}, uid=is_user(1002)).status == 403


def test_denial_has_a_reason_for_the_audit_log() -> None:
    refusals = [
        send(headers={b"authorization": None}),
        send(headers={b"authorization": b"wrong"}),
        send(FOR_ONE, uid=is_user(1002)),
        send(FOR_ONE, uid=is_user(None)),
    ]
    assert [response.denial for response in refusals] == ["no secret", "wrong secret", "wrong user", "unknown user"]
    assert send().denial is None
    assert send(Role(snapshot=None)).denial is None


STATES = [SNAPSHOT, None, Snapshot(CREDENTIALS, SNAPSHOT.response, NOW, NOW.wall)]


@pytest.mark.parametrize("sent", [None, b"wrong"])
def test_client_without_the_secret_cannot_distinguish_states(sent: bytes | None) -> None:
    responses = {
        send(Role(snapshot=snapshot, last_error=failure), headers={b"authorization": sent}).content
        for snapshot in STATES
        for failure in (None, "AccessDenied")
    }
    assert len(responses) == 1


@pytest.mark.parametrize("uid", [None, 1002])
def test_client_with_another_uid_cannot_distinguish_states(uid: int | None) -> None:
    responses = {send(replace(FOR_ONE, snapshot=snapshot), uid=is_user(uid)).content for snapshot in STATES}
    assert len(responses) == 1


header_names = st.sampled_from([b"host", b"authorization", b"origin", b"via", b"accept", b"x-forwarded-for"])
roles = st.builds(
    Role,
    snapshot=st.sampled_from(STATES),
    last_error=st.just("why"),
    allow_uids=st.sampled_from([None, frozenset({1001})]),
)


@given(
    roles,
    st.sampled_from([PATH, b"/", b"/other"]),
    st.dictionaries(header_names, st.sampled_from([None, b"", b"127.0.0.1", b"evil", SECRET])),
    st.sampled_from([None, 1001, 1002]),
    st.floats(-1e4, 1e4),
)
def test_only_a_200_to_an_allowed_client_contains_secrets(
    role: Role, path: bytes, headers: dict[bytes, bytes | None], uid: int | None, passed_seconds: float
) -> None:
    response = send(role, path=path, headers=headers, now=NOW.later(passed_seconds), uid=is_user(uid))
    secrets = (SECRET, b"wJalr/secret+key", b"IQoJb3JpZ2luX2Vj=")
    if response.status == 200:
        assert role.allow_uids is None or uid in role.allow_uids
        assert response.snapshot is not None
        assert response.snapshot.is_valid(NOW.later(passed_seconds))
    else:
        assert response.snapshot is None
        assert not any(secret in response.content for secret in secrets)
    assert not any(secret.decode() in repr(response) for secret in secrets)
