"""Check the credentials endpoint as AWS SDKs use it: address, secret, response and expiration. Pure."""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from sidecar.clock import instant_text
from sidecar.doctor.checks.token import duration_text
from sidecar.doctor.finding import Check, Finding, failed, ok, skipped, warning

FIELDS = frozenset({"AccessKeyId", "SecretAccessKey", "Token", "Expiration"})
"""Fields of the response that at least one SDK requires."""

KNOWN_FIELDS = FIELDS | {"AccountId", "RoleArn"}
"""
Fields that no SDK rejects. `Code` is an error for Rust's and Kotlin's SDKs, and old .NET SDKs fail on other names.
"""

EXPIRATION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
"""Pattern for the only timestamp format that every SDK reads. JavaScript's and Rust's SDKs reject a UTC offset."""

SDK_WINDOW_SECONDS = 15 * 60
"""Remaining lifetime below which botocore and the SDKs of Java and .NET call the endpoint on every use."""

SHORTEST_SDK_TIMEOUT_SECONDS = 1.0
"""Shortest timeout of any SDK. Java, JavaScript, PHP and C++ use it."""

POD_IDENTITY_HOSTS = frozenset({"169.254.170.23", "fd00:ec2::23"})
ECS_HOST = "169.254.170.2"


class SecretFacts(NamedTuple):
    """
    Facts about the secret that an SDK would send, without the secret itself.

    `file` is the path in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, and `problem` is the problem with that file.
    `in_variable` is true if AWS_CONTAINER_AUTHORIZATION_TOKEN is set. `are_equal` is false if the file and the variable
    hold different secrets.
    """

    file: str | None = None
    problem: str = ""
    ends_in_newline: bool = False
    in_variable: bool = False
    are_equal: bool = True


class EndpointResponse(NamedTuple):
    """
    The endpoint's response, without secrets.

    `message` is the text of an error response. `fields` are the field names in the body, and `empty` are the required
    fields without a text. `error` is the reason for a missing response. `is_refused` is true if no connection was
    possible, usually because no process listens on the port.
    """

    status: int = 0
    error: str = ""
    is_refused: bool = False
    seconds: float = 0.0
    content_type: str = ""
    is_json: bool = True
    fields: frozenset[str] = frozenset()
    empty: tuple[str, ...] = ()
    message: str = ""
    expiration: str = ""
    expires_at: float | None = None
    access_key_id: str = ""
    role_arn: str = ""


class EndpointFacts(NamedTuple):
    """
    Facts about the endpoint. `setting` is the name of the setting that holds `url`.

    `is_expected` is false if no daemon has to run here, for example on a laptop. `response` is None if the endpoint was
    not called. `role_arn` is the expected role, if known.
    """

    url: str
    setting: str
    is_expected: bool
    now: float
    secret: SecretFacts = SecretFacts()
    response: EndpointResponse | None = None
    role_arn: str | None = None


def _address(facts: EndpointFacts) -> Finding:
    host = _host(facts)
    if host is None or host == "":
        return failed(f"{facts.setting} is not a URL that an SDK can call", "Use http://127.0.0.1:4772/v1/credentials")
    if host in POD_IDENTITY_HOSTS:
        return failed(
            f"{facts.setting} is the address of EKS Pod Identity ({host}): the association of this service account "
            "overrides the sidecar",
            "Delete the Pod Identity association, or use another service account",
        )
    if host == ECS_HOST:
        return failed(
            f"{facts.setting} is the address of Amazon ECS ({host})", "Use http://127.0.0.1:4772/v1/credentials"
        )
    if _parts(facts).scheme == "https":
        return _encrypted_address(facts, host)
    return _plain_address(facts, host)


def _encrypted_address(facts: EndpointFacts, host: str) -> Finding:
    """
    Reject https on loopback, and accept https with another host.

    SDKs accept https with any host. The daemon serves plain HTTP, so an https address on loopback is not the daemon's.
    """
    if _is_loopback(host):
        use = shown(facts.url).replace("https://", "http://", 1)
        return failed(f"{shown(facts.url)} is https, but irsa-sidecar serves plain http on loopback", f"Use {use}")
    return ok(f"{shown(facts.url)}: SDKs accept https with any host. It is not this Pod's sidecar")


