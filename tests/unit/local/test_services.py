"""Test all three services over real sockets, with an unmodified boto3 as the client."""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import httpx
import jwt
import pytest
import trio
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from sidecar.clock import Clock
from sidecar.errors import ConfigurationError
from sidecar.local.config import LocalConfig, ProviderSettings, RoleSettings
from sidecar.local.services import LocalServices, serve_local
from sidecar.local.signing_keys import KeySet, signing_key

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")


Keys = dict[str, Any]
T = TypeVar("T")


REAL_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/{issuer}"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {"{issuer}:sub": "system:serviceaccount:default:app"}},
        },
        {
            "Sid": "PodIdentity",
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {"StringEquals": {"aws:RequestTag/kubernetes-namespace": "shop"}},
        },
        {
            "Sid": "Organization",
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}},
        },
    ],
}
"""A trust policy that also has statements for other callers, as a role has during a migration."""


class Running:
    """The running services. `step` advances their clock. Calls run in a thread, because boto3 blocks."""

    def __init__(self) -> None:
        self.services: LocalServices
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._offset = 0.0

    def emit(self, event: str, /, **fields: Any) -> None:
        self.events.append((event, fields))

    def step(self, seconds: float) -> None:
        self._offset += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: time.time() + self._offset, trio.current_time)

    @property
    def token(self) -> str:
        return self.services.token_file.read_text()

    async def exchange(self, token: str | None = None, **parameters: Any) -> dict[str, Any]:
        plain = {"RoleArn": self.services.role_arn, "RoleSessionName": "test", "WebIdentityToken": token or self.token}
        return await self.call(None, "assume_role_with_web_identity", **(plain | parameters))

    async def call(self, keys: Keys | None, method: str, **parameters: Any) -> dict[str, Any]:
        """Make one boto3 call that is signed with `keys`, or unsigned without keys."""
        return await self.with_client(keys, lambda client: dict(getattr(client, method)(**parameters)))

    async def with_client(self, keys: Keys | None, use: Callable[["STSClient"], T]) -> T:
        def run() -> T:
            client = self._client(keys)
            try:
                return use(client)
            finally:
                client.close()

        with trio.fail_after(30):
            return await trio.to_thread.run_sync(run)

    def _client(self, keys: Keys | None) -> "STSClient":
        plain = Config(retries={"total_max_attempts": 1}, proxies={})
        session = boto3.Session(region_name=self.services.region)
        if keys is None:
            unsigned = plain.merge(Config(signature_version=UNSIGNED))
            return session.client("sts", endpoint_url=self.services.sts_url, config=unsigned)
        return session.client(
            "sts",
            endpoint_url=self.services.sts_url,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
            config=plain,
        )


@pytest.fixture
def generate(private_keys: list[RSAPrivateKey]) -> Callable[[], RSAPrivateKey]:
    return lambda: private_keys[0]


@asynccontextmanager
async def running(
    directory: Path, generate: Callable[[], RSAPrivateKey], config: LocalConfig | None = None
) -> AsyncIterator[Running]:
    run = Running()
    serve = partial(serve_local, config or LocalConfig(), directory, emit=run.emit, clock=run.clock, generate=generate)
    async with trio.open_nursery() as nursery:
        run.services = await nursery.start(serve)
        yield run
        nursery.cancel_scope.cancel()


def code_and_text(error: ClientError) -> tuple[str, str]:
    return error.response["Error"]["Code"], error.response["Error"]["Message"]


async def test_boto3_exchanges_the_token_and_uses_the_credentials(
    tmp_path: Path, generate: Callable[[], RSAPrivateKey]
) -> None:
    async with running(tmp_path / "volume", generate) as run:
        response = await run.exchange()
        identity = await run.call(response["Credentials"], "get_caller_identity")
    assert identity["Arn"] == response["AssumedRoleUser"]["Arn"] == "arn:aws:sts::111122223333:assumed-role/app/test"
    names = [event for event, _ in run.events]
    assert names == ["token_renewed", "signing_keys_fetched", "exchange_granted", "caller_identity_returned"]


