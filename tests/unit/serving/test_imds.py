"""Test the sessions, documents and rejections in the format of EC2's metadata service."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.clock import Instant
from sidecar.serving import imds
from sidecar.serving.container_credentials import FindUid, Hold, Response
from sidecar.serving.hosts import LOOPBACK
from sidecar.serving.http import Request
from sidecar.store import Snapshot
from tests.unit.serving.test_container_credentials import CREDENTIALS, NOW, SNAPSHOT, Role, body_of, is_user, no_lookup

KEY = b"k" * imds.KEY_BYTES
ROLES = "/latest/meta-data/iam/security-credentials/"
TTL = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "x-aws-ec2-metadata-token"


@dataclass(frozen=True)
class ImdsRole(Role):
    role_arn: str = "arn:aws:iam::111122223333:role/shop/app"


ROLE = ImdsRole()
NO_HEADERS: Mapping[str, str] = {}


def send(
    method: str,
    path: str,
    headers: Mapping[str, str] = NO_HEADERS,
    *,
    role: ImdsRole = ROLE,
    region: str | None = "eu-west-1",
    key: bytes = KEY,
    now: Instant = NOW,
    uid: FindUid = no_lookup,
) -> Response:
    sent = {name.encode(): value.encode() for name, value in {"host": "127.0.0.1:4774", **headers}.items()}
    request = Request(path.encode(), b"1.1", sent, 100, method.encode())
    return imds.respond(request, role, imds.Instance(key, LOOPBACK, region), now, uid)


def text_of(response: Response) -> str:
    return response.content.partition(b"\r\n\r\n")[2].decode()


def session(seconds: int = 21_600, *, key: bytes = KEY, now: Instant = NOW) -> str:
    opened = send("PUT", "/latest/api/token", {TTL: str(seconds)}, key=key, now=now)
    assert opened.status == 200
    return text_of(opened)


def get(
    path: str,
    *,
    role: ImdsRole = ROLE,
    region: str | None = "eu-west-1",
    now: Instant = NOW,
    uid: FindUid = no_lookup,
) -> Response:
    """Send a GET in a new session."""
    return send("GET", path, {TOKEN: session(now=now)}, role=role, region=region, now=now, uid=uid)


# Sessions


@pytest.mark.parametrize("seconds", [1, 60, 21_600])
def test_put_opens_a_session_of_the_requested_length(seconds: int) -> None:
    opened = send("PUT", "/latest/api/token", {TTL: str(seconds)})
    assert f"\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: {seconds}\r\n".encode() in opened.content
    assert b"\r\nContent-Type: text/plain\r\n" in opened.content
    token = text_of(opened)
    for passed, status in ((0, 200), (seconds - 0.01, 200), (seconds, 401), (seconds + 1e6, 401)):
        assert send("GET", ROLES, {TOKEN: token}, now=NOW.later(passed)).status == status


@pytest.mark.parametrize("ttl", [None, "", "0", "21601", "-1", "+60", "6e1", "60.0", "six", "0x60", "9" * 5000, "٦٠"])
def test_session_of_invalid_length_is_rejected(ttl: str | None) -> None:
    denied = send("PUT", "/latest/api/token", NO_HEADERS if ttl is None else {TTL: ttl})
    assert denied.status == 400
    assert "1 to 21600" in body_of(denied)["message"]


def test_wall_clock_change_does_not_affect_a_session() -> None:
    token = session(60)
    assert send("GET", ROLES, {TOKEN: token}, now=NOW._replace(wall=NOW.wall + 1e6)).status == 200
    assert send("GET", ROLES, {TOKEN: token}, now=Instant(NOW.wall - 1e6, NOW.monotonic + 60)).status == 401


def test_version_1_request_gets_a_hint_about_version_2() -> None:
    denied = send("GET", ROLES)
    assert denied.status == 401
    assert b"\r\nWWW-Authenticate: " in denied.content
    assert "PUT /latest/api/token" in body_of(denied)["message"]


@pytest.mark.parametrize("forge", [str.upper, str.strip, lambda token: token[:-1], lambda token: token + "0",
                                   lambda token: f" {token}", lambda _: "", lambda _: "0" * 80, lambda _: "é" * 40,
                                   lambda token: "f" * 16 + token[16:], lambda token: f"0x{token[2:]}"])  # fmt: skip
def test_changed_token_is_rejected(forge: object) -> None:
    token = session()
    changed = forge(token)  # type: ignore[operator]
    assert send("GET", ROLES, {TOKEN: changed}).status == (200 if changed == token else 401)


def test_token_of_another_process_is_rejected() -> None:
    assert send("GET", ROLES, {TOKEN: session(key=b"x" * imds.KEY_BYTES)}).status == 401


@given(st.binary(max_size=100))
def test_random_token_is_rejected(token: bytes) -> None:
    request = Request(ROLES.encode(), b"1.1", {TOKEN.encode(): token}, 100)
    assert imds.respond(request, ROLE, imds.Instance(KEY, LOOPBACK, "eu-west-1"), NOW, no_lookup).status == 401


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via", "origin", "sec-fetch-site"])
def test_request_from_a_proxy_or_web_page_is_rejected(header: str) -> None:
    assert send("PUT", "/latest/api/token", {TTL: "60", header: "x"}).status == 403
    assert send("GET", ROLES, {TOKEN: session(), header: "x"}).status == 403


def test_other_host_is_rejected() -> None:
    assert send("PUT", "/latest/api/token", {TTL: "60", "host": "rebound.example"}).status == 403
    assert send("GET", ROLES, {TOKEN: session(), "host": "rebound.example"}).status == 403


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("PUT", ROLES, "GET"), ("PUT", "/", "GET"), ("GET", "/latest/api/token", "PUT")]
)
def test_wrong_method_gets_the_allowed_method(method: str, path: str, allowed: str) -> None:
    denied = send(method, path, {TTL: "60", TOKEN: session()})
    assert denied.status == 405
    assert f"\r\nAllow: {allowed}\r\n".encode() in denied.content


# Documents


@pytest.mark.parametrize("path", [ROLES, ROLES[:-1], f"/{ROLES}", f"//{ROLES}//"])
def test_role_is_listed_by_its_iam_name(path: str) -> None:
    assert text_of(get(path)) == "app"


def test_credentials_have_the_format_of_ec2() -> None:
    response = get(f"{ROLES}app")
    assert (response.status, response.role_name, response.snapshot) == (200, "default", SNAPSHOT)
    assert b"\r\nContent-Type: text/plain\r\n" in response.content
    assert text_of(response).splitlines() == [
        "{",
        '  "Code" : "Success",',
        '  "LastUpdated" : "1970-01-12T13:46:40Z",',
        '  "Type" : "AWS-HMAC",',
        '  "AccessKeyId" : "ASIAEXAMPLE",',
        '  "SecretAccessKey" : "wJalr/secret+key",',
        '  "Token" : "IQoJb3JpZ2luX2Vj=",',
        '  "Expiration" : "2026-01-02T03:04:05Z"',
        "}",
    ]


@given(st.text(), st.text())
def test_any_text_from_sts_is_served_unchanged_as_ascii(secret: str, token: str) -> None:
    credentials = CREDENTIALS._replace(secret_access_key=secret, session_token=token)
    role = ImdsRole(snapshot=SNAPSHOT._replace(credentials=credentials))
    response = get(f"{ROLES}app", role=role)
    assert response.content.isascii()
    assert (body_of(response)["SecretAccessKey"], body_of(response)["Token"]) == (secret, token)


def test_zone_and_identity_follow_the_region() -> None:
    assert text_of(get("/latest/meta-data/placement/region")) == "eu-west-1"
    for path in ("/latest/meta-data/placement/availability-zone", "/latest/meta-data/placement/availability-zone/"):
        assert text_of(get(path)) == "eu-west-1a"
    assert body_of(get("/latest/dynamic/instance-identity/document")) == {
        "accountId": "111122223333",
        "region": "eu-west-1",
        "version": "2017-09-30",
    }


@pytest.mark.parametrize(
    "path",
    ["meta-data/placement/region", "meta-data/placement/availability-zone", "dynamic/instance-identity/document"],
)
def test_unknown_region_is_not_found(path: str) -> None:
    unknown = get(f"/latest/{path}", region=None)
    assert unknown.status == 404
    assert "AWS_REGION" in body_of(unknown)["message"]


def test_info_has_the_profile_arn_and_no_credentials() -> None:
    response = get("/latest/meta-data/iam/info", role=ImdsRole(role_arn="arn:aws-cn:iam::444455556666:role/data"))
    assert response.snapshot is None
    assert body_of(response) == {
        "Code": "Success",
        "LastUpdated": "1970-01-12T13:46:40Z",
        "InstanceProfileArn": "arn:aws-cn:iam::444455556666:instance-profile/data",
    }


@pytest.mark.parametrize(
    "path",
    ["/", "/latest", "/latest/meta-data/", "/latest/meta-data/instance-id", "/latest/user-data", f"{ROLES}other",
     f"{ROLES}app/x", f"{ROLES}APP", f"{ROLES}default", "/v1/credentials", "/latest//meta-data/iam/info",
     "/latest/meta-data/iam/security-credentials-extended/", "/latest/meta-data/iam/security-credentials-extended/app"],
)  # fmt: skip
def test_other_path_is_not_found(path: str) -> None:
    assert get(path).status == 404


@pytest.mark.parametrize("path", [f"{ROLES}app", "/latest/meta-data/iam/info"])
def test_request_before_the_first_credentials_is_held(path: str) -> None:
    waiting = get(path, role=ImdsRole(snapshot=None, last_error="AccessDenied: Not authorized"))
    assert (waiting.status, waiting.hold, waiting.snapshot) == (503, Hold.CREDENTIALS, None)
    assert "AccessDenied: Not authorized" in body_of(waiting)["Message"]


def test_expired_credentials_are_never_served() -> None:
    expired = get(f"{ROLES}app", now=NOW.later(3600))
    assert (expired.status, expired.hold, expired.snapshot) == (503, None, None)
    assert "2026-01-02T03:04:05Z" in body_of(expired)["Message"]


paths = st.sampled_from([ROLES, f"{ROLES}app", "/latest/meta-data/iam/info", "/latest/api/token", "/v1/credentials"])
tokens = st.sampled_from([None, "", session(60), session(21_600), session(60, key=b"other"), "0" * 80])


@given(st.sampled_from(["GET", "PUT"]), paths, tokens, st.sampled_from([SNAPSHOT, None]), st.floats(-100, 1e5))
def test_secrets_need_an_open_session_and_valid_credentials(
    method: str, path: str, token: str | None, snapshot: Snapshot | None, passed: float
) -> None:
    headers = {TTL: "60"} | ({} if token is None else {TOKEN: token})
    now = NOW.later(passed)
    response = send(method, path, headers, role=ImdsRole(snapshot=snapshot), now=now)
    if any(secret in response.content for secret in (b"wJalr/secret+key", b"IQoJb3JpZ2luX2Vj=")):
        assert (method, path, response.snapshot) == ("GET", f"{ROLES}app", snapshot)
        assert snapshot is not None
        assert snapshot.is_valid(now)
        assert token in {session(60), session(21_600)}
    else:
        assert response.snapshot is None
    assert "wJalr/secret+key" not in repr(response)
    if response.status >= 400:
        assert json.loads(text_of(response))["Code"]


def test_allow_uids_applies_to_metadata_clients() -> None:
    role = ImdsRole(allow_uids=frozenset({1001}))
    for path in (f"{ROLES}app", ROLES, "/latest/meta-data/iam/info", "/latest/meta-data/placement/region", "/"):
        assert get(path, role=role, uid=is_user(1001)) == get(path)
        for uid in (1002, None):
            denied = get(path, role=role, uid=is_user(uid))
            assert (denied.status, denied.role_name, denied.snapshot) == (403, "default", None)
            assert denied.denial == ("unknown user" if uid is None else "wrong user")
    assert send("PUT", "/latest/api/token", {TTL: "60"}, role=role).status == 200
    assert send("GET", f"{ROLES}app", role=role).status == 401