def _plain_address(facts: EndpointFacts, host: str) -> Finding:
    fix = "Use http://127.0.0.1, the only loopback address that every SDK accepts"
    if host == "127.0.0.1":
        return ok(shown(facts.url))
    if not _is_loopback(host):
        return failed(f"{shown(facts.url)} is not on loopback: over plain http SDKs reject {host}", fix)
    rejecting = {"localhost": "SDKs that use a resolver", "::1": "JavaScript's version 2 and Debian 12's botocore"}
    sdks = rejecting.get(host, "Kotlin's, JavaScript's version 2 and Debian 12's botocore")
    return warning(f"{shown(facts.url)} is loopback, but {sdks} may reject {host}", fix)


def _secret(facts: EndpointFacts) -> Finding | None:
    secret = facts.secret
    if secret.file is None and not secret.in_variable:
        return None
    if secret.problem:
        return failed(
            f"the secret's file {secret.file} cannot be used: {secret.problem}",
            "Mount the volume `irsa-sidecar-authorization` in this container, readable by its user",
        )
    if secret.ends_in_newline:
        return failed(
            f"{secret.file} ends in a newline: botocore, Go, Java and JavaScript reject such a secret",
            "Write the file without a newline: use printf %s, not echo",
        )
    if not secret.are_equal:
        return failed(
            f"AWS_CONTAINER_AUTHORIZATION_TOKEN and {secret.file} hold different secrets: some SDKs send the one, and "
            "some SDKs send the other",
            "Remove AWS_CONTAINER_AUTHORIZATION_TOKEN, or use the same secret in both",
        )
    if secret.file is None:
        return warning(
            "the secret is only in AWS_CONTAINER_AUTHORIZATION_TOKEN",
            "Set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE too: without it Rust's object_store ignores the endpoint",
        )
    return ok(f"{secret.file} has one line without a newline")


def _connection(facts: EndpointFacts) -> Finding:
    response = facts.response
    if response is None:
        return skipped("the endpoint was not called")
    if response.is_refused and not facts.is_expected:
        return skipped(
            f"no daemon runs here: no process listens at {shown(facts.url)}",
            "To check the endpoint, start `irsa-sidecar run`, or run doctor in the Pod",
        )
    if response.is_refused:
        return failed(
            f"no process listens at {shown(facts.url)}",
            "Check whether the sidecar runs (kubectl get pod, kubectl logs POD -c irsa-sidecar), and whether its "
            "IRSA_SIDECAR_LISTEN has this port",
        )
    if response.error:
        return failed(
            f"{shown(facts.url)} does not respond ({response.error})",
            "Check which process listens on that port: all containers of a Pod share its ports",
        )
    return ok(f"{shown(facts.url)} responds in {1000 * response.seconds:.0f} ms")


_NOT_OURS = "Check which process listens on that port: it is not irsa-sidecar"

_BY_STATUS = {
    401: "Set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE to the file that holds the secret",
    403: "Use http://127.0.0.1, this Pod's own secret and no proxy",
    404: "Correct the path: /v1/credentials, or /v1/credentials/NAME for a named role",
    503: "Run doctor in the sidecar's container: its exchange with STS shows the reason",
}


def _credentials(facts: EndpointFacts) -> Finding:
    response = _response(facts)
    if response.status != 200:
        return _error_response(response)
    if not response.is_json:
        return failed("the endpoint returns 200 with a body that is not a JSON object", _NOT_OURS)
    missing = sorted(FIELDS - response.fields) + list(response.empty)
    if missing:
        return failed(f"the endpoint's response lacks {', '.join(missing)}", _NOT_OURS)
    if unknown := sorted(response.fields - KNOWN_FIELDS):
        extra = f"the endpoint's response has {', '.join(unknown)}, which some SDKs treat as an error"
        return warning(extra, _NOT_OURS)
    if not EXPIRATION.fullmatch(response.expiration):
        unreadable = f"Expiration is {response.expiration[:40]!r}, which JavaScript's and Rust's SDKs cannot read"
        return failed(unreadable, _NOT_OURS)
    return ok(f"200 with {response.access_key_id} for {response.role_arn or 'an unnamed role'}")


