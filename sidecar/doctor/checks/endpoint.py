"""What an AWS SDK meets at the credentials endpoint: address, secret, answer, and how long it lasts. Pure."""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from sidecar.clock import instant_text
from sidecar.doctor.checks.token import duration_text
from sidecar.doctor.finding import Check, Finding, left_out, ok, split_advice, warning, wrong

FIELDS = frozenset({"AccessKeyId", "SecretAccessKey", "Token", "Expiration"})
"""What every SDK's set of required fields comes to."""

KNOWN_FIELDS = FIELDS | {"AccountId", "RoleArn"}
"""Rust's and Kotlin's SDKs take a `Code` for an error, and old .NET fails on any other name."""

EXPIRATION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
"""The one spelling that every SDK reads: JavaScript's and Rust's take no offset."""

SDK_WINDOW_SECONDS = 15 * 60
"""botocore, Java's and .NET's SDKs ask again on every use once less than this remains."""

PATIENCE_SECONDS = 1.0
"""Java, JavaScript, PHP and C++ give up after it."""

POD_IDENTITY_HOSTS = frozenset({"169.254.170.23", "fd00:ec2::23"})
ECS_HOST = "169.254.170.2"


class SecretFacts(NamedTuple):
    """
    The secret as an SDK gets it, without showing it.

    `file` and `problem` are of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; `in_variable` is whether
    AWS_CONTAINER_AUTHORIZATION_TOKEN is set, and `are_equal` whether the two say the same, where both can be read.
    """

    file: str | None = None
    problem: str = ""
    ends_in_newline: bool = False
    in_variable: bool = False
    are_equal: bool = True