async def test_presigned_requests_of_boto3_are_accepted(tmp_path: Path, generate: Callable[[], RSAPrivateKey]) -> None:
    async with running(tmp_path, generate) as run:
        keys = (await run.exchange())["Credentials"]
        for method in ("GET", "POST"):
            url = await run.with_client(keys, partial(_presigned, method))
            async with httpx.AsyncClient(trust_env=False) as client:
                response = await client.request(method, url)
            assert "assumed-role/app/test" in response.text
            assert response.headers["content-type"] == "text/xml"


def _presigned(method: str, client: "STSClient") -> str:
    return client.generate_presigned_url("get_caller_identity", HttpMethod=method)


async def test_boto3_receives_the_error_codes_of_aws(tmp_path: Path, generate: Callable[[], RSAPrivateKey]) -> None:
    async with running(tmp_path, generate) as run:
        keys, token = (await run.exchange(DurationSeconds=900))["Credentials"], run.token
        with pytest.raises(ClientError) as wrong:
            await run.call(keys | {"SecretAccessKey": "x" * 40}, "get_caller_identity")
        run.step(901)
        with pytest.raises(ClientError) as expired:
            await run.call(keys, "get_caller_identity")
        with pytest.raises(ClientError) as stale:
            await run.exchange(token)
    assert code_and_text(wrong.value)[0] == "SignatureDoesNotMatch"
    assert code_and_text(expired.value) == ("ExpiredToken", "The security token included in the request is expired")
    assert code_and_text(stale.value)[0] == "ExpiredTokenException"


async def test_role_with_its_own_trust_policy_can_start_a_chain(
    tmp_path: Path, generate: Callable[[], RSAPrivateKey]
) -> None:
    first = {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/{issuer}"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringLike": {"{issuer}:sub": "system:serviceaccount:default:*"}},
        },
    }
    second = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole"}],
    }
    other = "arn:aws:iam::444455556666:role/far/other"
    roles = (RoleSettings(name="first", trust_policy=first), RoleSettings(arn=other, trust_policy=second))
    async with running(tmp_path, generate, LocalConfig(roles=roles)) as run:
        assert run.services.role_arn == "arn:aws:iam::111122223333:role/first"
        keys = (await run.exchange())["Credentials"]
        response = await run.call(keys, "assume_role", RoleArn=other, RoleSessionName="hop")
    assert response["AssumedRoleUser"]["Arn"] == "arn:aws:sts::444455556666:assumed-role/other/hop"


async def test_local_issuer_can_use_the_url_of_a_clusters_issuer(
    tmp_path: Path, generate: Callable[[], RSAPrivateKey]
) -> None:
    url = "https://oidc.eks.eu-west-1.amazonaws.com/id/ABC"
    async with running(tmp_path, generate, LocalConfig(issuer_url=url)) as run:
        response = await run.exchange()
    assert run.services.issuer_url == url
    assert response["Provider"] == "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC"


async def test_tokens_of_another_issuer_are_verified_with_a_key_file(
    tmp_path: Path, generate: Callable[[], RSAPrivateKey], private_keys: list[RSAPrivateKey]
) -> None:
    issuer, keys = "https://cluster.test", KeySet((signing_key(private_keys[1]),))
    (tmp_path / "jwks.json").write_text(json.dumps(keys.jwks()))
    policy = {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/cluster.test"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {"cluster.test:sub": "system:serviceaccount:a:b"}},
        },
    }
    config = LocalConfig(
        roles=(RoleSettings(name="app", trust_policy=policy),),
        providers=(ProviderSettings(issuer, ("sts.amazonaws.com",), tmp_path / "jwks.json"),),
    )
    now = int(time.time())
    claims = {
        "iss": issuer,
        "sub": "system:serviceaccount:a:b",
        "aud": "sts.amazonaws.com",
        "iat": now,
        "exp": now + 60,
    }
    async with running(tmp_path / "v", generate, config) as run:
        response = await run.exchange(keys.signed(claims)[0])
        with pytest.raises(ClientError) as own:
            await run.exchange()
    assert response["SubjectFromWebIdentityToken"] == "system:serviceaccount:a:b"
    assert code_and_text(own.value)[0] == "AccessDenied"


