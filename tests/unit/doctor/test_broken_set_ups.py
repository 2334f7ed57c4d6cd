"""
One thing broken at a time, with real peers: doctor names it first.

Each row of BROKEN says what was broken, by which function, which check finds it, and the words that must come first.
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
from tests.unit.doctor.set_up import ANOTHER_KEY, NOBODY, SECRET, SetUp, examine, set_up

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")

Environ = Mapping[str, str]
Break = Callable[[SetUp], Awaitable[Environ]]


class Broken(NamedTuple):
    """What was broken, how, which check names it first, and in which words."""

    what: str
    break_it: Break
    check: str
    says: str
    is_silent: bool = False
    """Whether nothing ever answers, so that less is waited than elsewhere, where a busy machine may need it."""


def told(**changes: str | None) -> Break:
    """The sidecar is told something else; `{…}` in it is the set-up's own."""

    async def break_it(at: SetUp) -> Environ:
        return at.but(**changes)

    return break_it


def app_told(**changes: str | None) -> Break:
    async def break_it(at: SetUp) -> Environ:
        return at.application_but(**changes)

    return break_it


def token(**changes: Any) -> Break:
    """The token says something else, and is signed all the same."""

    async def break_it(at: SetUp) -> Environ:
        now = time.time()
        return at.with_token(**{name: value(now) if callable(value) else value for name, value in changes.items()})

    return break_it


def token_file(content: str) -> Break:
    async def break_it(at: SetUp) -> Environ:
        return at.with_file(content)

    return break_it


async def nothing_is_told(_at: SetUp) -> Environ:
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


async def token_is_a_legacy_one(at: SetUp) -> Environ:
    return at.with_token(iss="kubernetes/serviceaccount", aud=None, exp=None, iat=None, nbf=None)


async def token_is_not_signed_by_a_key_pair(at: SetUp) -> Environ:
    return at.with_file(jwt_of(at.claims(), {"alg": "HS256", "kid": "k1"}))


async def signature_is_spoilt(at: SetUp) -> Environ:
    head, claims, signature = at.services.token_file.read_text().split(".")
    return at.with_file(f"{head}.{claims}.{'A' * len(signature)}")


async def issuer_is_the_clusters_own_name(at: SetUp) -> Environ:
    environ = at.with_token(iss="https://kubernetes.default.svc.cluster.local")
    return {name: value for name, value in environ.items() if name != "AWS_ENDPOINT_URL_STS"}


async def issuer_has_a_port(at: SetUp) -> Environ:
    environ = at.with_token(iss="https://oidc.example.com:6443")
    return {name: value for name, value in environ.items() if name != "AWS_ENDPOINT_URL_STS"}


async def issuer_publishes_another_name(at: SetUp) -> Environ:
    """A trailing slash is enough."""
    url = at.services.issuer_url + "/"
    return at.with_token(iss=url)


async def region_is_misspelt(at: SetUp) -> Environ:
    environ = at.with_token(iss="https://oidc.example.com/id/A") | {"AWS_REGION": "eu-wset-1"}
    return {name: value for name, value in environ.items() if name != "AWS_ENDPOINT_URL_STS"}


# Other STSs in place of the one that works


async def scripted_sts(at: SetUp, *replies: StsReply, tls: ssl.SSLContext | None = None) -> ScriptedSts:
    sts = ScriptedSts(replies, tls=tls, host=STS_HOST if tls else "127.0.0.1")
    await at.nursery.start(sts.serve)
    if tls:
        trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    return sts


def sts_says(*replies: StsReply) -> Break:
    async def break_it(at: SetUp) -> Environ:
        sts = await scripted_sts(at, StsReply(400, b"", {"Date": http_date()}), *replies)
        sts.replies = [*replies] * 10  # whoever comes first, reachability or exchange
        return at.but(AWS_ENDPOINT_URL_STS=sts.url)

    return break_it


def http_date(seconds: float = 0.0) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))


