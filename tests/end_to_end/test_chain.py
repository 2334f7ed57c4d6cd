"""
Test role chains as in a Pod: a roles file, the daemon as a process, a strict STS, and boto3 in another process.

boto3 knows only the container endpoint. STS checks the signature that boto3 creates with the credentials from that
endpoint.
"""

import json
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from sidecar.client.environment import Offer, client_environment
from sidecar.clock import Clock
from sidecar.local.config import LocalConfig, RoleSettings
from sidecar.local.issuer import generate_key
from sidecar.local.services import LocalServices, serve_local
from sidecar.setup.role_chain import ChainChange, ChainGrant, parse_target, with_trust
from tests.end_to_end.test_refusals import BOTO3, ignore_event
from tests.end_to_end.test_run import PRINT_MODULES
from tests.support.processes import GUARD_SECONDS, Running, get, pod_environment, run_daemon
from tests.unit.test_layers import COSTLY, COSTLY_WITH_A_CHAIN

APP, PARTNER, DATA = (
    "arn:aws:iam::111122223333:role/app",
    "arn:aws:iam::444455556666:role/partner",
    "arn:aws:iam::777788889999:role/data",
)
ACTIONS = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]


def trusts(role_arn: str, **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"AWS": role_arn}, "Action": ACTIONS, "Condition": condition}
    return {"Version": "2012-10-17", "Statement": statement}


AWS = LocalConfig(
    roles=(
        RoleSettings(name="app"),
        RoleSettings(arn=PARTNER, trust_policy=trusts(APP, StringEquals={"sts:ExternalId": "agreed"})),
        RoleSettings(arn=DATA, trust_policy=trusts(PARTNER, StringEquals={"sts:RoleSessionName": "reports-app-0"})),
    )
)


def roles_file(directory: Path, external_id: str = "agreed") -> Path:
    """Write a roles file with a default role and a chain of two steps to another account, and return its path."""
    steps = [
        {"role_arn": PARTNER, "external_id": external_id, "tags": {"team": "data"}, "transitive_tags": ["team"]},
        {"role_arn": DATA, "session_name": "{role}-{pod}", "duration": 900, "source_identity": "alice"},
    ]
    roles = [{"name": "default", "role_arn": APP}, {"name": "reports", "role_arn": APP, "chain": steps}]
    path = directory / "roles.yaml"
    path.write_text(yaml.safe_dump({"roles": roles}))
    return path


@asynccontextmanager
async def pod(
    directory: Path,
    *,
    external_id: str = "agreed",
    stss_clock_ahead: float = 0.0,
    prelude: str = "",
    aws: LocalConfig = AWS,
    entry: dict[str, Any] | None = None,
) -> AsyncIterator[tuple[LocalServices, Running]]:
    (directory / "volume").mkdir()
    clock = Clock(lambda: time.time() + stss_clock_ahead, trio.current_time)
    async with trio.open_nursery() as nursery:
        key = generate_key()
        serve = partial(serve_local, aws, directory / "volume", emit=ignore_event, clock=clock, generate=lambda: key)
        services = await nursery.start(serve)
        config = str(roles_file(directory, external_id))
        if entry is not None:
            Path(config).write_text(yaml.safe_dump([entry]))
        environment = pod_environment(
            services.token_file, services.sts_url, AWS_REGION=services.region, IRSA_SIDECAR_CONFIG=config
        )
        if prelude:
            # A coverage measurement imports more modules.
            environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
        async with run_daemon(environment, prelude=prelude) as running:
            yield services, running
        nursery.cancel_scope.cancel()


