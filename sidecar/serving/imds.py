"""
The credentials as EC2's instance metadata service gives them, for clients older than the container form. Pure.

Rule: version 2 of it and never version 1. A client opens a session by PUT and shows its token with every GET, which
whatever can only be made to send a GET cannot. The token itself says when the session ends, under a MAC with a key of
this process, so that no number of sessions takes memory. No secret is asked for, as these clients know of none, and
there is one role, as they cannot choose: whoever can connect is given it, unless the role is for some users alone.

Paths, headers, statuses and documents: Amazon EC2 User Guide, "Use the Instance Metadata Service" and "Retrieve
security credentials from instance metadata". What no honest answer exists for is 404.
"""

import hmac
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sidecar.clock import Instant, instant_text
from sidecar.serving import container_credentials as endpoint
from sidecar.serving import http
from sidecar.serving.container_credentials import Answer, FindUid, refused
from sidecar.serving.http import Request

if TYPE_CHECKING:
    from sidecar.store import Snapshot  # as in endpoint.py

KEY_BYTES = 32

MAX_SESSION_SECONDS = 21_600

parse = http.Grammar("GET", "PUT").parse
"""A PUT is as bare as a GET: the session's length is in a header, and EC2's clients send no body."""


class ImdsRole(endpoint.Route, Protocol):
    """The role that is served, and its ARN, whose last part is the name that clients ask for."""

    @property
    def role_arn(self) -> str: ...


def answer(
    request: Request,
    role: ImdsRole,
    region: str | None,
    now: Instant,
    uid: FindUid,
    *,
    key: bytes,
    hosts: Collection[bytes],
) -> Answer:
    """
    Decide one request. `region` is where the Pod runs, if known, `key` makes and checks session tokens, and `uid` and
    `hosts` are as in endpoint.answer.

    Slashes around a path are passed over: an SDK may join it to an endpoint that ends in one, and botocore asks for the
    availability zone with one behind. The path `…/security-credentials-extended/`, which SDKs of 2025 try first, is 404
    as on most instances, and they go on to the one without `-extended`.
    """
    if stranger := endpoint.turned_away(request.headers, hosts):
        return stranger
    path = request.path.strip(b"/")
    if request.method == b"PUT":
        return _open_session(path, request.headers.get(_TTL_HEADER), key, now)
    token = request.headers.get(_TOKEN_HEADER)
    if token is None:
        return _NO_SESSION
    if not _is_open(token, key, now):
        return _SESSION_OVER
    if path == _TOKEN_PATH:
        return _ONLY_PUT
    return endpoint.wrong_user(role, uid) or _document(path, role, region, now)


# Sessions

_TTL_HEADER, _TOKEN_HEADER = b"x-aws-ec2-metadata-token-ttl-seconds", b"x-aws-ec2-metadata-token"
_TOKEN_PATH = b"latest/api/token"
_RECORD_DIGITS = 16


def _open_session(path: bytes, ttl: bytes | None, key: bytes, now: Instant) -> Answer:
    """
    A token for as many seconds as were asked for, which the header repeats: Go's and Rust's SDKs read it there.

    A 403, 404 or 405 here would make most SDKs try version 1 from then on; 400 ends their attempt.
    """
    if path != _TOKEN_PATH:
        return _ONLY_GET
    if ttl is None or not re.fullmatch(rb"[0-9]{1,5}", ttl) or not 1 <= int(ttl) <= MAX_SESSION_SECONDS:
        return _BAD_TTL
    seconds = int(ttl)
    token = _token(b"%016x" % int((now.monotonic + seconds) * 1000), key)
    return _text(token.decode("ascii"), ("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", str(seconds)))


def _token(record: bytes, key: bytes) -> bytes:
    """The record, which is when the session ends in monotonic milliseconds, and its MAC: both as hexadecimal digits."""
    return record + hmac.digest(key, record, "sha256").hex().encode("ascii")


def _is_open(token: bytes, key: bytes, now: Instant) -> bool:
    """Whether we made the token, told in a time that does not depend on how much of it is right, and it still lasts."""
    record = token[:_RECORD_DIGITS]
    return hmac.compare_digest(token, _token(record, key)) and now.monotonic * 1000 < int(record, 16)


# Documents


