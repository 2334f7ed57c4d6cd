"""Write docs/reference/endpoint.md: paths, statuses, bodies and headers of every listener."""

import json
from collections.abc import Iterable, Iterator, Mapping

from sidecar.metrics import Metrics
from sidecar.role import CREDENTIALS_PATH
from sidecar.serving import admin, http, imds, status
from sidecar.serving.admin import STALLED_SECONDS, RoleState
from sidecar.serving.http import MAX_FIELDS, MAX_HEAD_BYTES
from sidecar.serving.limits import Limits
from sidecar.webhook.service import PATH
from tests.docs.reference import markdown
from tests.docs.reference.endpoint_notes import (
    CREDENTIAL_FIELDS,
    DENIALS,
    HEADERS,
    IMDS_DOCUMENTS,
    STATUS_FIELDS,
    STATUSES,
)
from tests.docs.reference.endpoint_responses import (
    NOW,
    SNAPSHOT,
    STATUS,
    Answer,
    imds_answer,
    of_imds,
    of_the_credentials,
    of_the_grammar,
    of_the_server,
    open_session,
    parsed,
    unique,
)
from tests.docs.reference.markdown import code, fenced, marked, section, sentences, table

LIMITS = Limits()

_LISTENERS = (
    ("credentials endpoint", "`127.0.0.1:4772`", "[IRSA_SIDECAR_LISTEN](settings.md#irsa_sidecar_listen)"),
    ("metadata service", "off", "[IRSA_SIDECAR_IMDS_LISTEN](settings.md#irsa_sidecar_imds_listen)"),
    ("admin address", "`0.0.0.0:4773`", "[IRSA_SIDECAR_ADMIN_LISTEN](settings.md#irsa_sidecar_admin_listen)"),
    ("webhook", "`:8443`, over TLS", "[--listen](commands.md#irsa-sidecar-webhook)"),
    ("admin address of the webhook", "`:8080`", "[--admin-listen](commands.md#irsa-sidecar-webhook)"),
)

_REQUESTS = f"""
A client sends one request per connection, in HTTP/1.0 or 1.1 and without a body.
The method is GET. Only the metadata service also accepts a PUT, to open a session.
The daemon ignores the query of the URL.
The `Host` header must name the listener: `127.0.0.1`, `localhost`, `[::1]` or the IP address of the listener.
A request with a header that only proxies or browsers add, such as `X-Forwarded-For` or `Origin`, gets a 403.

The head of a request has at most {MAX_HEAD_BYTES} bytes and {MAX_FIELDS} headers.
The head must arrive within {LIMITS.head_seconds:.0f} seconds.
If the client sends nothing in the first second, the daemon waits one second longer.
A client must read its response within {LIMITS.write_seconds:.0f} seconds.
The credentials endpoint serves at most {LIMITS.connections} slow clients at once.
If half of the limit on open files is lower, that number is the limit.
Above this limit, the endpoint closes the connection with the longest idle time.
"""

_CREDENTIALS = f"""
`GET {CREDENTIALS_PATH}` serves the role `default`, and `GET {CREDENTIALS_PATH}/NAME` any other role.
If the role has a secret, the client sends it as the whole value of `Authorization`, without a scheme.
Before the first credentials, a request waits for at most {LIMITS.hold_seconds} seconds.
The response never has expired credentials. Its `Expiration` is the value that STS returned.
"""

_ERRORS = """
The body of an error has the code and the message twice, because some SDKs read `code` and others read `Code`.
`code` is the reason phrase of the status without spaces. Without valid credentials, it is `CredentialsUnavailable`.
"""

_IMDS = """
The daemon can serve version 2 of the API of EC2's instance metadata service.
This API is for clients that cannot use the credentials endpoint.
Every client that can connect gets the role `default`, or the first role of the roles file if no role has that name.
Only `allow_uids` of that role restricts the clients.
Version 1 does not work: a request without a session gets a 401.
"""

_SESSION = f"""
`PUT /latest/api/token` opens a session.
The header `X-aws-ec2-metadata-token-ttl-seconds` has the lifetime of the session, from 1 to \
{imds.MAX_SESSION_SECONDS} seconds.
The body of the response is the token, which each later request sends as `X-aws-ec2-metadata-token`.
A session is lost when the daemon restarts.
"""

_ADMIN = f"""
The admin address serves probes, metrics and the state of the daemon, and never credentials.
`/livez` fails if the loop of a role has not run for {STALLED_SECONDS:.0f} seconds.
`/readyz` fails until every role has valid credentials, and `/readyz/NAME` fails until the role NAME has valid
credentials.
"""

_STATUS = f"""
`/status` returns the state of the daemon as a JSON document.
On loopback, `/status` and `/` answer with 403 if the `Host` header does not name the address.
The document contains no credentials, no access key IDs and no tokens.
Its form is stable: a new version can add fields, and a change of an existing field changes `schema_version`.
Each instant that ends in `_at` is on the clock of the daemon.
The seconds beside it do not depend on that clock, so use them if the clocks of the machines can differ.
An unknown value is null.
`/` shows the document as text, and as HTML if the request accepts `text/html`.
A text has at most {status.MAX_TEXT} characters, and control characters in it are escaped.
"""

_WEBHOOK = f"""
The API server calls `POST {PATH}` over TLS, with an AdmissionReview.
The webhook responds with 200 and a review, or with 400 if the body is not an AdmissionReview.
It responds with 503 if too many large Pods wait.

The admin address of the webhook serves `GET /livez`, `GET /readyz` and `GET /metrics`.
`/livez` returns 200 while the process runs.
`/readyz` returns 200 once the webhook has a certificate and knows the version of the API server.
Before that, and while the webhook stops, it returns 503 with the reasons.
"""

