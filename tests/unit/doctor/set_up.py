"""
Start a set-up on loopback: issuer, token, STS and daemon, and the environments of the sidecar and the application.

A test then breaks a file, a variable or a peer, as can happen in a cluster.
"""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio

from sidecar.clock import Clock
from sidecar.config.settings import read_config
from sidecar.daemon.daemon import Listeners, make_daemon
from sidecar.doctor import run
from sidecar.doctor.checks import endpoint
from sidecar.doctor.report import Report
from sidecar.local.config import LocalConfig, RoleSettings
from sidecar.local.issuer import generate_key
from sidecar.local.services import LocalServices, serve_local
from sidecar.local.signing_keys import signing_key
from sidecar.metrics import Metrics
from sidecar.serving.authorization import write_secret
from sidecar.serving.listen import listen
from sidecar.sts.regions import open_regions
from tests.support.processes import GUARD_SECONDS
from tests.unit.daemon.test_daemon import make_log

PRIVATE_KEY, ANOTHER_KEY = generate_key(), generate_key()
KID = signing_key(PRIVATE_KEY).kid
SECRET = "the-authorization-secret-of-this-set-up"
ACCOUNT = "111122223333"
UNREACHABLE = "http://127.0.0.1:1"
"""A URL on which no process listens."""

REFUSING = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{{issuer}}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {"{issuer}:sub": "system:serviceaccount:shop:cart"}},
    },
}
"""The trust policy of the role `refusing`. It accepts only another service account."""


def ignore_event(_event: str, /, **_fields: Any) -> None:
    """Ignore an event of the local services."""


@dataclass
class SetUp:
    """The running set-up. `environ` is the sidecar's environment, and `application` is the application's."""

    directory: Path
    nursery: trio.Nursery
    services: LocalServices
    environ: Mapping[str, str]
    application: Mapping[str, str]

    @property
    def issuer_key(self) -> str:
        return self.services.issuer_url.partition("://")[2]

    def role(self, name: str) -> str:
        return f"arn:aws:iam::{ACCOUNT}:role/{name}"

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of the Pod's token with these changes. The value None removes a claim."""
        now = int(time.time())
        claims = {
            "iss": self.services.issuer_url,
            "sub": "system:serviceaccount:default:app",
            "aud": ["sts.amazonaws.com"],
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "app"}, "pod": {"name": "app-0"}},
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def with_token(self, *, kid: str | None = KID, key: Any = PRIVATE_KEY, **changes: Any) -> dict[str, str]:
        """Return the sidecar's environment with another token, signed with `key`."""
        payload = json.dumps(self.claims(**changes)).encode()
        headers = {} if kid is None else {"kid": kid}
        return self.with_file(jwt.PyJWS().encode(payload, key, algorithm="RS256", headers=headers))

    def with_file(self, content: str) -> dict[str, str]:
        """Return the sidecar's environment with other content in the token's file."""
        path = self.directory / "another-token"
        path.write_text(content)
        return self.but(AWS_WEB_IDENTITY_TOKEN_FILE=str(path))

    def but(self, **changes: str | None) -> dict[str, str]:
        """Return the sidecar's environment with these changes. The value None removes a variable."""
        return _changed(self.environ, changes)

    def application_but(self, **changes: str | None) -> dict[str, str]:
        return _changed(self.application, changes)


def _changed(environ: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in {**environ, **changes}.items() if value is not None}


@asynccontextmanager
async def set_up(directory: Path) -> AsyncIterator[SetUp]:
    config = replace(
        LocalConfig(),
        token_lifetime_seconds=3600,
        roles=(RoleSettings(name="app"), RoleSettings(name="refusing", trust_policy=REFUSING)),
    )
    async with trio.open_nursery() as nursery:
        clock = Clock(time.time, trio.current_time)
        volume = directory / "volume"
        serve = partial(serve_local, config, volume, emit=ignore_event, clock=clock, generate=lambda: PRIVATE_KEY)
        services = await nursery.start(serve)
        yield await nursery.start(_with_daemon, directory, nursery, services)
        nursery.cancel_scope.cancel()


async def _with_daemon(
    directory: Path,
    nursery: trio.Nursery,
    services: LocalServices,
    *,
    task_status: trio.TaskStatus[SetUp] = trio.TASK_STATUS_IGNORED,
) -> None:
    secret_file = str(directory / "authorization")
    write_secret(secret_file, SECRET)
    listeners = listen("LISTEN", ("127.0.0.1", 0))
    address = f"127.0.0.1:{listeners[0].getsockname()[1]}"
    aws = {
        "AWS_REGION": services.region,
        "AWS_ENDPOINT_URL_STS": services.sts_url,
    }
    environ = aws | {
        "AWS_ROLE_ARN": services.role_arn,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(services.token_file),
        "IRSA_SIDECAR_LISTEN": address,
        "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": secret_file,
    }
    application = aws | {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{address}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": secret_file,
        "AWS_DEFAULT_REGION": services.region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    config = read_config(environ, {})
    log, metrics = make_log([]), Metrics()
    async with open_regions(config.sts, monotonic=trio.current_time, log=log, metrics=metrics) as sts:
        daemon = make_daemon(config, sts.exchange, log=log, metrics=metrics)
        async with trio.open_nursery() as own:
            await own.start(daemon.serve, Listeners(listeners))
            await daemon.roles.first_credentials()
            task_status.started(SetUp(directory, nursery, services, environ, application))


SLOW_MACHINE = (
    f"from sidecar.doctor.checks import endpoint; endpoint.SHORTEST_SDK_TIMEOUT_SECONDS = {2 * GUARD_SECONDS}"
)
"""Python code that a program runs first. It increases doctor's latency limit for a slow machine, as `examine` does."""


async def examine(environ: Mapping[str, str], *, metadata_address: str | None = UNREACHABLE, **options: Any) -> Report:
    """Run doctor without the real metadata service, and without a latency warning, because this machine may be busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoint, "SHORTEST_SDK_TIMEOUT_SECONDS", 2 * GUARD_SECONDS)
        return await run.examine(environ, metadata_address=metadata_address, **options)
