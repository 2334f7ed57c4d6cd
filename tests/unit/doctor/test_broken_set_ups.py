"""
Break one thing at a time in a working set-up with real peers: doctor must name it first.

Each row of BROKEN has the error, the function that makes it, the check that finds it, and the words of the headline.
"""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from sidecar.client.exchange import exchange_once
from sidecar.doctor.probes import aws
from sidecar.doctor.report import as_text
from sidecar.serving.h11_server import Request, Response
from tests.support.exchanges import STS_HOST, Authority, Resolver
from tests.support.fakes.scripted_sts import Reply as StsReply
from tests.support.fakes.scripted_sts import ScriptedSts, error_reply, good_reply
from tests.support.fakes.tokens import jwt_of
from tests.support.served_peer import start_server
from tests.unit.doctor.iam import Iam, served_iam
from tests.unit.doctor.set_up import ANOTHER_KEY, SECRET, UNREACHABLE, SetUp, examine, set_up

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")

Environ = Mapping[str, str]
Break = Callable[[SetUp], Awaitable[Environ]]


class Broken(NamedTuple):
    """One error, the function that makes it, the check that finds it first, and words of its finding."""

    what: str
    break_it: Break
    check: str
    words: str
    is_silent: bool = False
    """True if no peer ever responds. Such a row uses short timeouts; the others allow for a busy machine."""


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
    """Return a function that signs a token with other claims. A function as a value gets the current time."""

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
    """Add a trailing slash, which makes it another issuer."""
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
        sts.replies = [*replies] * 10  # for the network path and the exchange, in any order
        return at.but(AWS_ENDPOINT_URL_STS=sts.url)

    return break_it


def http_date(seconds: float = 0.0) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))


async def clock_is_two_hours_behind(at: SetUp) -> Environ:
    """Set the clocks of STS and the token two hours ahead, as if this machine were behind."""
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


# IAM, if it may be read


