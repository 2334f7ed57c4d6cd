"""
What the credentials endpoint answers. Pure: a request, what each role serves now, and the time; an `Answer` comes out.

Default deny, in this order: the request was not passed on by a browser or a proxy, it names this endpoint as its
host, the path is a role's, the secret is right, the user is allowed, the credentials are alive. So nothing about
credentials, not even whether there are any, is said before the secret and the user are right. A set is handed out
whole, as the bytes made when it arrived, and never after its expiration.
"""

import hmac
import json
import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sidecar.clock import Instant
from sidecar.credentials import Credentials
from sidecar.serving import http
from sidecar.serving.http import Request

if TYPE_CHECKING:  # these import trio and socket: a type is all that is needed of them here
    from sidecar.serving.peer import Asker
    from sidecar.serving.pending import Pending
    from sidecar.store import Snapshot

LOOPBACK_HOSTS = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
"""How clients in the Pod name this endpoint. Any other name may be an attacker's that resolves to loopback."""


class Route(Protocol):
    """
    What one role serves now. The daemon's own role is one, so that nothing is built per request.

    `failure` says why the last refresh failed and what to do, or is None; it is shown to callers that hold the
    secret. `authorization` is the secret, or None if none is asked for; `can_check_secret` says whether the server can
    check the secret's file again; `allow_uids` the users that may ask, or None
    for everybody.
    """

    @property
    def role(self) -> str: ...
    @property
    def snapshot(self) -> "Snapshot | None": ...
    @property
    def authorization(self) -> bytes | None: ...
    @property
    def can_check_secret(self) -> bool: ...
    @property
    def allow_uids(self) -> Collection[int] | None: ...
    @property
    def failure(self) -> str | None: ...


class Answer(NamedTuple):
    """
    A response, and what metrics and the audit log need to know of it.

    `snapshot` is the set that was handed out, if one was; `refusal` says why none was to a client that may not have
    it. `hold` asks the server to wait for what it names and decide again, and to send this response if that does not
    come in time.
    `asker` is for the audit log, which has a line for it or None.
    """

    status: int
    response: bytes
    role: str | None = None
    snapshot: "Snapshot | None" = None
    hold: "Hold | None" = None
    refusal: str | None = None
    asker: "Asker | None" = None

    def __repr__(self) -> str:
        """Without the response, which may hold secrets."""
        return f"Answer(status={self.status}, role={self.role!r}, hold={self.hold})"


class Hold(Enum):
    """The event that a request waits for."""

    CREDENTIALS = "credentials"
    """The role's first credentials."""
    SECRET = "secret"  # noqa: S105  the name of a kind
    """A check of the secret's file: the client may have read a newer secret there."""
    USER = "user"
    """The next moment at which the kernel's tables may be read."""


FindUid = Callable[[], "int | Pending | None"]
"""Returns the user of the client, by the kernel's word: None if it is unknown, PENDING if it has to be asked later."""


def credentials_response(credentials: Credentials) -> bytes:
    """
    The whole response that serves this set (AWS SDK reference, container credential provider).

    Exactly these names: Rust's and Kotlin's SDKs take a `Code` for an error, and old .NET fails on unknown ones.
    """
    body = {
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": credentials.expiration,
        "AccountId": credentials.account_id,
        "RoleArn": credentials.role_arn,
    }
    return http.response(200, json.dumps(body).encode("ascii"))


def answer(
    request: Request,
    routes: Mapping[bytes, Route],
    hosts: Collection[bytes],
    now: Instant,
    uid: FindUid,
) -> Answer:
    """
    Decide one request. `routes` is keyed by path; `hosts` holds lower-case names without port, IPv6 in brackets.

    The query is ignored, and so is an Authorization header where no secret is set. `uid` is called for a
    role that has `allow_uids`, once everything else about the client is right.
    """
    headers = request.headers
    if stranger := turned_away(headers, hosts):
        return stranger
    route = routes.get(request.path)
    if route is None:
        return _NO_SUCH_PATH
    if refusal := _wrong_secret(route, request) or wrong_user(route, uid):
        return refusal
    snapshot = route.snapshot
    if snapshot is not None and snapshot.is_valid(now):
        return Answer(200, snapshot.response, route.role, snapshot)
    return unavailable(route)


def turned_away(headers: Mapping[bytes, bytes], hosts: Collection[bytes]) -> Answer | None:
    """Why nobody who sends these headers is answered, whatever is asked for; None for a client of this Pod."""
    if _passed_on(b"\n".join(headers)):
        return _THIRD_PARTY
    if not _names_us(headers.get(b"host"), hosts):
        return _WRONG_HOST
    return None