_REASONS = "The event [request_denied](log-events.md#request_denied) has one of these reasons."

_SHARED = "The metadata service also returns the errors of the credentials endpoint about proxies, `Host` and users."


def page() -> str:
    return markdown.page(
        "Endpoint",
        "This page lists the paths, statuses, bodies and headers of every address that irsa-sidecar serves.",
        table(("listener", "default", "setting"), _LISTENERS),
        section(2, "Requests", sentences(_REQUESTS)),
        section(2, "Credentials endpoint", sentences(_CREDENTIALS), _example(), _table(CREDENTIAL_FIELDS, "field")),
        section(2, "Errors", sentences(_ERRORS), _error_example(), table(("status", "meaning"), _statuses())),
        section(3, "Errors of the credentials endpoint", _answers(of_the_credentials())),
        section(3, "Errors of every listener of the daemon", _answers(_of_every_listener())),
        section(3, "Reasons in the log", _REASONS, _table(DENIALS, "reason")),
        section(2, "Headers of responses", _table(HEADERS, "header")),
        section(2, "Metadata service", sentences(_IMDS), sentences(_SESSION)),
        section(3, "Documents", table(("path", "meaning"), _codes(IMDS_DOCUMENTS)), *_documents()),
        section(3, "Errors of the metadata service", _SHARED, _answers(of_imds())),
        section(2, "Admin address", sentences(_ADMIN), table(("path", "status", "body", "when"), _probes())),
        section(3, "/status", sentences(_STATUS), fenced(_status_example(), "json"), *_status_fields()),
        section(2, "Webhook", sentences(_WEBHOOK)),
    )


def _of_every_listener() -> Iterator[Answer]:
    yield from of_the_grammar(http.Grammar("GET"))
    yield from of_the_server()


def _table(notes: Mapping[str, str], name: str) -> str:
    return table((name, "meaning"), _codes(notes))


def _codes(notes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((code(name), text) for name, text in notes.items())


def _statuses() -> Iterator[tuple[str, str]]:
    return ((f"{status} {http.REASONS[status]}", text) for status, text in STATUSES.items())


def _answers(answers: Iterable[Answer]) -> str:
    rows = ((str(each.status), marked(each.message.replace("|", "\\|"))) for each in unique(answers))
    return table(("status", "message"), rows)


def _example() -> str:
    request = f"GET {CREDENTIALS_PATH} HTTP/1.1\nHost: 127.0.0.1:4772\nAuthorization: SECRET"
    return f"{fenced(request, 'http')}\n\n{fenced(_text(parsed(SNAPSHOT.response)), 'http')}"


def _error_example() -> str:
    return fenced(_text(next(answer for answer in of_the_credentials() if answer.status == 401)), "http")


def _text(answer: Answer) -> str:
    head = "\n".join(f"{name}: {value}" for name, value in answer.headers)
    return f"HTTP/1.1 {answer.status} {http.REASONS[answer.status]}\n{head}\n\n{answer.body}"


def _documents() -> Iterator[str]:
    """Yield the body of each document that is JSON."""
    session = open_session()
    for path in IMDS_DOCUMENTS:
        body = imds_answer("GET", path, session).body
        if body.startswith("{"):
            yield f"`GET {path}`:"
            yield fenced(body, "json")


def _status_example() -> str:
    return json.dumps(status.as_document(STATUS), indent=2, ensure_ascii=False)


def _status_fields() -> Iterator[str]:
    """Yield a table for each object in the document."""
    for name, fields in STATUS_FIELDS.items():
        yield f"The fields of {name}:"
        yield _table(fields, "field")
    yield "The states of a role:"
    yield _table(status.STATES, "state")


def _probes() -> Iterator[tuple[str, str, str, str]]:
    """Yield the responses of the admin address, of a healthy and of a broken daemon."""
    healthy = RoleState("default", True, None, NOW.monotonic, None, None, None, None)  # noqa: FBT003
    waiting = healthy._replace(is_ready=False, last_error="AccessDenied: …")
    stuck = healthy._replace(checked_at=NOW.monotonic - STALLED_SECONDS - 1)
    for path, role, when in (
        ("/livez", healthy, "the loop of every role runs"),
        ("/livez", stuck, "the loop of a role is stuck"),
        ("/readyz", healthy, "every role has valid credentials"),
        ("/readyz", waiting, "a role has no valid credentials"),
        ("/readyz/default", healthy, "this role has valid credentials"),
        ("/readyz/other", healthy, "no role has this name"),
        ("/metrics", healthy, "always"),
        ("/status", healthy, "always"),
        ("/", healthy, "with [IRSA_SIDECAR_ADMIN_PAGE](settings.md#irsa_sidecar_admin_page)"),
        ("/other", healthy, "any other path"),
    ):
        answer = _admin_answer(path, role)
        body = _ELSEWHERE.get(path) or code(answer.body.strip())
        yield code(path), str(answer.status), body, when


_ELSEWHERE = {
    "/metrics": "the [metrics](metrics.md)",
    "/status": "the [state of the daemon](#status)",
    "/": "the same for people",
}
"""The bodies of the admin address that other parts of the reference describe, by their path."""


def _admin_answer(path: str, role: RoleState) -> Answer:
    if path in ("/status", "/"):
        return Answer(200, (), "")
    request = http.parse(f"GET {path} HTTP/1.1\r\nHost: 10.0.0.7:4773\r\n\r\n".encode())
    assert isinstance(request, http.Request)
    return parsed(admin.respond(request, [role], Metrics(), 0, NOW).content)
