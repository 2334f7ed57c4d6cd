"""
Decide the status and body of the credentials endpoint from a request, the state of each role, and the time. Pure.

Rule: default deny. The first checks are that no browser or proxy forwarded the request, that its Host is this endpoint,
and that its path belongs to a role. Checks of the secret, the user and the validity of the credentials follow in this
order. A client without the right secret and user therefore learns nothing about credentials, not even whether they
exist. The response with credentials is rendered once, when STS returns them, and never served after their expiration.
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
from sidecar.serving.hosts import Hosts, is_accepted
from sidecar.serving.http import Request

if TYPE_CHECKING:  # these modules import trio and socket, and this module needs only their types
    from sidecar.serving.peer import Peer
    from sidecar.serving.sock_diag import Pending
    from sidecar.store import Snapshot


class Route(Protocol):
    """
    The state of one role. The daemon's ServedRole implements this protocol, so no object is created per request.

    `last_error` is the reason why the last refresh failed, with the fix, or None. Clients with the right secret see it.
    `authorization` is the secret, or None if the role needs none. `can_check_secret` is True if the server can check
    the secret's file again. `allow_uids` are the users that may get the credentials, or None for every user.
    """

    @property
    def role_name(self) -> str: ...
    @property
    def snapshot(self) -> "Snapshot | None": ...
    @property
    def authorization(self) -> bytes | None: ...
    @property
    def can_check_secret(self) -> bool: ...
    @property
    def allow_uids(self) -> Collection[int] | None: ...
    @property
    def last_error(self) -> str | None: ...


class Response(NamedTuple):
    """
    An HTTP response, with the facts that metrics and the audit log need.

    `content` is the whole response in bytes. `snapshot` are the credentials in it, if any. `denial` is the reason for
    denying them. With `hold`, the server waits for that event for a limited time, and then decides again. `peer` is set
    if the audit log reserved a line for this response. `is_for_all` is True if every client that sends the same request
    at this time gets this response.
    """

    status: int
    content: bytes
    role_name: str | None = None
    snapshot: "Snapshot | None" = None
    hold: "Hold | None" = None
    denial: str | None = None
    peer: "Peer | None" = None
    is_for_all: bool = False

    def __repr__(self) -> str:
        """Omit the content, which may contain secrets."""
        return f"Response(status={self.status}, role_name={self.role_name!r}, hold={self.hold})"


class Hold(Enum):
    """The event that a request waits for."""

    CREDENTIALS = "credentials"
    """The arrival of the role's first credentials."""
    SECRET = "secret"  # noqa: S105  the name of an event
    """The end of a check of the secret's file, because the client may have read a newer secret there."""
    USER = "user"
    """The next time at which the kernel's tables may be read, to find the client's user."""


FindUid = Callable[[], "int | Pending | None"]
"""The type of a function that returns the client's user, None if the user is unknown, or PENDING to repeat the call
later."""


def credentials_response(credentials: Credentials) -> bytes:
    """
    Return the whole response for these credentials (AWS SDK reference, container credential provider).

    The body has exactly these names: Rust's and Kotlin's SDKs treat a `Code` as an error, and old .NET SDKs fail on
    unknown names.
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


def respond(request: Request, routes: Mapping[bytes, Route], hosts: Hosts, now: Instant, uid: FindUid) -> Response:
    """
    Return the response to one request. `routes` is keyed by path.

    The query is ignored. An Authorization header is ignored too if the role has no secret. `uid` is called only for a
    role that has `allow_uids`, after all other checks of the client.
    """
    if rejection := reject_foreign(request.headers, hosts):
        return rejection
    route = routes.get(request.path)
    if route is None:
        return _NO_SUCH_PATH
    if rejection := _reject_secret(route, request) or reject_user(route, uid):
        return rejection
    snapshot = route.snapshot
    if snapshot is not None and snapshot.is_valid(now):
        return Response(200, snapshot.response, route.role_name, snapshot, is_for_all=route.allow_uids is None)
    return unavailable(route)


def reject_foreign(headers: Mapping[bytes, bytes], hosts: Hosts) -> Response | None:
    """Return a rejection if a browser or a proxy sent the request, or if it names another host; else None."""
    if _find_forwarding(b"\n".join(headers)):
        return _THIRD_PARTY
    if not is_accepted(headers.get(b"host"), hosts):
        return _WRONG_HOST
    return None


_find_forwarding = re.compile(
    rb"^(?:forwarded|via|x-forwarded-[^\n]*|x-real-ip|origin|referer|sec-fetch-[^\n]*)$", re.MULTILINE
).search
"""
Search for headers that only proxies (RFC 7239, RFC 9110 7.6.3) and browsers (Fetch Metadata, RFC 6454) add.