async def boto3_output(services: LocalServices, url: str) -> str:
    client = client_environment(os.environ, Offer(url, "unused", os.devnull, services.region))
    client |= {"AWS_ENDPOINT_URL_STS": services.sts_url}
    client.pop("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    with trio.fail_after(GUARD_SECONDS):
        done = await trio.run_process(
            [sys.executable, "-c", BOTO3], env=client, capture_stdout=True, capture_stderr=True, check=False
        )
    return (done.stdout + done.stderr).decode()


async def test_boto3_gets_the_last_role_of_a_chain_of_two_steps(tmp_path: Path) -> None:
    async with pod(tmp_path) as (services, running):
        refreshed = await running.logged("credentials_refreshed", role_name="reports")
        assert refreshed["role_arn"] == DATA
        _, body = await get(f"{running.url}/reports")
        assert (body["RoleArn"], body["AccountId"]) == (DATA, "777788889999")
        assert "assumed-role/data/reports-app-0" in await boto3_output(services, f"{running.url}/reports")
        assert "assumed-role/app/default.app-0" in await boto3_output(services, running.url)


async def test_boto3_shows_the_aws_code_for_a_wrong_external_id(
    tmp_path: Path,
) -> None:
    async with pod(tmp_path, external_id="guess") as (services, running):
        failed = await running.logged("refresh_failed", role_name="reports")
        assert (failed["code"], failed["step"], failed["next_step"]) == ("AccessDenied", 1, "wait")
        said = await boto3_output(services, f"{running.url}/reports")
        await running.logged("credentials_refreshed", role_name="default")
        assert (await get(running.url))[0] == 200
    assert "CredentialRetrievalError" in said
    assert f"AccessDenied: step 1 of the chain, {PARTNER}: User: arn:aws:sts::111122223333:assumed-role/app/" in said
    assert f"is not authorized to perform: sts:AssumeRole on resource: {PARTNER}. This role's trust policy must" in said
    assert "external id" in said


GRANT = ChainGrant(APP, parse_target("--chain-to", PARTNER), "agreed")
"""The chain of `setup role app --chain-to PARTNER --external-id agreed`."""


@pytest.mark.parametrize(("external_id", "event"), [("agreed", "credentials_refreshed"), (None, "refresh_failed")])
async def test_chain_from_setup_needs_the_external_id(tmp_path: Path, external_id: str | None, event: str) -> None:
    """Use the trust policy that `setup role` writes, and the roles entry that it prints."""
    trusting = RoleSettings(arn=PARTNER, trust_policy=with_trust(None, ChainChange(GRANT)))
    aws = LocalConfig(roles=(RoleSettings(name="app"), trusting))
    entry = replace(GRANT, external_id=external_id).roles_entry()
    async with pod(tmp_path, aws=aws, entry=entry) as (services, running):
        logged = await running.logged(event, role_name="default")
        output = await boto3_output(services, running.url)
    assert ("assumed-role/partner/default.app-0" in output) is (external_id is not None)
    assert logged.get("code") == (None if external_id else "AccessDenied")


async def test_chain_works_with_a_clock_that_is_one_hour_off(tmp_path: Path) -> None:
    began_at = time.monotonic()
    async with pod(tmp_path, stss_clock_ahead=3600) as (_, running):
        assert (await running.logged("credentials_refreshed", role_name="reports"))["role_arn"] == DATA
        skew = (await running.logged("clock_skew_detected", role_name="reports"))["seconds"]
    # The Date header of STS has whole seconds, and is up to the duration of the request old when the response arrives.
    # The virtual-time tests check the correction.
    assert -3600 <= skew <= -3600 + math.ceil(time.monotonic() - began_at)


async def test_chain_imports_only_the_signer_of_botocore(tmp_path: Path) -> None:
    async with pod(tmp_path, prelude=PRINT_MODULES) as (_, running):
        await running.logged("credentials_refreshed", role_name="reports")
        await running.stop(signal.SIGTERM)
        imported = set((await running.line_of("MODULES")).split())
    costly = COSTLY - COSTLY_WITH_A_CHAIN
    assert not {name for name in imported if any(f"{name}.".startswith(f"{module}.") for module in costly)}
    found = {name.split(".")[1] for name in imported if name.startswith("botocore.")}
    assert {"auth", "awsrequest"} <= found
    assert not found & {"client", "configloader", "credentials", "endpoint", "loaders", "model", "parsers", "session"}


async def test_reload_rejects_a_new_chain_without_a_region(tmp_path: Path) -> None:
    file = tmp_path / "roles.yaml"
    file.write_text(json.dumps({"roles": [{"name": "default", "role_arn": APP}]}))
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:1/", IRSA_SIDECAR_CONFIG=str(file))
    async with run_daemon(environment | {"AWS_REGION": ""}) as running:
        await running.logged("started")
        roles_file(tmp_path)
        refused = await running.logged("configuration_rejected")
        assert refused["reason"].startswith("AWS_REGION is not set, and role reports has a chain")
        assert await running.stop(signal.SIGTERM) == 0