async def test_unreachable_issuer_causes_the_error_code_of_aws(
    tmp_path: Path, generate: Callable[[], RSAPrivateKey]
) -> None:
    config = LocalConfig(providers=(ProviderSettings("http://127.0.0.1:9"),))
    async with running(tmp_path, generate, config) as run:
        claims = jwt.decode(run.token, options={"verify_signature": False}) | {"iss": "http://127.0.0.1:9"}
        with pytest.raises(ClientError) as caught:
            await run.exchange(jwt.encode(claims, generate(), algorithm="RS256", headers={"kid": "x"}))
    assert code_and_text(caught.value)[0] == "IDPCommunicationError"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roles": (RoleSettings(name="app", trust_policy={"Statement": []}),)}, "role/app: there is no Statement"),
        ({"roles": (RoleSettings(name="app"), RoleSettings(name="app"))}, "one role twice"),
        (
            {"providers": (ProviderSettings("http://x.test", jwks_file=Path("/nowhere/jwks.json")),)},
            "/nowhere/jwks.json",
        ),
    ],
)
async def test_configuration_error_stops_the_start(
    tmp_path: Path, generate: Callable[[], RSAPrivateKey], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await _start(tmp_path, generate, replace(LocalConfig(), **change))


async def test_unusable_port_or_directory_stops_the_start(
    tmp_path: Path, generate: Callable[[], RSAPrivateKey]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"the token volume .*file cannot be written"):
        await _start(tmp_path / "file", generate, LocalConfig())
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"sts_port is {port}, and .* is not available"):
            await _start(tmp_path, generate, LocalConfig(sts_port=port))


async def _start(directory: Path, generate: Callable[[], RSAPrivateKey], config: LocalConfig) -> None:
    clock = Clock(time.time, trio.current_time)
    with trio.move_on_after(10):
        await serve_local(config, directory, emit=Running().emit, clock=clock, generate=generate)


@pytest.mark.parametrize(("host", "client_host"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::1", "::1")])
async def test_sts_can_listen_on_another_address(
    tmp_path: Path, generate: Callable[[], RSAPrivateKey], host: str, client_host: str
) -> None:
    async with (
        running(tmp_path, generate, LocalConfig(sts_host=host)) as run,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        response = await client.post(
            run.services.sts_url, data={"Action": "GetCallerIdentity", "Version": "2011-06-15"}
        )
    assert "MissingAuthenticationToken" in response.text
    assert response.url.host == client_host


async def test_unevaluated_trust_statements_are_reported(tmp_path: Path, generate: Callable[[], RSAPrivateKey]) -> None:
    """Check that STS rejects a call if the decision depends on an unevaluated statement."""
    config = LocalConfig(roles=(RoleSettings(name="app", trust_policy=REAL_POLICY),))
    async with running(tmp_path, generate, config) as run:
        keys = (await run.exchange())["Credentials"]
        with pytest.raises(ClientError) as denied:
            await run.call(keys, "assume_role", RoleArn=run.services.role_arn, RoleSessionName="again")
    assert code_and_text(denied.value)[0] == "AccessDenied"
    reported = [fields["reason"] for event, fields in run.events if event == "trust_statement_not_evaluated"]
    assert [reason.partition(":")[0] for reason in reported] == ["Statement PodIdentity", "Statement Organization"]
    assert "the condition key aws:PrincipalOrgID is not evaluated here" in run.events[-1][1]["reason"]


async def test_policy_whose_keys_become_equal_is_rejected(
    tmp_path: Path, generate: Callable[[], RSAPrivateKey]
) -> None:
    """A mapping with the placeholder and the issuer's own host would lose a condition."""
    run = Running()
    async with running(tmp_path / "first", generate) as first:
        port = first.services.issuer_url.rpartition(":")[2]
    condition = {"StringEquals": {"{issuer}:sub": "a", f"127.0.0.1:{port}:sub": "b"}}
    statement: dict[str, Any] = {**REAL_POLICY["Statement"][0], "Condition": condition}  # type: ignore[dict-item]
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    config = LocalConfig(issuer_port=int(port), roles=(RoleSettings("app", trust_policy=policy),))
    serve = partial(serve_local, config, tmp_path, emit=run.emit, clock=run.clock, generate=generate)
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigurationError, match="two keys are equal"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