class _Arn(NamedTuple):
    """The parts of a role's ARN (IAM User Guide, IAM identifiers); `name` is without its path."""

    partition: str
    account_id: str
    name: str

    @classmethod
    def of(cls, text: str) -> "_Arn":
        _, partition, _, _, account_id, resource = text.split(":", 5)
        return cls(partition, account_id, resource.rpartition("/")[2])


_ROLES = b"latest/meta-data/iam/security-credentials"
_INFO = b"latest/meta-data/iam/info"


def _document(path: bytes, role: ImdsRole, region: str | None, now: Instant) -> Answer:
    """
    What the path stands for. Of the living set it is, where there is none, 503 with the reason.

    EC2 says 200 with a `Code` other than Success then. No SDK takes either for credentials, but only a 503 makes Go,
    Rust and the older JavaScript ask again, and of a 503 Java shows a person the message.
    """
    arn = _Arn.of(role.role_arn)
    if path == _ROLES:
        return _text(arn.name)
    of_role = path == _ROLES + b"/" + arn.name.encode("ascii")
    if not of_role and path != _INFO:
        return _of_the_place(path, arn, region)
    snapshot = role.snapshot
    if snapshot is None or not snapshot.is_valid(now):
        return endpoint.unavailable(role)
    if not of_role:
        return _text(_info(arn, snapshot))
    return _text(_credentials(snapshot))._replace(role=role.role, snapshot=snapshot)


def _of_the_place(path: bytes, arn: _Arn, region: str | None) -> Answer:
    tell = _PLACES.get(path)
    if tell is None:
        return _NO_SUCH_PATH
    return _NO_REGION if region is None else _text(tell(arn, region))


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
    """An instance profile has its role's name, unless somebody chose another. Clients take the account from the ARN."""
    return _json(
        {
            "Code": "Success",
            "LastUpdated": instant_text(snapshot.arrived_at),
            "InstanceProfileArn": f"arn:{arn.partition}:iam::{arn.account_id}:instance-profile/{arn.name}",
        }
    )


def _identity(arn: _Arn, region: str) -> str:
    """What SDKs take the region from, and tools the account. Of an instance there is nothing else to tell."""
    return _json({"accountId": arn.account_id, "region": region, "version": "2017-09-30"})


def _zone(_arn: _Arn, region: str) -> str:
    """The first zone: botocore takes a letter off to have the region. The Pod may well be in another one."""
    return f"{region}a"


_PLACES: Mapping[bytes, Callable[[_Arn, str], str]] = {
    b"latest/meta-data/placement/region": lambda _arn, region: region,
    b"latest/meta-data/placement/availability-zone": _zone,
    b"latest/dynamic/instance-identity/document": _identity,
}


def _json(values: Mapping[str, str]) -> str:
    """A value a line and ` : ` between, as EC2 has it: there are scripts that find a value by its line."""
    return json.dumps(values, indent=2, separators=(",", " : "))


def _text(body: str, *headers: tuple[str, str]) -> Answer:
    return Answer(200, http.response(200, body.encode("ascii"), content_type="text/plain", headers=headers))


# Refusals

_NO_SESSION = refused(
    401,
    "This is version 2 of the metadata service: PUT /latest/api/token first, and send the token as "
    "X-aws-ec2-metadata-token.",
    ("WWW-Authenticate", "Token"),
)
_SESSION_OVER = refused(
    401,
    "The session token is not of this process, or its time is over: PUT /latest/api/token for another one.",
    ("WWW-Authenticate", "Token"),
)
_BAD_TTL = refused(400, f"X-aws-ec2-metadata-token-ttl-seconds must be 1 to {MAX_SESSION_SECONDS}.")
_ONLY_GET = refused(405, "Everything but /latest/api/token is asked for by GET.", ("Allow", "GET"))
_ONLY_PUT = refused(405, "/latest/api/token is asked for by PUT.", ("Allow", "PUT"))
_NO_REGION = refused(404, "The region is not known here: set AWS_REGION for irsa-sidecar.")
_NO_SUCH_PATH = refused(
    404,
    "irsa-sidecar knows no more of an instance than /latest/meta-data/iam, /latest/meta-data/placement and "
    "/latest/dynamic/instance-identity/document.",
)