def _error_response(response: EndpointResponse) -> Finding:
    # The first sentence of the response's message is the problem, and the next sentence is the fix. The finding takes
    # the fix from `_BY_STATUS`, so only the first sentence is shown. For 503 the whole message is shown.
    message = response.message if response.status == 503 else response.message.partition(". ")[0]
    text = f": {message}" if message else ""
    next_step = _BY_STATUS.get(response.status, "Check which process listens on that port: it may not be irsa-sidecar")
    return failed(f"the endpoint returns {response.status}{text}".removesuffix("."), next_step)


def _remaining(facts: EndpointFacts) -> Finding:
    expires_at = _response(facts).expires_at
    if expires_at is None:
        return failed("Expiration is not a valid time", _NOT_OURS)
    remaining = expires_at - facts.now
    if remaining <= 0:
        return failed(
            f"the served credentials expired at {instant_text(expires_at)}, {duration_text(-remaining)} ago by this "
            "machine's clock",
            "Check this machine's clock, and which process listens on that port: irsa-sidecar does not serve expired "
            "credentials",
        )
    if remaining < SDK_WINDOW_SECONDS:
        return warning(
            f"the served credentials expire in {duration_text(remaining)}: below 15 minutes botocore, Java and .NET "
            "call the endpoint on every use",
            "Check why no refresh succeeds (kubectl logs POD -c irsa-sidecar), or whether IRSA_SIDECAR_DURATION is "
            "below 1800",
        )
    return ok(f"valid until {instant_text(expires_at)}, {duration_text(remaining)} from now, beyond every SDK's window")


def _latency(facts: EndpointFacts) -> Finding | None:
    seconds = _response(facts).seconds
    if seconds < SHORTEST_SDK_TIMEOUT_SECONDS / 2:
        return None
    return warning(
        f"the endpoint took {seconds:.1f} s to respond: Java, JavaScript, PHP and C++ time out after "
        f"{SHORTEST_SDK_TIMEOUT_SECONDS:.0f} s",
        "Raise the sidecar's CPU limit, which throttles it",
    )


def _expected_role(facts: EndpointFacts) -> Finding | None:
    served_arn = _response(facts).role_arn
    if facts.role_arn is None or not served_arn or served_arn == facts.role_arn:
        return None
    return failed(
        f"the endpoint serves {served_arn}, not {facts.role_arn}",
        "Check which process listens on that port, and its AWS_ROLE_ARN",
    )


def shown(url: str) -> str:
    """Return the URL without its user information and query, which may hold secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a URL that cannot be read)"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _parts(facts: EndpointFacts) -> SplitResult:
    return urlsplit(facts.url)


def _host(facts: EndpointFacts) -> str | None:
    try:
        parts = _parts(facts)
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.scheme in {"http", "https"} else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _response(facts: EndpointFacts) -> EndpointResponse:
    assert facts.response is not None, "the checks after `connection` have a response"
    return facts.response


CHECKS: tuple[Check[EndpointFacts], ...] = (
    Check("address", "does every SDK accept the address", _address),
    Check(
        "secret",
        "is the secret readable, without a newline, and the same in the file and the variable",
        _secret,
        after=("address",),
    ),
    Check("connection", "does a process respond at the address", _connection, after=("address",)),
    Check(
        "credentials",
        "does the endpoint serve credentials with exactly the fields that SDKs need",
        _credentials,
        after=("secret", "connection"),
    ),
    Check("role", "do the credentials belong to the expected role", _expected_role, after=("credentials",)),
    Check(
        "remaining", "are the credentials valid beyond every SDK's refresh window", _remaining, after=("credentials",)
    ),
    Check("latency", "does the endpoint respond before the shortest SDK timeout", _latency, after=("credentials",)),
)
