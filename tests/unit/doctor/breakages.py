"""Functions that break one thing in a working set-up of real peers."""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import trio

from sidecar.client.exchange import exchange_once
from sidecar.serving.http_message import Request, Response
from tests.support.exchanges import STS_HOST, Authority, Resolver
from tests.support.fakes.scripted_sts import Reply as StsReply
from tests.support.fakes.scripted_sts import ScriptedSts, good_reply
from tests.support.fakes.tokens import jwt_of
from tests.support.served_peer import start_server
from tests.unit.doctor.iam import Iam, served_iam
from tests.unit.doctor.set_up import SECRET, SetUp

Environ = Mapping[str, str]
Break = Callable[[SetUp], Awaitable[Environ]]


class Broken(NamedTuple):
    """One fault, the function that causes the fault, the check that finds it first, and words from the finding."""

    what: str
    break_it: Break
    check: str
    words: str
    is_silent: bool = False
    """True if no peer ever responds. The test then uses short timeouts. Other tests allow for a busy machine."""


def sidecar_with(**changes: str | None) -> Break:
    """Return a function that changes the sidecar's environment."""

    async def break_it(at: SetUp) -> Environ:
        return at.but(**changes)

    return break_it


def application_with(**changes: str | None) -> Break:
    async def break_it(at: SetUp) -> Environ:
        return at.application_but(**changes)

    return break_it


def token_with(**changes: Any) -> Break:
    """Return a function that signs a token with other claims. A function as a value is called with the current time."""

    async def break_it(at: SetUp) -> Environ:
        now = time.time()
        return at.with_token(**{name: value(now) if callable(value) else value for name, value in changes.items()})

    return break_it


def token_file_with(content: str) -> Break:
    async def break_it(at: SetUp) -> Environ:
        return at.with_file(content)

    return break_it


async def no_settings(_at: SetUp) -> Environ:
    return {}


async def region_is_missing(at: SetUp) -> Environ:
    return at.but(AWS_REGION=None, AWS_ENDPOINT_URL_STS=None)


async def role_of_another_partition(at: SetUp) -> Environ:
    return at.but(
        AWS_ROLE_ARN="arn:aws-cn:iam::111122223333:role/app", AWS_REGION="eu-west-1", AWS_ENDPOINT_URL_STS=None
    )


async def roles_file_with_a_mistake(at: SetUp) -> Environ:
    path = at.directory / "roles.yaml"
    path.write_text("roles:\n  - name: default\n    rolearn: arn:aws:iam::111122223333:role/app\n")
    return at.but(IRSA_SIDECAR_CONFIG=str(path))


async def token_is_half_written(at: SetUp) -> Environ:
    return at.with_file(at.services.token_file.read_text()[:300])


async def token_is_a_directory(at: SetUp) -> Environ:
    return at.but(AWS_WEB_IDENTITY_TOKEN_FILE=str(at.directory))


async def token_is_copied_into_the_setting(at: SetUp) -> Environ:
    return at.but(AWS_WEB_IDENTITY_TOKEN_FILE=at.services.token_file.read_text())


async def legacy_token(at: SetUp) -> Environ:
    return at.with_token(iss="kubernetes/serviceaccount", aud=None, exp=None, iat=None, nbf=None)


async def token_with_symmetric_signature(at: SetUp) -> Environ:
    return at.with_file(jwt_of(at.claims(), {"alg": "HS256", "kid": "k1"}))


async def invalid_signature(at: SetUp) -> Environ:
    head, claims, signature = at.services.token_file.read_text().split(".")
    return at.with_file(f"{head}.{claims}.{'A' * len(signature)}")


async def issuer_with_cluster_name(at: SetUp) -> Environ:
    environ = at.with_token(iss="https://kubernetes.default.svc.cluster.local")
    return {name: value for name, value in environ.items() if name != "AWS_ENDPOINT_URL_STS"}


async def issuer_has_a_port(at: SetUp) -> Environ:
    environ = at.with_token(iss="https://oidc.example.com:6443")
    return {name: value for name, value in environ.items() if name != "AWS_ENDPOINT_URL_STS"}