READ_BY_LIBRARIES = ("HTTPS_PROXY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Variables that libraries read from the environment of the process."""


def with_iam(environ: Callable[[SetUp], Environ], change: Callable[[SetUp, Iam], None]) -> Break:
    """Return a function that adds credentials with permission to read IAM. `change` changes that IAM."""

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
    """Return a function that points the application at a server with this response."""

    async def break_it(at: SetUp) -> Environ:
        content = body() if callable(body) else body
        reply = Response(status, content if isinstance(content, bytes) else json.dumps(content).encode(), content_type)

        async def answer(_request: Request) -> Response:
            return reply

        address = start_server(at.nursery, answer)
        return at.application_but(AWS_CONTAINER_CREDENTIALS_FULL_URI=f"http://{address}/v1/credentials")

    return break_it


def credentials_body(seconds: float, **changes: str | None) -> Callable[[], dict[str, str]]:
    """Return a function that makes the endpoint's body with credentials that expire in `seconds`."""

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


async def another_role_is_served(at: SetUp) -> Environ:
    return at.but(AWS_ROLE_ARN=at.role("refusing"))


async def another_secret(at: SetUp) -> Environ:
    path = at.directory / "another-secret"
    path.write_text("not-the-secret-of-this-set-up")
    return at.application_but(AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(path))


async def secret_ends_in_a_newline(at: SetUp) -> Environ:
    (at.directory / "authorization").write_text(SECRET + "\n")
    return at.application


async def secret_is_not_mounted(at: SetUp) -> Environ:
    return at.application_but(AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(at.directory / "nowhere"))


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


BROKEN = (
    # the error, the function that makes it, the check that finds it, the words of the headline
    Broken("nothing is set", no_settings, "settings.role", "no setting here names a role"),
    Broken("a role that is not an ARN", sidecar_with(AWS_ROLE_ARN="app"), "settings.values", "AWS_ROLE_ARN is 'app'"),
    Broken("no role", sidecar_with(AWS_ROLE_ARN=None), "settings.values", "AWS_ROLE_ARN is not set"),
    Broken("no region", region_is_missing, "settings.values", "AWS_REGION is not set"),
    Broken(
        "an invalid listening address",
        sidecar_with(IRSA_SIDECAR_LISTEN="4772"),
        "settings.values",
        "IRSA_SIDECAR_LISTEN is '4772'",
    ),
    Broken(
        "a missing CA bundle",
        sidecar_with(AWS_CA_BUNDLE="/nowhere", AWS_ENDPOINT_URL_STS="https://sts.example"),
        "settings.values",
        "AWS_CA_BUNDLE is '/nowhere'",
    ),
    Broken(
        "a proxy password that is not percent-encoded",
        sidecar_with(HTTPS_PROXY="http://user:p@ss#w%rd@127.0.0.1:1", AWS_ENDPOINT_URL_STS="https://sts.example"),
        "settings.values",
        "HTTPS_PROXY's user and password must be percent-encoded",
    ),
    Broken(
        "an unknown key in the roles file",
        roles_file_with_a_mistake,
        "settings.values",
        "line 3: rolearn is",
    ),
    Broken(
        "a role in China with a region in Europe",
        role_of_another_partition,
        "settings.partition",
        "is of partition aws-cn, but AWS_REGION is 'eu-west-1'",
    ),
    Broken(
        "the token itself instead of its path",
        token_is_copied_into_the_setting,
        "settings.values",
        "AWS_WEB_IDENTITY_TOKEN_FILE is a token itself (not shown here)",
    ),
    Broken(
        "no token volume",
        sidecar_with(AWS_WEB_IDENTITY_TOKEN_FILE="/nowhere/token"),
        "token.file",
        "/nowhere/token does not exist",
    ),
    Broken("an empty token", token_file_with(""), "token.file", "another-token is empty"),
    Broken("a half-written token", token_is_half_written, "token.file", "another-token holds no JWT"),
    Broken("a directory instead of the token", token_is_a_directory, "token.file", "is not a regular file"),
    Broken("a legacy token", legacy_token, "token.times", "the token has no exp: it is a legacy Secret token"),
    Broken(
        "an expired token",
        token_with(iat=lambda now: int(now) - 7200, nbf=None, exp=lambda now: int(now) - 3600),
        "token.times",
        "the token expired at",
    ),
    Broken(
        "a token from the future",
        token_with(iat=lambda now: int(now) + 7200, exp=lambda now: int(now) + 9000),
        "token.times",
        "the token is issued",
    ),
    Broken(
        "two audiences",
        token_with(aud=["sts.amazonaws.com", "vault"]),
        "token.audience",
        "the token has several audiences (sts.amazonaws.com, vault)",
    ),
    Broken("no audience", token_with(aud=None), "token.audience", "the token has no aud"),
    Broken("no subject", token_with(sub=None), "token.subject", "the token has no sub"),
    Broken("a token without a key id", token_with(kid=None), "token.signature", "the token's header has no kid"),
    Broken(
        "a token with another algorithm", token_with_symmetric_signature, "token.signature", "the token's alg is HS256"
    ),
    Broken(
        "the cluster's internal name as issuer",
        issuer_with_cluster_name,
        "issuer.url",
        "iss is https://kubernetes.default.svc.cluster.local, a name that only the cluster",
    ),
    Broken(
        "an issuer with a port",
        issuer_has_a_port,
        "issuer.url",
        "iss is https://oidc.example.com:6443, which has a port",
    ),
    Broken(
        "an issuer with an extra slash",
        issuer_publishes_another_name,
        "issuer.documents",
        "the discovery document is of 'http://127.0.0.1:",
    ),
    Broken(
        "a key that is not published",
        token_with(key=ANOTHER_KEY, kid="another"),
        "issuer.key",
        "the token's kid is another; the issuer publishes",
    ),
    Broken(
        "a signature by another key",
        token_with(key=ANOTHER_KEY),
        "issuer.verification",
        "does not verify the signature",
    ),
    Broken("an invalid signature", invalid_signature, "issuer.verification", "does not verify the signature"),
    Broken(
        "a region that does not exist",
        region_is_misspelt,
        "sts.name",
        "sts.eu-wset-1.amazonaws.com does not resolve here",
    ),
    Broken(
        "no process listening at STS",
        sidecar_with(AWS_ENDPOINT_URL_STS=UNREACHABLE),
        "sts.connect",
        "no connection to 127.0.0.1:1 (Connection refused)",
    ),
    Broken(
        "a network that drops packets to STS",
        sts_is_a_black_hole,
        "sts.connect",
        "(no response within",
        is_silent=True,
    ),
    Broken(
        "an untrusted certificate authority",
        sts_with_certificate(is_trusted=False),
        "sts.tls",
        ", signed by trustme v",
    ),
    Broken("a certificate for another name", sts_with_certificate("sts.example.com"), "sts.tls", "Hostname mismatch"),
    Broken(
        "an expired certificate",
        sts_with_certificate(not_after=datetime(2020, 1, 1, tzinfo=UTC)),
        "sts.tls",
        "certificate has expired",
    ),
    Broken(
        "an unreachable proxy",
        unreachable_proxy,
        "sts.connect",
        "no connection to the proxy 127.0.0.1:1 (Connection refused)",
    ),
    Broken(
        "a proxy that denies the connection",
        proxy_denies,
        "sts.proxy",
        "does not allow connections to sts.eu-west-1.amazonaws.com (it returns 403)",
    ),
    Broken(
        "another program instead of STS",
        sts_replies(StsReply(raw=b"SSH-2.0-OpenSSH\r\n\r\n")),
        "sts.answer",
        "accepts the connection but does not respond (the server does not speak HTTP)",
    ),
    Broken(
        "a clock two hours behind",
        clock_is_two_hours_behind,
        "sts.clock",
        "this machine's clock is 7200 s behind STS's",
    ),
    Broken(
        "a web page instead of the response of STS",
        sts_replies(StsReply(200, b"<html>Sign in</html>")),
        "exchange.granted",
        "STS's answer",
    ),
    Broken(
        "another audience",
        token_with(aud=["vault"]),
        "exchange.granted",
        "aud is vault, and STS rejects the token",
    ),
    Broken(
        "another audience, and IAM may be read",
        with_iam(lambda at: at.with_token(aud=["vault"]), lambda _at, _iam: None),
        "exchange.granted",
        "aud is vault; the provider accepts sts.amazonaws.com",
    ),
    Broken(
        "a client (azp) that the provider lacks, and IAM may be read",
        with_iam(lambda at: at.with_token(azp="party-1"), lambda _at, _iam: None),
        "exchange.granted",
        "azp is party-1; the provider accepts sts.amazonaws.com",
    ),
    Broken(
        "an issuer without a provider",
        token_with(iss="https://oidc.example.com/id/B"),
        "exchange.granted",
        "account 111122223333 has no IAM OIDC provider for iss https://oidc.example.com/id/B",
    ),
    Broken(
        "a trust policy for another service account",
        sidecar_with(AWS_ROLE_ARN="arn:aws:iam::111122223333:role/refusing"),
        "exchange.granted",
        "sub is system:serviceaccount:default:app, aud is sts.amazonaws.com, but the trust policy of",
    ),
    Broken(
        "a trust policy for another service account, and IAM may be read",
        with_iam(DENIED, _cart_only),
        "exchange.granted",
        "the trust policy does not allow this: Statement Cart: Condition StringEquals",
    ),
    Broken(
        "a role that does not exist",
        with_iam(partial(SetUp.but, AWS_ROLE_ARN="arn:aws:iam::111122223333:role/nobody"), lambda _at, _iam: None),
        "exchange.granted",
        "aud is sts.amazonaws.com; the role arn:aws:iam::111122223333:role/nobody does not exist",
    ),
    Broken(
        "sessions longer than the role allows",
        sidecar_with(IRSA_SIDECAR_DURATION="43200"),
        "exchange.granted",
        "IRSA_SIDECAR_DURATION is 43200, but arn:aws:iam::111122223333:role/app allows only shorter sessions",
    ),
    Broken(
        "STS not activated in this region",
        sts_replies(error_reply(403, "RegionDisabledException", "STS is not activated")),
        "exchange.granted",
        "does not serve account 111122223333. STS returns RegionDisabledException",
    ),
    Broken(
        "an issuer that STS cannot reach",
        sts_replies(error_reply(400, "IDPCommunicationError", "unreachable")),
        "exchange.granted",
        "STS returns IDPCommunicationError: unreachable",
    ),
    Broken(
        "throttling by STS",
        sts_replies(error_reply(400, "Throttling", "Rate exceeded")),
        "exchange.granted",
        "STS returns Throttling: Rate exceeded",
    ),
    Broken(
        "no running daemon",
        sidecar_with(IRSA_SIDECAR_LISTEN="127.0.0.1:1"),
        "endpoint.connection",
        "no process listens at http://127.0.0.1:1/v1/credentials",
    ),
    Broken(
        "static keys beside the endpoint",
        application_with(AWS_ACCESS_KEY_ID="AKIA"),
        "environment.keys",
        "AWS_ACCESS_KEY_ID is set",
    ),
    Broken(
        "a web identity beside the endpoint",
        application_with(AWS_WEB_IDENTITY_TOKEN_FILE="/token", AWS_ROLE_ARN="arn:aws:iam::111122223333:role/app"),
        "environment.web_identity",
        "AWS_WEB_IDENTITY_TOKEN_FILE is set",
    ),
    Broken(
        "a profile beside the endpoint",
        application_with(AWS_PROFILE="dev"),
        "environment.profile",
        "AWS_PROFILE is 'dev'",
    ),
    Broken(
        "an ECS address beside the endpoint",
        application_with(AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/v2"),
        "environment.relative_uri",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is set",
    ),
    Broken(
        "a credentials file in the image",
        credentials_file_in_the_image,
        "environment.files",
        ".aws/credentials sets aws_access_key_id in the default profile",
    ),
    Broken(
        "a credential process in the image",
        process_in_the_configuration,
        "environment.files",
        "config sets credential_process in the default profile",
    ),
    Broken(
        "Pod Identity's address",
        application_with(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://169.254.170.23/v1/credentials"),
        "endpoint.address",
        "is the address of EKS Pod Identity",
    ),
    Broken(
        "a Service's name as address",
        application_with(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://irsa.default.svc:4772/v1/credentials"),
        "endpoint.address",
        "http://irsa.default.svc:4772/v1/credentials is not on loopback",
    ),
    Broken(
        "an unusual loopback address", unusual_loopback_address, "endpoint.address", "over plain http SDKs reject 127.1"
    ),
    Broken(
        "a secret that is not mounted",
        secret_is_not_mounted,
        "endpoint.secret",
        "nowhere cannot be used: No such file or directory",
    ),
    Broken("a secret with a newline", secret_ends_in_a_newline, "endpoint.secret", "authorization ends in a newline"),
    Broken(
        "two different secrets",
        application_with(AWS_CONTAINER_AUTHORIZATION_TOKEN="another-secret"),
        "endpoint.secret",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN and",
    ),
    Broken(
        "no secret",
        application_with(AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=None),
        "endpoint.credentials",
        "the endpoint returns 401: No Authorization header",
    ),
    Broken(
        "another Pod's secret",
        another_secret,
        "endpoint.credentials",
        "the endpoint returns 403: The Authorization header is wrong",
    ),
    Broken(
        "the path of an unknown role",
        wrong_path,
        "endpoint.credentials",
        "the endpoint returns 404: No role is served on this path",
    ),
    Broken(
        "no running sidecar",
        application_with(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://127.0.0.1:1/v1/credentials"),
        "endpoint.connection",
        "no process listens at http://127.0.0.1:1/v1/credentials",
    ),
    Broken(
        "a web page on the port",
        on_the_port(200, b"<html>", "text/html"),
        "endpoint.credentials",
        "the endpoint returns 200 with a body that is not a JSON object",
    ),
    Broken(
        "incomplete credentials on the port",
        on_the_port(200, credentials_body(3600, Token=None)),
        "endpoint.credentials",
        "the endpoint's response lacks Token",
    ),
    Broken(
        "a UTC offset in Expiration",
        on_the_port(200, credentials_body(3600, Expiration="2030-01-02T03:04:05+00:00")),
        "endpoint.credentials",
        "Expiration is '2030-01-02T03:04:05+00:00'",
    ),
    Broken(
        "expired credentials on the port",
        on_the_port(200, credentials_body(-60)),
        "endpoint.remaining",
        "the served credentials expired at",
    ),
    Broken(
        "an old SDK in the image",
        old_sdk_in_the_image,
        "sdks.versions",
        "is too old to read the endpoint's secret from a file",
    ),
    Broken(
        "another role on the port",
        another_role_is_served,
        "exchange.granted",
        "sub is system:serviceaccount:default:app",
    ),
)


def shorten_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.sts.client.CONNECT_SECONDS", 0.5)
    monkeypatch.setattr("sidecar.doctor.probes.network_path.STEP_SECONDS", 0.5)
    monkeypatch.setattr(aws, "CONNECT_SECONDS", 0.5)


def use_only_loopback(environ: Environ, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow botocore only with loopback endpoints, because it uses the system's resolver. Set its variables."""
    is_local = environ.get("AWS_ENDPOINT_URL_STS", "").startswith("http://127.0.0.1")
    monkeypatch.setattr(aws, "is_installed", lambda: is_local and "AWS_ENDPOINT_URL_IAM" in environ)
    for name in READ_BY_LIBRARIES:
        if name in environ:
            monkeypatch.setenv(name, environ[name])


@pytest.mark.parametrize("row", BROKEN, ids=lambda row: row.what)
async def test_first_failure_names_what_was_broken(
    row: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxies: None
) -> None:
    if row.is_silent:
        shorten_timeouts(monkeypatch)
    trio.socket.set_custom_hostname_resolver(Resolver())
    async with set_up(tmp_path) as at:
        environ = await row.break_it(at)
        use_only_loopback(environ, monkeypatch)
        report = await examine(environ, files=environ.get("FILES"))
    first = report.first_failure
    text = as_text(report, width=1000, colours=False)
    assert first is not None, text
    assert f"{first.group}.{first.check}" == row.check, text
    headline, next_step, *_ = text.split("\n")
    assert headline.startswith("Wrong: "), text
    assert row.words in headline, text
    assert next_step.rstrip(".?") == f"Next: {first.finding.next_step}".rstrip(".?"), text
    assert len(first.finding.next_step) > 10