async def clock_is_two_hours_behind(at: SetUp) -> Environ:
    """The cluster and AWS agree; it is this machine that is behind."""
    ahead = 7200
    expiration = datetime.now(UTC) + timedelta(seconds=ahead + 3600)
    reply = good_reply(expiration=expiration.strftime("%Y-%m-%dT%H:%M:%SZ"), date=http_date(ahead))
    sts = await scripted_sts(at, reply)
    now = int(time.time()) + ahead
    return at.with_token(iat=now, nbf=now, exp=now + 3600) | {"AWS_ENDPOINT_URL_STS": sts.url}


def sts_by_tls(name: str = STS_HOST, *, is_trusted: bool = True, not_after: datetime | None = None) -> Break:
    async def break_it(at: SetUp) -> Environ:
        authority = Authority(at.directory)
        sts = await scripted_sts(at, good_reply(), tls=authority.server(name, not_after))
        return at.but(AWS_ENDPOINT_URL_STS=sts.url, AWS_CA_BUNDLE=authority.bundle if is_trusted else None)

    return break_it


async def sts_is_a_black_hole(at: SetUp) -> Environ:
    """A listener whose queue is full: the kernel drops whoever comes."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    waiting = []
    for _ in range(3):
        client = socket.socket()
        client.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            client.connect(("127.0.0.1", port))
        waiting.append(client)
    at.nursery.start_soon(_closed_in_the_end, [listener, *waiting])
    return at.but(AWS_ENDPOINT_URL_STS=f"http://127.0.0.1:{port}")


async def _closed_in_the_end(sockets: list[socket.socket]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        for each in sockets:
            each.close()


async def proxy_is_not_there(at: SetUp) -> Environ:
    return at.but(AWS_ENDPOINT_URL_STS=f"https://{STS_HOST}", HTTPS_PROXY="http://user:password@127.0.0.1:1")


async def proxy_refuses(at: SetUp) -> Environ:
    proxy = await scripted_sts(at, StsReply(403, b"no"))
    return at.but(AWS_ENDPOINT_URL_STS=f"https://{STS_HOST}", HTTPS_PROXY=proxy.url)


# What IAM tells, where it may be read


READ_BY_LIBRARIES = ("HTTPS_PROXY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""From the process's own environment."""


def with_iam(environ: Callable[[SetUp], Environ], change: Callable[[SetUp, Iam], None]) -> Break:
    """Whoever runs doctor has credentials of the account, which may read IAM."""

    async def break_it(at: SetUp) -> Environ:
        iam = await at.nursery.start(_serve_iam)
        provider = f"arn:aws:iam::111122223333:oidc-provider/{at.issuer_key}"
        iam.client_ids[provider] = ["sts.amazonaws.com"]
        change(at, iam)
        given = await exchange_once(at.environ)
        own = {
            "AWS_ACCESS_KEY_ID": given.access_key_id,
            "AWS_SECRET_ACCESS_KEY": given.secret_access_key,
            "AWS_SESSION_TOKEN": given.session_token,
        }
        return {**environ(at), **own, "AWS_ENDPOINT_URL_IAM": iam.url}

    return break_it


async def _serve_iam(*, task_status: trio.TaskStatus[Iam]) -> None:
    async with served_iam() as iam:
        task_status.started(iam)
        await trio.sleep_forever()


# Other things on the endpoint's port


def on_the_port(status: int, body: Any, content_type: str = "application/json") -> Break:
    """The application's address is somebody else's, who answers this."""

    async def break_it(at: SetUp) -> Environ:
        content = body() if callable(body) else body
        reply = Response(status, content if isinstance(content, bytes) else json.dumps(content).encode(), content_type)

        async def answer(_request: Request) -> Response:
            return reply

        address = start_server(at.nursery, answer)
        return at.application_but(AWS_CONTAINER_CREDENTIALS_FULL_URI=f"http://{address}/v1/credentials")

    return break_it


def a_set(seconds: float, **changes: str | None) -> Callable[[], dict[str, str]]:
    """Credentials that live so long, as the endpoint gives them."""

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


