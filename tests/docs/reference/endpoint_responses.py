"""Collect the listeners' responses: constants from the code, and other responses from examples."""

import json
import types
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from sidecar.clock import Instant
from sidecar.credentials import Credentials
from sidecar.serving import container_credentials, http, imds, server
from sidecar.serving.container_credentials import Response, credentials_response
from sidecar.serving.hosts import LOOPBACK
from sidecar.serving.http import Grammar, Rejection
from sidecar.serving.status import FAILING, Client, DaemonStatus, Failure, LastCall, RoleStatus
from sidecar.store import Snapshot

NOW = Instant(datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC).timestamp(), 1000.0)

CREDENTIALS = Credentials(
    access_key_id="ASIAEXAMPLE",
    secret_access_key="EXAMPLE",
    session_token="EXAMPLE",
    expires_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    role_arn="arn:aws:iam::111122223333:role/app",
    account_id="111122223333",
)

SNAPSHOT = Snapshot(
    CREDENTIALS, credentials_response(CREDENTIALS), Instant(NOW.wall + 3600, NOW.monotonic + 3600), NOW.wall
)


STATUS = DaemonStatus(
    "1.0.0",
    NOW.wall,
    600.0,
    (
        RoleStatus(
            name="default",
            role_arn=CREDENTIALS.role_arn,
            state=FAILING,
            expires_in_seconds=1500.0,
            next_refresh_in_seconds=42.0,
            session_seconds=3600,
            token_expires_in_seconds=80_000.0,
            clock_skew_seconds=0.2,
            last_call=LastCall("AccessDenied", 403, 18.0, 0.127),
            error=Failure("AccessDenied", "AccessDenied: …", needs_person=False),
            served=12,
            clients=(Client(1000, None, 40.0),),
        ),
    ),
)


class Answer(NamedTuple):
    """The parts of one HTTP response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str

    @property
    def message(self) -> str:
        """The message in an error response."""
        return str(json.loads(self.body)["message"])


class ExampleRole:
    """The fields of a role that the endpoints use."""

    role_name = "default"
    role_arn = CREDENTIALS.role_arn
    authorization = b"secret"
    can_check_secret = False

    def __init__(
        self,
        snapshot: Snapshot | None = SNAPSHOT,
        last_error: str | None = None,
        allow_uids: frozenset[int] | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.last_error = last_error
        self.allow_uids = allow_uids


def parsed(content: bytes) -> Answer:
    """Return the parts of a response from its bytes."""
    head, _, body = content.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = (tuple(line.split(": ", 1)) for line in lines)
    return Answer(int(first.split()[1]), tuple((name, value) for name, value in headers), body)


def constants_of(module: types.ModuleType) -> list[Answer]:
    """Return the responses that a module defines as constants, without imported constants."""
    found = (vars(module)[name] for name in vars(module) if name.startswith("_"))
    return [parsed(each.content) for each in found if isinstance(each, (Response, Rejection)) and each.content]


def of_the_grammar(grammar: Grammar) -> Iterator[Answer]:
    """Yield the rejections of malformed HTTP requests."""
    yield from constants_of(http)
    for _, faults, otherwise in (grammar._line_rules, http._FIELD_RULES):
        yield from (
            parsed(each._replace(has_body=True).content) for each in (*(fault[1] for fault in faults), otherwise)
        )
    for name in http._SINGLE:
        repeated = http._repetition([(name, b":", b"1"), (name, b":", b"2")])
        assert repeated is not None
        yield parsed(repeated.content)


def of_the_server() -> list[Answer]:
    """Return the server's own responses, about slow clients and about too many clients."""
    return constants_of(server)


def of_the_credentials() -> Iterator[Answer]:
    """Yield the rejections and errors from the credentials endpoint."""
    yield from constants_of(container_credentials)
    denying = ExampleRole(allow_uids=frozenset({1001}))
    for uid in (None, 1002):
        rejection = container_credentials.reject_user(denying, lambda uid=uid: uid)  # type: ignore[misc]
        assert rejection is not None
        yield parsed(rejection.content)
    for role in (ExampleRole(None), ExampleRole(None, "AccessDenied: …"), ExampleRole(last_error="AccessDenied: …")):
        yield parsed(container_credentials.unavailable(role).content)


def of_imds() -> list[Answer]:
    """Return the rejections from the endpoint that emulates EC2's metadata service."""
    return constants_of(imds)


def imds_answer(method: str, path: str, headers: str = "") -> Answer:
    """Return the response of the emulated metadata service to one request."""
    request = imds.parse(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:4774\r\n{headers}\r\n".encode())
    assert isinstance(request, http.Request)
    instance = imds.Instance(bytes(32), LOOPBACK, "eu-west-1")
    return parsed(imds.respond(request, ExampleRole(), instance, NOW, lambda: 1001).content)


def open_session() -> str:
    """Return the header with the token of a session."""
    token = imds_answer("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n").body
    return f"X-aws-ec2-metadata-token: {token}\r\n"


def unique(answers: Iterable[Answer]) -> list[Answer]:
    """Return the responses by status, without duplicates."""
    return sorted(dict.fromkeys(answers), key=lambda answer: answer.status)