IMDSv2 rejects X-Forwarded-For for the same reason. No AWS client sends any of them.
"""


def rejection(status: int, message: str, *headers: tuple[str, str], denial: str | None = None) -> Response:
    """Return an error response. `denial` is the reason for the audit log, if the client was denied credentials."""
    return Response(status, http.error_response(status, message, headers=headers), denial=denial)


_THIRD_PARTY = rejection(403, "A proxy or a web page sent the request. Call the endpoint directly.")
_WRONG_HOST = rejection(403, "The Host header does not name this endpoint. Call it as 127.0.0.1.")
_NO_SUCH_PATH = rejection(404, "No role is served on this path. Check AWS_CONTAINER_CREDENTIALS_FULL_URI.")
_NO_SECRET = rejection(
    401,
    "No Authorization header. Set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE to the file that holds the secret.",
    ("WWW-Authenticate", "Token"),  # RFC 9110 11.6.1 requires a challenge; SDKs send the secret without a scheme
    denial="no secret",
)
_WITH_SCHEME = rejection(
    403,
    "The Authorization header starts with a scheme such as Bearer. Send the secret alone, without a scheme before it.",
    denial="authorization scheme",
)
_IN_QUOTES = rejection(
    403,
    "The Authorization header is in quotes. Send the secret alone, without quotes around it.",
    denial="quoted secret",
)
_WRONG_SECRET = rejection(
    403,
    "The Authorization header is wrong. "
    "Read it again from AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, and check that this is the file for this path.",
    denial="wrong secret",
)


def _reject_secret(route: Route, request: Request) -> Response | None:
    """
    Return a rejection unless the whole header value equals the secret, or the route has no secret.

    The comparison takes constant time.

    The server holds the rejection until it has checked the secret's file, because the client may have read a newer
    secret there.
    """
    secret, sent = route.authorization, request.headers.get(b"authorization")
    if secret is None:
        return None
    if sent is None:
        return _NO_SECRET._replace(role_name=route.role_name)
    if hmac.compare_digest(sent, secret):
        return None
    hold = Hold.SECRET if route.can_check_secret and not request.has_waited else None
    return _mismatch(sent)._replace(role_name=route.role_name, hold=hold)


_SCHEME = (
    rb"(?i:basic|bearer|concealed|digest|dpop|gnap|hoba|mutual|negotiate|oauth|privatetoken|scram-sha-(?:1|256)|vapid"
    rb"|api-?key|aws|aws4-hmac-sha256|hawk|jwt|key|ntlm|token)[ \t:=]"
)
"""
Pattern for schemes that clients put before the secret: all in IANA's registry of HTTP authentication schemes, and those
that are common without registration. Other words could be part of a secret with a space.
"""

_QUOTED = rb"""(["']).*\1"""


def _mismatch(sent: bytes) -> Response:
    """Return a rejection that names a scheme before the value or quotes around it, if there are any."""
    if re.match(_SCHEME, sent):
        return _WITH_SCHEME
    return _IN_QUOTES if re.fullmatch(_QUOTED, sent) else _WRONG_SECRET


def reject_user(route: Route, uid: FindUid) -> Response | None:
    """Return a rejection if only some users may use the role, and `uid` is unknown or not one of them; else None."""
    if route.allow_uids is None or (user := uid()) in route.allow_uids:
        return None
    if not isinstance(user, int):
        message = (
            f"The credentials of role {route.role_name!r} are for the users in its allow_uids, and the client's user "
            "is unknown. Connect from this Pod, without a proxy, and keep the connection open for the response."
        )
        hold = None if user is None else Hold.USER  # PENDING
        return rejection(403, message, denial="unknown user")._replace(role_name=route.role_name, hold=hold)
    message = (
        f"User id {user} may not have the credentials of role {route.role_name!r}. Run the client as a user in its "
        f"allow_uids, or add {user} there."
    )
    return rejection(403, message, denial="wrong user")._replace(role_name=route.role_name)


def unavailable(route: Route) -> Response:
    """
    Return a 503, which most SDKs retry. The status is the same while IAM still propagates the trust policy.

    The request is held only if the role never had credentials. Expired credentials mean that refreshes have failed for
    a long time.
    """
    reason = route.last_error or "the first exchange with STS has not ended yet"
    if route.snapshot is None:
        message = f"No credentials for role {route.role_name!r} yet: {reason}"
    else:
        message = (
            f"The credentials of role {route.role_name!r} expired at {route.snapshot.credentials.expiration}: {reason}"
        )
    response = http.error_response(503, message, code="CredentialsUnavailable")
    return Response(503, response, route.role_name, hold=None if route.snapshot else Hold.CREDENTIALS)