async def a_name_for_loopback(at: SetUp) -> Environ:
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
    # what was broken, how, what finds it, what comes first
    Broken("nothing is set", nothing_is_told, "settings.role", "no setting here names a role"),
    Broken("a role that is no ARN", told(AWS_ROLE_ARN="app"), "settings.values", "AWS_ROLE_ARN is 'app'"),
    Broken("no role", told(AWS_ROLE_ARN=None), "settings.values", "AWS_ROLE_ARN is not set"),
    Broken("no region", region_is_missing, "settings.values", "AWS_REGION is not set"),
    Broken("a port that is none", told(IRSA_SIDECAR_LISTEN="4772"), "settings.values", "IRSA_SIDECAR_LISTEN is '4772'"),
    Broken(
        "a CA bundle that is not there",
        told(AWS_CA_BUNDLE="/nowhere", AWS_ENDPOINT_URL_STS="https://sts.example"),
        "settings.values",
        "AWS_CA_BUNDLE is '/nowhere'",
    ),
    Broken(
        "a password of a proxy that is not percent-encoded",
        told(HTTPS_PROXY="http://user:p@ss#w%rd@127.0.0.1:1", AWS_ENDPOINT_URL_STS="https://sts.example"),
        "settings.values",
        "HTTPS_PROXY's user and password must be percent-encoded",
    ),
    Broken(
        "a mistake in the file of roles",
        roles_file_with_a_mistake,
        "settings.values",
        "line 3: rolearn is no setting",
    ),
    Broken(
        "a role of China with a region of Europe",
        role_of_another_partition,
        "settings.partition",
        "is of partition aws-cn, but AWS_REGION is 'eu-west-1'",
    ),
    Broken(
        "the token itself in place of its path",
        token_is_copied_into_the_setting,
        "settings.values",
        "AWS_WEB_IDENTITY_TOKEN_FILE is a token itself (not shown here)",
    ),
    Broken(
        "no token volume",
        told(AWS_WEB_IDENTITY_TOKEN_FILE="/nowhere/token"),
        "token.file",
        "/nowhere/token does not exist",
    ),
    Broken("an empty token", token_file(""), "token.file", "another-token is empty"),
    Broken("a half-written token", token_is_half_written, "token.file", "another-token holds no JWT"),
    Broken("a directory in place of the token", token_is_a_directory, "token.file", "is not a regular file"),
    Broken("a legacy token", token_is_a_legacy_one, "token.times", "the token has no exp: it is a legacy Secret token"),
    Broken(
        "an expired token",
        token(iat=lambda now: int(now) - 7200, nbf=None, exp=lambda now: int(now) - 3600),
        "token.times",
        "the token expired at",
    ),
    Broken(
        "a token from the future",
        token(iat=lambda now: int(now) + 7200, exp=lambda now: int(now) + 9000),
        "token.times",
        "the token is issued",
    ),
    Broken(
        "two audiences",
        token(aud=["sts.amazonaws.com", "vault"]),
        "token.audience",
        "the token has several audiences (sts.amazonaws.com, vault)",
    ),
    Broken("no audience", token(aud=None), "token.audience", "the token has no aud"),
    Broken("no subject", token(sub=None), "token.subject", "the token has no sub"),
    Broken("a token without a key id", token(kid=None), "token.signature", "the token's header has no kid"),
    Broken(
        "a token of another algorithm", token_is_not_signed_by_a_key_pair, "token.signature", "the token's alg is HS256"
    ),
    Broken(
        "the cluster's own name as issuer",
        issuer_is_the_clusters_own_name,
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
        "an issuer with a slash too much",
        issuer_publishes_another_name,
        "issuer.documents",
        "the discovery document is of 'http://127.0.0.1:",
    ),
    Broken(
        "a key that is not published",
        token(key=ANOTHER_KEY, kid="another"),
        "issuer.key",
        "the token's kid is another; the issuer publishes",
    ),
    Broken(
        "a signature by another key", token(key=ANOTHER_KEY), "issuer.verification", "does not verify the signature"
    ),
    Broken("a spoilt signature", signature_is_spoilt, "issuer.verification", "does not verify the signature"),
    Broken(
        "a region that there is not",
        region_is_misspelt,
        "sts.name",
        "sts.eu-wset-1.amazonaws.com does not resolve here",
    ),
    Broken(
        "no process listens at STS",
        told(AWS_ENDPOINT_URL_STS=NOBODY),
        "sts.connect",
        "no connection to 127.0.0.1:1 (Connection refused)",
    ),
    Broken(
        "a black hole on the way to STS",
        sts_is_a_black_hole,
        "sts.connect",
        "(no response within",
        is_silent=True,
    ),
    Broken(
        "an authority that is not trusted",
        sts_by_tls(is_trusted=False),
        "sts.tls",
        ", signed by trustme v",
    ),
    Broken("a certificate for another name", sts_by_tls("sts.example.com"), "sts.tls", "Hostname mismatch"),
    Broken(
        "a certificate that has expired",
        sts_by_tls(not_after=datetime(2020, 1, 1, tzinfo=UTC)),
        "sts.tls",
        "certificate has expired",
    ),
    Broken(
        "a proxy that is not there",
        proxy_is_not_there,
        "sts.connect",
        "no connection to the proxy 127.0.0.1:1 (Connection refused)",
    ),
    Broken(
        "a proxy that refuses",
        proxy_refuses,
        "sts.proxy",
        "does not allow connections to sts.eu-west-1.amazonaws.com (it returns 403)",
    ),
    Broken(
        "something else in STS's place",
        sts_says(StsReply(raw=b"SSH-2.0-OpenSSH\r\n\r\n")),
        "sts.answer",
        "accepts the connection but does not respond (the server does not speak HTTP)",
    ),
    Broken(
        "a clock that is two hours behind",
        clock_is_two_hours_behind,
        "sts.clock",
        "this machine's clock is 7200 s behind STS's",
    ),
    Broken(
        "a web page in place of STS's answer",
        sts_says(StsReply(200, b"<html>Sign in</html>")),
        "exchange.granted",
        "STS's answer is passed over as a whole",
    ),
    Broken(
        "another audience",
        token(aud=["vault"]),
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
        token(iss="https://oidc.example.com/id/B"),
        "exchange.granted",
        "account 111122223333 has no IAM OIDC provider for iss https://oidc.example.com/id/B",
    ),
    Broken(
        "a trust policy for somebody else",
        told(AWS_ROLE_ARN="arn:aws:iam::111122223333:role/refusing"),
        "exchange.granted",
        "sub is system:serviceaccount:default:app, aud is sts.amazonaws.com, but the trust policy of",
    ),
    Broken(
        "the same, and IAM may be read",
        with_iam(DENIED, _cart_only),
        "exchange.granted",
        "the trust policy does not allow this: Statement Cart: Condition StringEquals",
    ),
    Broken(
        "a role that there is not",
        with_iam(partial(SetUp.but, AWS_ROLE_ARN="arn:aws:iam::111122223333:role/nobody"), lambda _at, _iam: None),
        "exchange.granted",
        "aud is sts.amazonaws.com; the role arn:aws:iam::111122223333:role/nobody does not exist",
    ),
    Broken(
        "sessions longer than the role allows",
        told(IRSA_SIDECAR_DURATION="43200"),
        "exchange.granted",
        "IRSA_SIDECAR_DURATION is 43200, but arn:aws:iam::111122223333:role/app allows only shorter sessions",
    ),
    Broken(
        "STS off in this region",
        sts_says(error_reply(403, "RegionDisabledException", "STS is not activated")),
        "exchange.granted",
        "does not serve account 111122223333. STS returns RegionDisabledException",
    ),
    Broken(
        "an issuer that STS cannot reach",
        sts_says(error_reply(400, "IDPCommunicationError", "unreachable")),
        "exchange.granted",
        "STS returns IDPCommunicationError: unreachable",
    ),
    Broken(
        "STS is throttling",
        sts_says(error_reply(400, "Throttling", "Rate exceeded")),
        "exchange.granted",
        "STS returns Throttling: Rate exceeded",
    ),
    Broken(
        "the daemon does not run",
        told(IRSA_SIDECAR_LISTEN="127.0.0.1:1"),
        "endpoint.connection",
        "no process listens at http://127.0.0.1:1/v1/credentials",
    ),
    Broken(
        "static keys beside the endpoint",
        app_told(AWS_ACCESS_KEY_ID="AKIA"),
        "environment.keys",
        "AWS_ACCESS_KEY_ID is set",
    ),
    Broken(
        "a web identity beside the endpoint",
        app_told(AWS_WEB_IDENTITY_TOKEN_FILE="/token", AWS_ROLE_ARN="arn:aws:iam::111122223333:role/app"),
        "environment.web_identity",
        "AWS_WEB_IDENTITY_TOKEN_FILE is set",
    ),
    Broken("a profile beside the endpoint", app_told(AWS_PROFILE="dev"), "environment.profile", "AWS_PROFILE is 'dev'"),
    Broken(
        "an ECS address beside the endpoint",
        app_told(AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/v2"),
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
        app_told(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://169.254.170.23/v1/credentials"),
        "endpoint.address",
        "is the address of EKS Pod Identity",
    ),
    Broken(
        "a Service's name as address",
        app_told(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://irsa.default.svc:4772/v1/credentials"),
        "endpoint.address",
        "http://irsa.default.svc:4772/v1/credentials is not on loopback",
    ),
    Broken("a strange name for loopback", a_name_for_loopback, "endpoint.address", "over plain http SDKs reject 127.1"),
    Broken(
        "a secret that is not mounted",
        secret_is_not_mounted,
        "endpoint.secret",
        "nowhere cannot be used: No such file or directory",
    ),
    Broken("a secret with a newline", secret_ends_in_a_newline, "endpoint.secret", "authorization ends in a newline"),
    Broken(
        "two different secrets",
        app_told(AWS_CONTAINER_AUTHORIZATION_TOKEN="another-secret"),
        "endpoint.secret",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN and",
    ),
    Broken(
        "no secret",
        app_told(AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=None),
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
        "a path without a role",
        wrong_path,
        "endpoint.credentials",
        "the endpoint returns 404: No role is served on this path",
    ),
    Broken(
        "the sidecar is not there",
        app_told(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://127.0.0.1:1/v1/credentials"),
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
        "half of a set on the port",
        on_the_port(200, a_set(3600, Token=None)),
        "endpoint.credentials",
        "the endpoint's response lacks Token",
    ),
    Broken(
        "an offset in the Expiration",
        on_the_port(200, a_set(3600, Expiration="2030-01-02T03:04:05+00:00")),
        "endpoint.credentials",
        "Expiration is '2030-01-02T03:04:05+00:00'",
    ),
    Broken(
        "an expired set on the port",
        on_the_port(200, a_set(-60)),
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


def be_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.sts.client.CONNECT_SECONDS", 0.5)
    monkeypatch.setattr("sidecar.doctor.probes.network_path.STEP_SECONDS", 0.5)
    monkeypatch.setattr(aws, "CONNECT_SECONDS", 0.5)


def stay_on_this_machine(environ: Environ, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names resolve only where a row lets them stand for loopback. botocore asks the system: it needs an address."""
    is_local = environ.get("AWS_ENDPOINT_URL_STS", "").startswith("http://127.0.0.1")
    monkeypatch.setattr(aws, "is_installed", lambda: is_local and "AWS_ENDPOINT_URL_IAM" in environ)
    for name in READ_BY_LIBRARIES:
        if name in environ:
            monkeypatch.setenv(name, environ[name])


@pytest.mark.parametrize("row", BROKEN, ids=lambda row: row.what)
async def test_the_one_thing_that_is_broken_is_named_first(
    row: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxies: None
) -> None:
    if row.is_silent:
        be_impatient(monkeypatch)
    trio.socket.set_custom_hostname_resolver(Resolver())
    async with set_up(tmp_path) as at:
        environ = await row.break_it(at)
        stay_on_this_machine(environ, monkeypatch)
        report = await examine(environ, files=environ.get("FILES"))
    first = report.first_failure
    text = as_text(report, width=1000, colours=False)
    assert first is not None, text
    assert f"{first.group}.{first.check}" == row.check, text
    headline, next_step, *_ = text.split("\n")
    assert headline.startswith("Wrong: "), text
    assert row.says in headline, text
    assert next_step.rstrip(".?") == f"Next: {first.finding.next_step}".rstrip(".?"), text
    assert len(first.finding.next_step) > 10