async def issuer_publishes_another_name(at: SetUp) -> Environ:
    """Add a trailing slash to the issuer's name, so that STS and doctor see another issuer."""
    url = at.services.issuer_url + "/"
    return at.with_token(iss=url)


async def region_is_misspelt(at: SetUp) -> Environ:
    environ = at.with_token(iss="https://oidc.example.com/id/A") | {"AWS_REGION": "eu-wset-1"}
    return {name: value for name, value in environ.items() if name != "AWS_ENDPOINT_URL_STS"}


# Other STS servers instead of the working one


async def scripted_sts(at: SetUp, *replies: StsReply, tls: ssl.SSLContext | None = None) -> ScriptedSts:
    sts = ScriptedSts(replies, tls=tls, host=STS_HOST if tls else "127.0.0.1")
    await at.nursery.start(sts.serve)
    if tls:
        trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    return sts


def sts_replies(*replies: StsReply) -> Break:
    async def break_it(at: SetUp) -> Environ:
        sts = await scripted_sts(at, StsReply(400, b"", {"Date": http_date()}), *replies)
        sts.replies = [*replies] * 10  # responses for the network path and the exchange, in either order
        return at.but(AWS_ENDPOINT_URL_STS=sts.url)

    return break_it


def http_date(seconds: float = 0.0) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))


async def clock_is_two_hours_behind(at: SetUp) -> Environ:
    """Set the clocks of STS and the token two hours ahead, so that the clock of this machine is behind."""
    ahead = 7200
    expiration = datetime.now(UTC) + timedelta(seconds=ahead + 3600)
    reply = good_reply(expiration=expiration.strftime("%Y-%m-%dT%H:%M:%SZ"), date=http_date(ahead))
    sts = await scripted_sts(at, reply)
    now = int(time.time()) + ahead
    return at.with_token(iat=now, nbf=now, exp=now + 3600) | {"AWS_ENDPOINT_URL_STS": sts.url}


def sts_with_certificate(name: str = STS_HOST, *, is_trusted: bool = True, not_after: datetime | None = None) -> Break:
    async def break_it(at: SetUp) -> Environ:
        authority = Authority(at.directory)
        sts = await scripted_sts(at, good_reply(), tls=authority.server(name, not_after))
        return at.but(AWS_ENDPOINT_URL_STS=sts.url, AWS_CA_BUNDLE=authority.bundle if is_trusted else None)

    return break_it


async def sts_is_a_black_hole(at: SetUp) -> Environ:
    """Listen with a full queue, so that the kernel drops new connections."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    clients = []
    for _ in range(3):
        client = socket.socket()
        client.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            client.connect(("127.0.0.1", port))
        clients.append(client)
    at.nursery.start_soon(_close_at_exit, [listener, *clients])
    return at.but(AWS_ENDPOINT_URL_STS=f"http://127.0.0.1:{port}")


async def _close_at_exit(sockets: list[socket.socket]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        for each in sockets:
            each.close()


async def unreachable_proxy(at: SetUp) -> Environ:
    return at.but(AWS_ENDPOINT_URL_STS=f"https://{STS_HOST}", HTTPS_PROXY="http://user:password@127.0.0.1:1")


async def proxy_denies(at: SetUp) -> Environ:
    proxy = await scripted_sts(at, StsReply(403, b"no"))
    return at.but(AWS_ENDPOINT_URL_STS=f"https://{STS_HOST}", HTTPS_PROXY=proxy.url)


# IAM, if the user may read it


READ_BY_LIBRARIES = ("HTTPS_PROXY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""The variables of this process that botocore and the other libraries read."""


