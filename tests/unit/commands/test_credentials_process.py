"""Test `irsa-sidecar credentials` in a separate process."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from tests.support.processes import GUARD_SECONDS, pod_environment, run_daemon, scripted_sts

PRINT_MODULES = """
import atexit, sys
atexit.register(lambda: print("MODULES", *sys.modules, file=sys.stderr))
from sidecar.cli import main
raise SystemExit(main(["credentials"]))
"""


async def run_process(environment: Mapping[str, str], *command: str) -> "subprocess.CompletedProcess[bytes]":
    with trio.fail_after(GUARD_SECONDS):
        return await trio.run_process(
            [sys.executable, *command], env=environment, capture_stdout=True, capture_stderr=True, check=False
        )


BOTO3 = "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)"


async def test_credential_process_uses_the_daemon_or_else_sts(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} -m sidecar credentials\n")
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        client = environment | {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
        del client["AWS_ROLE_ARN"], client["AWS_WEB_IDENTITY_TOKEN_FILE"]  # these variables make boto3 call STS itself
        async with run_daemon(environment) as running:
            await running.logged("credentials_refreshed")
            listen = "{}:{}".format(*running.address)
            done = await run_process(client | {"IRSA_SIDECAR_LISTEN": listen}, "-c", BOTO3)
            assert done.stdout == b"ASIAFAKE0001\n", done.stderr.decode()
            served = await running.logged("credentials_served")
            assert served["access_key_id"] == "ASIAFAKE0001"
        assert len(sts.requests) == 1
        direct = environment | {"IRSA_SIDECAR_LISTEN": listen}
        done = await run_process(direct, "-m", "sidecar", "credentials")
        assert json.loads(done.stdout)["AccessKeyId"] == "ASIAFAKE0001"
        assert len(sts.requests) == 2


async def test_no_library_is_imported_if_a_daemon_responds(tmp_path: Path) -> None:
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        async with run_daemon(environment) as running:
            await running.logged("credentials_refreshed")
            unmeasured = {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
            done = await run_process(
                unmeasured | {"IRSA_SIDECAR_LISTEN": "{}:{}".format(*running.address)}, "-c", PRINT_MODULES
            )
    assert json.loads(done.stdout)["AccessKeyId"] == "ASIAFAKE0001"
    loaded = set(done.stderr.decode().split())
    assert "sidecar.commands.credentials" in loaded
    assert not {"trio", "httpx", "jwt", "structlog", "ssl", "dataclasses", "http.client", "sidecar.sts.client"} & loaded
