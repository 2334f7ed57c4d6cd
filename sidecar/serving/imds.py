"""
Decide responses in the format of the EC2 instance metadata service (IMDSv2), for old clients. Pure.

Rule: only version 2 is served, never version 1. A client opens a session with a PUT and sends the session's token with
every GET. An attacker who uses SSRF can usually send only GETs, which open no session. The token contains the session's
expiration, and a MAC with a key of this process, so sessions take no memory. These clients send no secret and cannot
choose a role. The daemon therefore serves one role to every client that can connect, unless the role has `allow_uids`.

Paths, headers, statuses and documents: Amazon EC2 User Guide, "Use the Instance Metadata Service" and "Retrieve
security credentials from instance metadata". The daemon returns 404 for a path without a value.
"""

import hmac
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sidecar.clock import Instant, instant_text
from sidecar.serving import container_credentials as endpoint
from sidecar.serving import http
from sidecar.serving.container_credentials import FindUid, Response, rejection
from sidecar.serving.hosts import Hosts
from sidecar.serving.http import Request

if TYPE_CHECKING:
    from sidecar.store import Snapshot  # only for the types, as in container_credentials.py

KEY_BYTES = 32
"""Length of the key that signs session tokens."""

MAX_SESSION_SECONDS = 21_600
"""Maximum duration of a session in EC2's service (6 hours)."""

parse = http.Grammar("GET", "PUT").parse
"""The parser of GET and PUT. A PUT has no body either: EC2's clients send the session's length in a header."""


class ImdsRole(endpoint.Route, Protocol):
    """The role that is served. The last part of its ARN is the role name in paths."""

    @property
    def role_arn(self) -> str: ...


class Instance(NamedTuple):
    """
    The values that do not change while the process runs.

    `key` signs session tokens. `region` is the Pod's region, or None if it is unknown.
    """

    key: bytes
    hosts: Hosts
    region: str | None


def respond(request: Request, role: ImdsRole, instance: Instance, now: Instant, uid: FindUid) -> Response:
    """
    Return the response to one request. `uid` is the same as in `container_credentials.respond`.

    Slashes around a path are ignored. An SDK may append the path to an endpoint that ends in a slash. botocore requests
    the availability zone with a slash at the end. SDKs of 2025 try `…/security-credentials-extended/` first. The daemon
    returns 404, as most instances do, and the SDKs then request the path without `-extended`.
    """
    if denied := endpoint.reject_foreign(request.headers, instance.hosts):
        return denied
    path = request.path.strip(b"/")
    if request.method == b"PUT":
        return _open_session(path, request.headers.get(_TTL_HEADER), instance.key, now)
    token = request.headers.get(_TOKEN_HEADER)
    if token is None:
        return _NO_SESSION
    if not _is_open(token, instance.key, now):
        return _SESSION_OVER
    if path == _TOKEN_PATH:
        return _ONLY_PUT
    return endpoint.reject_user(role, uid) or _document(path, role, instance.region, now)


# Sessions

_TTL_HEADER, _TOKEN_HEADER = b"x-aws-ec2-metadata-token-ttl-seconds", b"x-aws-ec2-metadata-token"
_TOKEN_PATH = b"latest/api/token"
_RECORD_DIGITS = 16


def _open_session(path: bytes, ttl: bytes | None, key: bytes, now: Instant) -> Response:
    """
    Return a token for the requested number of seconds, or a rejection. A header repeats that number for Go and Rust.

    After a 403, 404 or 405, most SDKs would use version 1 from then on. After a 400 they stop.
    """
    if path != _TOKEN_PATH:
        return _ONLY_GET
    if ttl is None or not re.fullmatch(rb"[0-9]{1,5}", ttl) or not 1 <= int(ttl) <= MAX_SESSION_SECONDS:
        return _BAD_TTL
    seconds = int(ttl)
    token = _token(b"%016x" % int((now.monotonic + seconds) * 1000), key)
    return _text(token.decode("ascii"), ("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", str(seconds)))


def _token(record: bytes, key: bytes) -> bytes:
    """Return the record and its MAC in hexadecimal. The record is the expiration in monotonic milliseconds."""
    return record + hmac.digest(key, record, "sha256").hex().encode("ascii")


def _is_open(token: bytes, key: bytes, now: Instant) -> bool:
    """Return whether we signed the token and the session is still open. The comparison takes constant time."""
    record = token[:_RECORD_DIGITS]
    return hmac.compare_digest(token, _token(record, key)) and now.monotonic * 1000 < int(record, 16)


# Documents