def with_iam(environ: Callable[[SetUp], Environ], change: Callable[[SetUp, Iam], None]) -> Break:
    """Return a function that adds credentials with permission to read IAM. `change` changes the fake IAM."""

    async def break_it(at: SetUp) -> Environ:
        iam = await at.nursery.start(_serve_iam)
        provider = f"arn:aws:iam::111122223333:oidc-provider/{at.issuer_key}"
        iam.client_ids[provider] = ["sts.amazonaws.com"]
        change(at, iam)
        credentials = await exchange_once(at.environ)
        own = {
            "AWS_ACCESS_KEY_ID": credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
            "AWS_SESSION_TOKEN": credentials.session_token,
        }
        return {**environ(at), **own, "AWS_ENDPOINT_URL_IAM": iam.url}

    return break_it


async def _serve_iam(*, task_status: trio.TaskStatus[Iam]) -> None:
    async with served_iam() as iam:
        task_status.started(iam)
        await trio.sleep_forever()


# Other programs on the endpoint's port


def on_the_port(status: int, body: Any, content_type: str = "application/json") -> Break:
    """Return a function that points the application at a server that sends this response."""

    async def break_it(at: SetUp) -> Environ:
        content = body() if callable(body) else body
        reply = Response(status, content if isinstance(content, bytes) else json.dumps(content).encode(), content_type)

        async def respond(_request: Request) -> Response:
            return reply

        address = start_server(at.nursery, respond)
        return at.application_but(AWS_CONTAINER_CREDENTIALS_FULL_URI=f"http://{address}/v1/credentials")

    return break_it


def credentials_body(seconds: float, **changes: str | None) -> Callable[[], dict[str, str]]:
    """Return a function that builds the endpoint's body, with credentials that expire in `seconds`."""

    def make() -> dict[str, str]:
        expiration = datetime.now(UTC) + timedelta(seconds=seconds)
        body = {
            "AccessKeyId": "ASIAFAKEFAKEFAKE",
            "SecretAccessKey": "secret",
            "Token": "token",
            "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return {name: value for name, value in (body | changes).items() if value is not None}

    return make


async def another_secret(at: SetUp) -> Environ:
    path = at.directory / "another-secret"
    path.write_text("not-the-secret-of-this-set-up")
    return at.application_but(AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(path))


async def secret_ends_in_a_newline(at: SetUp) -> Environ:
    (at.directory / "authorization").write_text(SECRET + "\n")
    return at.application


async def secret_is_not_mounted(at: SetUp) -> Environ:
    return at.application_but(AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(at.directory / "missing-secret"))


async def wrong_path(at: SetUp) -> Environ:
    url = at.application["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    return at.application_but(AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{url}/reporting")


async def unusual_loopback_address(at: SetUp) -> Environ:
    url = at.application["AWS_CONTAINER_CREDENTIALS_FULL_URI"].replace("127.0.0.1", "127.1")
    return at.application_but(AWS_CONTAINER_CREDENTIALS_FULL_URI=url)


async def credentials_file_in_the_image(at: SetUp) -> Environ:
    (at.directory / ".aws").mkdir()
    (at.directory / ".aws" / "credentials").write_text("[default]\naws_access_key_id = AKIA\n")
    return at.application_but(HOME=str(at.directory))


async def process_in_the_configuration(at: SetUp) -> Environ:
    (at.directory / "config").write_text("[default]\ncredential_process = /bin/other\nregion = eu-west-1\n")
    return at.application_but(AWS_CONFIG_FILE=str(at.directory / "config"))


async def old_sdk_in_the_image(at: SetUp) -> Environ:
    (at.directory / "site-packages" / "botocore-1.29.27.dist-info").mkdir(parents=True)
    return at.application_but(FILES=str(at.directory))


DENIED = partial(SetUp.but, AWS_ROLE_ARN="arn:aws:iam::111122223333:role/refusing")


def _cart_only(at: SetUp, iam: Iam) -> None:
    condition = {"StringEquals": {f"{at.issuer_key}:sub": "system:serviceaccount:shop:cart"}}
    principal = {"Federated": f"arn:aws:iam::111122223333:oidc-provider/{at.issuer_key}"}
    statement = {
        "Sid": "Cart",
        "Effect": "Allow",
        "Principal": principal,
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": condition,
    }
    iam.roles["refusing"] = {"Version": "2012-10-17", "Statement": [statement]}