class Served(NamedTuple):
    """
    One answer, without its secrets. `message` is what an error says; `fields` are the names in the body.

    `error` is why there was no answer at all, with `refused` for a port that nobody listens on.
    """

    status: int = 0
    error: str = ""
    refused: bool = False
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
    `setting` is what says where it is. `is_expected` is false where a daemon need not be running: on a laptop that
    nobody told of one. `role_arn` is whose credentials they must be, if that is known here.
    """

    url: str
    setting: str
    is_expected: bool
    now: float
    secret: SecretFacts = SecretFacts()
    served: Served | None = None
    role_arn: str | None = None


def _address(facts: EndpointFacts) -> Finding:
    host = _host(facts)
    if host is None or host == "":
        return wrong(f"{facts.setting} is no URL that an SDK could call", "Use http://127.0.0.1:4772/v1/credentials")
    if host in POD_IDENTITY_HOSTS:
        return wrong(
            f"{facts.setting} is that of EKS Pod Identity ({host}): its association of this service account wins over "
            "the sidecar",
            "Take the Pod Identity association away, or use another service account",
        )
    if host == ECS_HOST:
        return wrong(f"{facts.setting} is that of Amazon ECS ({host})", "Use http://127.0.0.1:4772/v1/credentials")
    if _parts(facts).scheme == "https":
        return _encrypted_address(facts, host)
    return _plain_address(facts, host)


def _encrypted_address(facts: EndpointFacts, host: str) -> Finding:
    """SDKs accept https with any host. The daemon speaks plain HTTP, so on loopback it cannot be the daemon."""
    if _is_loopback(host):
        use = shown(facts.url).replace("https://", "http://", 1)
        return wrong(f"{shown(facts.url)} is https, and irsa-sidecar serves plain http on loopback", f"Use {use}")
    return ok(f"{shown(facts.url)}: SDKs accept https with any host. It is not this Pod's sidecar")


def _plain_address(facts: EndpointFacts, host: str) -> Finding:
    use = "Use http://127.0.0.1: it is the one spelling that every SDK takes"
    if host == "127.0.0.1":
        return ok(shown(facts.url))
    if not _is_loopback(host):
        return wrong(f"{shown(facts.url)} is not on loopback: over plain http SDKs refuse {host}", use)
    lacking = {"localhost": "those that ask a resolver", "::1": "JavaScript's version 2 and Debian 12's botocore"}
    some = lacking.get(host, "Kotlin's, JavaScript's version 2 and Debian 12's botocore")
    return warning(f"{shown(facts.url)} is loopback, but {some} may not take {host}", use)


def _secret(facts: EndpointFacts) -> Finding | None:
    secret = facts.secret
    if secret.file is None and not secret.in_variable:
        return None
    if secret.problem:
        return wrong(
            f"the secret's file {secret.file} cannot be used: {secret.problem}",
            "Mount the volume `irsa-sidecar-authorization` in this container, readable by its user",
        )
    if secret.ends_in_newline:
        return wrong(
            f"{secret.file} ends in a newline, with which botocore, Go, Java and JavaScript refuse it",
            "Write it without one: printf %s, not echo",
        )
    if not secret.are_equal:
        return wrong(
            f"AWS_CONTAINER_AUTHORIZATION_TOKEN and {secret.file} hold different secrets, of which SDKs take either",
            "Leave AWS_CONTAINER_AUTHORIZATION_TOKEN out, or make both equal",
        )
    if secret.file is None:
        return warning(
            "the secret is in AWS_CONTAINER_AUTHORIZATION_TOKEN alone",
            "Set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE as well: Rust's object_store passes over the endpoint without",
        )
    return ok(f"{secret.file}, on one line without a newline")


def _reached(facts: EndpointFacts) -> Finding:
    served = facts.served
    if served is None:
        return left_out("not asked")
    if served.refused and not facts.is_expected:
        return left_out(
            f"no daemon here: nothing listens at {shown(facts.url)}",
            "Start `irsa-sidecar run`, or run doctor in the Pod, to have it looked at",
        )
    if served.refused:
        return wrong(
            f"nothing listens at {shown(facts.url)}",
            "See whether the sidecar runs (kubectl get pod, kubectl logs POD -c irsa-sidecar), and whether its "
            "IRSA_SIDECAR_LISTEN has this port",
        )
    if served.error:
        return wrong(
            f"{shown(facts.url)} gives no answer ({served.error})",
            "See what listens on that port: all containers of a Pod share its ports",
        )
    return ok(f"{shown(facts.url)} answers in {1000 * served.seconds:.0f} ms")


_BY_STATUS = {
    401: "Set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE to the file that holds the secret",
    403: "Use http://127.0.0.1, this Pod's own secret, and no proxy in between",
    404: "Correct the path: /v1/credentials, or /v1/credentials/NAME for a role with a name",
    503: "See the exchange with STS, where the reason is: run doctor in the sidecar's container",
}


def _granted(facts: EndpointFacts) -> Finding:
    served = _served(facts)
    if served.status != 200:
        # What a refusal advises is the next step here, and its table knows it better.
        message = served.message if served.status == 503 else split_advice(served.message)[0]
        said = f": {message}" if message else ""
        next_step = _BY_STATUS.get(served.status, "See what listens on that port: it may not be irsa-sidecar")
        return wrong(f"the endpoint answers {served.status}{said}".removesuffix("."), next_step)
    other = "See what listens on that port: it is not irsa-sidecar"
    if not served.is_json:
        return wrong("the endpoint answers 200 with something that is no JSON object", other)
    missing = sorted(FIELDS - served.fields) + list(served.empty)
    if missing:
        return wrong(f"the endpoint's answer lacks {', '.join(missing)}", other)
    if unknown := sorted(served.fields - KNOWN_FIELDS):
        return warning(f"the endpoint's answer has {', '.join(unknown)}, which some SDKs take for an error", other)
    if not EXPIRATION.fullmatch(served.expiration):
        return wrong(f"Expiration is {served.expiration[:40]!r}, which JavaScript's and Rust's SDKs do not read", other)
    return ok(f"200 with {served.access_key_id} for {served.role_arn or 'a role that it does not name'}")


def _lasting(facts: EndpointFacts) -> Finding:
    expires_at = _served(facts).expires_at
    if expires_at is None:
        return wrong("its Expiration is no instant", "See what listens on that port: it is not irsa-sidecar")
    left = expires_at - facts.now
    if left <= 0:
        return wrong(
            f"the credentials that it serves expired at {instant_text(expires_at)}, {duration_text(-left)} ago by this "
            "machine's clock",
            "See what listens on that port (irsa-sidecar serves no expired set), and this machine's clock",
        )
    if left < SDK_WINDOW_SECONDS:
        return warning(
            f"they live {duration_text(left)} more: below 15 minutes botocore, Java and .NET ask again on every use",
            "See why no refresh succeeds (kubectl logs POD -c irsa-sidecar), or whether IRSA_SIDECAR_DURATION is "
            "below 1800",
        )
    return ok(f"good until {instant_text(expires_at)}, {duration_text(left)} from now, outside of every SDK's window")


def _quick(facts: EndpointFacts) -> Finding | None:
    seconds = _served(facts).seconds
    if seconds < PATIENCE_SECONDS / 2:
        return None
    return warning(
        f"the endpoint took {seconds:.1f} s: Java, JavaScript, PHP and C++ give up after {PATIENCE_SECONDS:.0f} s",
        "Give the sidecar more CPU: its limit throttles it",
    )


def _expected_role(facts: EndpointFacts) -> Finding | None:
    served = _served(facts).role_arn
    if facts.role_arn is None or not served or served == facts.role_arn:
        return None
    return wrong(
        f"the endpoint serves {served}, not {facts.role_arn}",
        "See which process listens on that port, and its AWS_ROLE_ARN",
    )


def shown(url: str) -> str:
    """Without what may be secret in it: user and query."""
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


def _served(facts: EndpointFacts) -> Served:
    assert facts.served is not None, "the checks after `reached` have one"
    return facts.served


CHECKS: tuple[Check[EndpointFacts], ...] = (
    Check("address", "does every SDK accept it", _address),
    Check("secret", "is the secret readable, alike in both forms, and without a newline", _secret, after=("address",)),
    Check("connection", "does anything answer there", _reached, after=("address",)),
    Check(
        "credentials",
        "does it serve credentials with exactly the fields that SDKs need",
        _granted,
        after=("secret", "connection"),
    ),
    Check("role", "do they belong to the expected role", _expected_role, after=("credentials",)),
    Check("remaining", "do they last beyond every SDK's refresh window", _lasting, after=("credentials",)),
    Check("latency", "does it answer before the most impatient SDK gives up", _quick, after=("credentials",)),
)