class _Arn(NamedTuple):
    """The parts of a role's ARN (IAM User Guide, IAM identifiers). `name` is the role name without its path."""

    partition: str
    account_id: str
    name: str

    @classmethod
    def of(cls, text: str) -> "_Arn":
        _, partition, _, _, account_id, resource = text.split(":", 5)
        return cls(partition, account_id, resource.rpartition("/")[2])


_ROLES = b"latest/meta-data/iam/security-credentials"
_INFO = b"latest/meta-data/iam/info"


def _document(path: bytes, role: ImdsRole, region: str | None, now: Instant) -> Response:
    """
    Return the document at the path, a 404 if there is none, or a 503 with the reason why credentials are missing.

    EC2 would return 200 with a `Code` other than Success. No SDK accepts either response as credentials. But only a 503
    makes Go, Rust and the older JavaScript retry, and Java shows the message of a 503.
    """
    arn = _Arn.of(role.role_arn)
    if path == _ROLES:
        return _text(arn.name)
    is_credentials = path == _ROLES + b"/" + arn.name.encode("ascii")
    if not is_credentials and path != _INFO:
        return _instance_document(path, arn, region)
    snapshot = role.snapshot
    if snapshot is None or not snapshot.is_valid(now):
        return endpoint.unavailable(role)
    if not is_credentials:
        return _text(_info(arn, snapshot))
    return _text(_credentials(snapshot))._replace(role_name=role.role_name, snapshot=snapshot)


def _instance_document(path: bytes, arn: _Arn, region: str | None) -> Response:
    render = _INSTANCE_DOCUMENTS.get(path)
    if render is None:
        return _NO_SUCH_PATH
    return _NO_REGION if region is None else _text(render(arn, region))


def _credentials(snapshot: "Snapshot") -> str:
    credentials = snapshot.credentials
    return _json(
        {
            "Code": "Success",
            "LastUpdated": instant_text(snapshot.arrived_at),
            "Type": "AWS-HMAC",
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token,
            "Expiration": credentials.expiration,
        }
    )


def _info(arn: _Arn, snapshot: "Snapshot") -> str:
    """Return the document from whose ARN clients read the account. The profile has the role's name, as usual."""
    return _json(
        {
            "Code": "Success",
            "LastUpdated": instant_text(snapshot.arrived_at),
            "InstanceProfileArn": f"arn:{arn.partition}:iam::{arn.account_id}:instance-profile/{arn.name}",
        }
    )


def _identity(arn: _Arn, region: str) -> str:
    """Return the identity document, without an instance's own fields. SDKs read the region, and tools the account."""
    return _json({"accountId": arn.account_id, "region": region, "version": "2017-09-30"})


def _zone(_arn: _Arn, region: str) -> str:
    """Return the region's first zone. botocore removes the letter to get the region; the Pod's zone may differ."""
    return f"{region}a"


_INSTANCE_DOCUMENTS: Mapping[bytes, Callable[[_Arn, str], str]] = {
    b"latest/meta-data/placement/region": lambda _arn, region: region,
    b"latest/meta-data/placement/availability-zone": _zone,
    b"latest/dynamic/instance-identity/document": _identity,
}


def _json(values: Mapping[str, str]) -> str:
    """Return JSON with one value per line and ` : ` as separator, like EC2. Some scripts find a value by its line."""
    return json.dumps(values, indent=2, separators=(",", " : "))


def _text(body: str, *headers: tuple[str, str]) -> Response:
    return Response(200, http.response(200, body.encode("ascii"), content_type="text/plain", headers=headers))


# Rejections

_NO_SESSION = rejection(
    401,
    "This is version 2 of the metadata service: PUT /latest/api/token first, and send the token as "
    "X-aws-ec2-metadata-token.",
    ("WWW-Authenticate", "Token"),
)
_SESSION_OVER = rejection(
    401,
    "The session token has expired, or a previous process created it: PUT /latest/api/token for a new one.",
    ("WWW-Authenticate", "Token"),
)
_BAD_TTL = rejection(400, f"X-aws-ec2-metadata-token-ttl-seconds must be 1 to {MAX_SESSION_SECONDS}.")
_ONLY_GET = rejection(405, "Only /latest/api/token accepts PUT: send GET.", ("Allow", "GET"))
_ONLY_PUT = rejection(405, "/latest/api/token accepts only PUT.", ("Allow", "PUT"))
_NO_REGION = rejection(404, "The region is unknown: set AWS_REGION for irsa-sidecar.")
_NO_SUCH_PATH = rejection(
    404,
    "irsa-sidecar serves only /latest/meta-data/iam, /latest/meta-data/placement and "
    "/latest/dynamic/instance-identity/document.",
)
