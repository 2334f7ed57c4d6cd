"""Provide an empty AWS account, an issuer on a fake internet, and a function that runs the steps."""

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.session
import pytest
import trustme
from botocore.loaders import Loader

from sidecar import cli
from sidecar.setup import issuer_fetch
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.support.fakes.internet import Internet, internet
from tests.support.fakes.moto_server import MotoServer, moto_server
from tests.unit.setup.kubeconfigs import NAME, PATH
from tests.unit.setup.migration_world import World

ISSUER = "https://oidc.example.com/clusters/shop"
KEYS_URI = f"{ISSUER}/keys"
KEY = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1", "n": "sXch", "e": "AQAB"}


def discovery(issuer: str = ISSUER, **changes: Any) -> dict[str, Any]:
    document = {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/keys",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }
    return document | changes


class CommandResult(NamedTuple):
    """The exit status, stdout and stderr of a command."""

    status: int
    out: str
    err: str

    def without_next(self) -> "CommandResult":
        """Return the same result without the lines with the next commands, which test_outcome.py tests."""
        return self._replace(out=without_next(self.out))


def without_next(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("next: "))


def run_setup(capsys: pytest.CaptureFixture[str], *arguments: str) -> CommandResult:
    """Run `irsa-sidecar setup …` in the test's process."""
    status = cli.main(["setup", *arguments])
    return CommandResult(status, *capsys.readouterr())


class Account:
    """The AWS account in moto's server."""

    def __init__(self, server: MotoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str, region: str = "eu-west-1") -> Any:
        """Return a client of boto3 that reads or changes the account without `setup`."""
        if (service, region) not in self._clients:
            self._clients[service, region] = boto3.client(service, region_name=region)  # type: ignore[call-overload]
        return self._clients[service, region]

    @property
    def iam(self) -> Any:
        return self.client("iam")

    def setup(self, *arguments: str) -> CommandResult:
        return run_setup(self._capsys, *arguments)

    def use(self, access_key_id: str, secret_access_key: str) -> None:
        """Let the command use these credentials. Moto then checks the permissions of their owner."""
        self._monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key_id)
        self._monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_access_key)
        self.server.allow_requests(0)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    with moto_server() as server:
        yield server


@pytest.fixture
def account(
    moto: MotoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], aws_environment: None
) -> Iterator[Account]:
    moto.reset()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    account = Account(moto, monkeypatch, capsys)
    yield account
    account.close()


Offline = Callable[..., CommandResult]
"""A function that runs `irsa-sidecar setup …` with --account-id and --output, which needs no call to AWS."""


@pytest.fixture
def offline(aws_environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offline:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    def run(*arguments: str, output: str = "json") -> CommandResult:
        return run_setup(capsys, *arguments, "--account-id", "111122223333", "--output", output)

    return run


@pytest.fixture(scope="session")
def loader() -> Loader:
    """Share botocore's loader of service models, because each new loader reads several megabytes."""
    return Loader()


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_proxies: None, loader: Loader) -> None:
    """Set credentials in the environment, and hide this machine's AWS configuration."""
    monkeypatch.setattr(botocore.session, "create_loader", lambda *_: loader)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFAKE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))


class Authorities:
    """A public authority, and a private authority with an intermediate. Each has a file with its certificate."""

    def __init__(self, directory: Path) -> None:
        self.public, self.private = trustme.CA(), trustme.CA()
        self.intermediate = self.private.create_child_ca()
        self.public_file, self.private_file = directory / "public.pem", directory / "private.pem"
        self.public.cert_pem.write_to_path(self.public_file)
        self.private.cert_pem.write_to_path(self.private_file)

    @staticmethod
    def server(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*names, **options).configure_cert(context)
        return context


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    return Authorities(tmp_path_factory.mktemp("authorities"))


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch, no_proxies: None, authorities: Authorities) -> Iterator[Internet]:
    """Provide a fake internet without a server."""
    monkeypatch.setattr(issuer_fetch, "PUBLIC_AUTHORITIES", str(authorities.public_file))
    with internet() as net:
        monkeypatch.setenv("HTTPS_PROXY", net.proxy_url)
        yield net


@pytest.fixture
def issuer(net: Internet, authorities: Authorities) -> Internet:
    """Provide a fake internet on which ISSUER is valid."""
    net.serve("oidc.example.com", authorities.server(authorities.public, "oidc.example.com"))
    net.publish(f"{ISSUER}/.well-known/openid-configuration", discovery())
    net.publish(KEYS_URI, {"keys": [KEY]})
    return net


@pytest.fixture
def secured(authorities: Authorities) -> Iterator[FakeApiServer]:
    """Provide an API server on 127.0.0.1 whose certificate is valid only for NAME."""
    with api_server(authorities.server(authorities.private, NAME)) as fake:
        fake.broken[PATH] = (200, {"gitVersion": "v1"})
        yield fake


@pytest.fixture
def plain(no_proxies: None) -> Iterator[FakeApiServer]:
    with api_server() as fake:
        fake.broken[PATH] = (200, {"gitVersion": "v1"})
        yield fake


@pytest.fixture
def world(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    with api_server() as fake:
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig(fake.url)))
        yield World(fake, account)
