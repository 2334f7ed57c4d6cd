"""Test a daemon that emulates EC2's metadata service, with boto3 and the AWS CLI."""

import os
import subprocess
import sys
from pathlib import Path

import trio
from trio.testing import MockClock

from tests.support.fakes.scripted_sts import Reply
from tests.support.processes import (
    GUARD_SECONDS,
    HOLDS_LONG,
    Running,
    get,
    hour_long_reply,
    pod_environment,
    run_daemon,
    scripted_sts,
)
from tests.support.served import Served, settle

AWS = str(Path(sys.executable).parent / "aws")
BOTO3 = """
import boto3, botocore.session, botocore.utils
found = boto3.Session().get_credentials()
region = botocore.utils.IMDSRegionProvider(botocore.session.Session()).provide()
print(found.method, found.access_key, found.secret_key, found.token, region)
"""
CALLER_IDENTITY = b"""\
<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult><Arn>arn:aws:sts::111122223333:assumed-role/cart/shop.cart</Arn></GetCallerIdentityResult>
</GetCallerIdentityResponse>"""

ROLES = "latest/meta-data/iam/security-credentials/"


async def run_client(running: Running, home: Path, *command: str) -> "subprocess.CompletedProcess[bytes]":
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": running.imds_url,
        # By default, botocore tries once and waits one second, which is too short on a busy machine.
        "AWS_METADATA_SERVICE_TIMEOUT": str(int(GUARD_SECONDS)),
    }
    with trio.fail_after(GUARD_SECONDS):
        return await trio.run_process(
            command, env=environment, capture_stdout=True, capture_stderr=True, check=False, stdin=b""
        )


def with_imds(token_file: Path, sts_url: str, **more: str) -> dict[str, str]:
    return pod_environment(token_file, sts_url, IRSA_SIDECAR_IMDS_LISTEN="127.0.0.1:0", **more)


async def test_boto3_finds_credentials_and_region(tmp_path: Path) -> None:
    async with scripted_sts() as sts, run_daemon(with_imds(tmp_path / "token", sts.url)) as running:
        await running.logged("credentials_refreshed")
        done = await run_client(running, tmp_path, sys.executable, "-c", BOTO3)
        output = await running.logged("credentials_served", endpoint="imds")
    assert done.stdout.decode().split() == [
        "iam-role",
        "ASIAFAKE0001",
        "ASIAFAKE0001/secret",
        "ASIAFAKE0001/session",
        "eu-west-1",
    ], done.stderr.decode()
    assert output["access_key_id"] == "ASIAFAKE0001"


async def test_aws_cli_signs_with_the_credentials(tmp_path: Path) -> None:
    async with (
        scripted_sts(hour_long_reply(), Reply(200, CALLER_IDENTITY)) as sts,
        run_daemon(with_imds(tmp_path / "token", sts.url)) as running,
    ):
        await running.logged("credentials_refreshed")
        who = ("sts", "get-caller-identity", "--query", "Arn", "--output", "text")
        done = await run_client(running, tmp_path, AWS, *who, "--endpoint-url", sts.url, "--region", "eu-west-1")
        assert done.stdout == b"arn:aws:sts::111122223333:assumed-role/cart/shop.cart\n", done.stderr.decode()
        signed = sts.requests[-1]
    assert "Credential=ASIAFAKE0001/" in (signed.header("authorization") or "")
    assert signed.header("x-amz-security-token") == "ASIAFAKE0001/session"


async def test_early_client_waits_for_the_first_credentials(tmp_path: Path) -> None:
    slow = Reply(200, hour_long_reply().body, delay_seconds=0.3)
    async with (
        scripted_sts(slow) as sts,
        run_daemon(with_imds(tmp_path / "token", sts.url), prelude=HOLDS_LONG) as running,
    ):
        _, opened = await get(
            f"{running.imds_url}latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT"
        )
        status, body = await get(f"{running.imds_url}{ROLES}cart", {"X-aws-ec2-metadata-token": opened["text"]})
        assert (status, body["AccessKeyId"]) == (200, "ASIAFAKE0001")


async def test_imds_warns_at_the_start_that_it_ignores_the_secret(tmp_path: Path) -> None:
    secret_file = tmp_path / "authorization"
    environment = {"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(secret_file)}
    async with scripted_sts() as sts, run_daemon(with_imds(tmp_path / "token", sts.url, **environment)) as running:
        started = await running.logged("imds_started")
        assert started["url"] == running.imds_url
        doubtful = await running.logged("suspicious_setting_found")
        assert str(secret_file) in doubtful["reason"]
        assert "IRSA_SIDECAR_IMDS_LISTEN" in doubtful["reason"]


async def test_imds_requests_are_counted_separately(autojump_clock: MockClock, served: Served) -> None:
    await served.send(b"GET /latest/meta-data/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", imds=True)
    await served.send(b"GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await settle()
    assert served.statuses == {404: 1}
    assert served.daemon.metrics.imds_requests == {401: 1}