_passed_on = re.compile(
    rb"^(?:forwarded|via|x-forwarded-[^\n]*|x-real-ip|origin|referer|sec-fetch-[^\n]*)$", re.MULTILINE
).search
"""
Headers that only proxies (RFC 7239, RFC 9110 7.6.3) and browsers (Fetch Metadata, RFC 6454) add, as IMDSv2 refuses
X-Forwarded-For. No AWS client sends one.
"""


def _names_us(host: bytes | None, hosts: Collection[bytes]) -> bool:
    """
    Whether the Host header is ours, with any port or none (the CRT's clients leave it out).

    Only HTTP/1.0 may come without one; no browser speaks that.
    """
    if host is None:
        return True
    name, _, port = host.lower().rpartition(b":")
    return (name if port.isdigit() else host.lower()) in hosts


def refused(status: int, message: str, *headers: tuple[str, str], refusal: str | None = None) -> Answer:
    return Answer(status, http.error_response(status, message, headers=headers), refusal=refusal)


_THIRD_PARTY = refused(403, "The request was passed on by a proxy or made by a web page: call the endpoint directly.")
_WRONG_HOST = refused(403, "The Host header is not this endpoint's: call it as 127.0.0.1.")
_NO_SUCH_PATH = refused(404, "No role is served on this path: check AWS_CONTAINER_CREDENTIALS_FULL_URI.")
_NO_SECRET = refused(
    401,
    "No Authorization header: set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE to the file that holds the secret.",
    ("WWW-Authenticate", "Token"),  # RFC 9110 11.6.1 wants a challenge; SDKs send the secret without a scheme
    refusal="no secret",
)
_WITH_SCHEME = refused(
    403,
    "The Authorization header starts with a scheme such as Bearer: send the secret alone, without a scheme before it.",
    refusal="authorization scheme",
)
_IN_QUOTES = refused(
    403,
    "The Authorization header is in quotes: send the secret alone, without quotes around it.",
    refusal="quoted secret",
)
_WRONG_SECRET = refused(
    403,
    "The Authorization header is wrong: "
    "read it again from AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, and check that it is this path's.",
    refusal="wrong secret",
)


def _wrong_secret(route: Route, request: Request) -> Answer | None:
    """
    Return a rejection unless the whole header value equals the secret. The comparison takes constant time.

    The rejection waits for a check of the secret's file, because the client may have read a newer one there.
    """
    secret, given = route.authorization, request.headers.get(b"authorization")
    if secret is None:
        return None
    if given is None:
        return _NO_SECRET._replace(role=route.role)
    if hmac.compare_digest(given, secret):
        return None
    hold = Hold.SECRET if route.can_check_secret and not request.has_waited else None
    return _mismatch(given)._replace(role=route.role, hold=hold)


_SCHEME = re.compile(rb"(?:aws|basic|bearer|digest|negotiate|token|aws4-hmac-sha256)[ \t:=]", re.IGNORECASE)
"""Schemes that clients are known to put before the secret. Others could be the start of a secret with a space in it."""

_QUOTED = re.compile(rb"""(["']).*\1""")


def _mismatch(given: bytes) -> Answer:
    """Describe the text around the value, if any. The value itself is neither compared again nor shown."""
    if _SCHEME.match(given):
        return _WITH_SCHEME
    return _IN_QUOTES if _QUOTED.fullmatch(given) else _WRONG_SECRET


def wrong_user(route: Route, uid: FindUid) -> Answer | None:
    """Return a rejection if the role is for some users only, and `uid` is not one of them. An unknown user is none."""
    if route.allow_uids is None or (user := uid()) in route.allow_uids:
        return None
    if not isinstance(user, int):
        message = (
            f"The credentials of role {route.role!r} are for the users in its allow_uids, and which user asks cannot "
            "be told: ask from this Pod itself, without a proxy, and keep the connection open for the answer."
        )
        hold = None if user is None else Hold.USER  # PENDING
        return refused(403, message, refusal="unknown user")._replace(role=route.role, hold=hold)
    message = (
        f"User id {user} may not have the credentials of role {route.role!r}: ask as a user in its allow_uids, or add "
        f"{user} there."
    )
    return refused(403, message, refusal="wrong user")._replace(role=route.role)


def unavailable(route: Route) -> Answer:
    """
    503, the status that most SDKs retry, also while the role's trust policy still spreads.

    Only a role that never had a set is worth waiting for: after that a refresh has been failing for hours.
    """
    reason = route.failure or "the first exchange with STS has not ended yet"
    if route.snapshot is None:
        message = f"No credentials for role {route.role!r} yet: {reason}"
    else:
        message = f"The credentials of role {route.role!r} expired at {route.snapshot.credentials.expiration}: {reason}"
    response = http.error_response(503, message, code="CredentialsUnavailable")
    return Answer(503, response, route.role, hold=None if route.snapshot else Hold.CREDENTIALS)
