"""
Test that the error of a real SDK shows AWS's code and text when STS rejects the token.

The test runs the local issuer and STS, the daemon as a process with a token that is wrong in one way, and boto3 in
another process. boto3 knows only the container endpoint.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar.client.environment import Offer, client_environment
from sidecar.clock import Clock
from sidecar.local.config import LocalConfig
from sidecar.local.issuer import Issuer, generate_key
from sidecar.local.service_account import PodIdentity, TokenRequest
from sidecar.local.services import LocalServices, serve_local
from sidecar.local.signing_keys import KeySet, signing_key
from tests.support.processes import GUARD_SECONDS, pod_environment, run_daemon

BOTO3 = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
POD = PodIdentity("default", "app", "app-0", "local")
PRIVATE_KEY = generate_key()

NOT_VALIDATED = "The web identity token provided could not be validated."
NO_KEY = "Couldn't retrieve verification key from your identity provider"


def issued(issuer: Issuer, audience: str = "sts.amazonaws.com") -> str:
    return issuer.issue(POD, TokenRequest(audience, 3600)).raw


def an_issuer(url: str, *, hours_ago: float = 0.0, key: object = PRIVATE_KEY) -> Issuer:
    assert isinstance(key, type(PRIVATE_KEY))
    clock = Clock(lambda: time.time() - hours_ago * 3600, time.monotonic)
    return Issuer(url, KeySet((signing_key(key),)), clock=clock)


def fine(services: LocalServices) -> str:
    return issued(an_issuer(services.issuer_url))


def expired(services: LocalServices) -> str:
    return issued(an_issuer(services.issuer_url, hours_ago=2))


def for_another_audience(services: LocalServices) -> str:
    return issued(an_issuer(services.issuer_url), audience="vault")


def by_an_unknown_key(services: LocalServices) -> str:
    return issued(an_issuer(services.issuer_url, key=generate_key()))


def by_an_unknown_issuer(_services: LocalServices) -> str:
    return issued(an_issuer("https://oidc.example.com/id/B"))


def ignore_event(_event: str, /, **_fields: Any) -> None:
    """Discard an event of the local services."""


async def boto3_output(tmp_path: Path, make_token: Callable[[LocalServices], str]) -> str:
    async with trio.open_nursery() as nursery:
        clock = Clock(time.time, trio.current_time)
        serve = partial(
            serve_local,
            LocalConfig(),
            tmp_path,
            emit=ignore_event,
            clock=clock,
            generate=lambda: PRIVATE_KEY,
        )
        services = await nursery.start(serve)
        token_file = tmp_path / "other-token"
        token_file.write_text(make_token(services))
        environment = pod_environment(token_file, services.sts_url, AWS_ROLE_ARN=services.role_arn)
        async with run_daemon(environment) as running:
            await running.logged("refresh_failed" if make_token is not fine else "credentials_refreshed")
            offer = Offer(running.url, "unused", os.devnull, "us-east-1")
            client = client_environment(os.environ, offer) | {"AWS_ENDPOINT_URL_STS": services.sts_url}
            client.pop("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
            with trio.fail_after(GUARD_SECONDS):
                done = await trio.run_process(
                    [sys.executable, "-c", BOTO3], env=client, capture_stdout=True, capture_stderr=True, check=False
                )
        nursery.cancel_scope.cancel()
    return (done.stdout + done.stderr).decode()


async def test_valid_token_gives_boto3_the_role(tmp_path: Path) -> None:
    assert "assumed-role/app/default.app-0" in await boto3_output(tmp_path, fine)


@pytest.mark.parametrize(
    ("make_token", "code", "text"),
    [
        (expired, "ExpiredTokenException", "Token expired: current date/time"),
        (for_another_audience, "InvalidIdentityToken", NOT_VALIDATED),
        (by_an_unknown_key, "InvalidIdentityToken", NO_KEY),
        (by_an_unknown_issuer, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for"),
    ],
)
async def test_boto3_shows_the_aws_code_and_text_for_a_wrong_token(
    tmp_path: Path, make_token: Callable[[LocalServices], str], code: str, text: str
) -> None:
    output = await boto3_output(tmp_path, make_token)
    assert f"{code}: {text}" in output
    assert "CredentialRetrievalError" in output
