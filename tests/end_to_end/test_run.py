"""Test `irsa-sidecar run` as a process, from the outside, as in a Pod."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from benchmarks.subjects import free_port
from sidecar.serving.authorization import new_secret
from sidecar.startup.lean_imports import unchecked_importers
from tests.support.fakes.scripted_sts import Reply, error_reply
from tests.support.fakes.tokens import service_account_token
from tests.support.processes import (
    GUARD_SECONDS,
    HOLDS_LONG,
    ROLE_ARN,
    full_pipe,
    get,
    hour_long_reply,
    our_program,
    pod_environment,
    run_daemon,
    run_to_its_end,
    scripted_sts,
    started,
    until_served,
)
from tests.support.users import needs_linux
from tests.unit.test_layers import COSTLY, MAX_OWN_MODULES


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_run_serves_after_one_call_and_exits_with_zero(tmp_path: Path, signal_number: int) -> None:
    async with scripted_sts() as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        await running.logged("credentials_refreshed")
        status, body = await get(running.url)
        assert status == 200
        assert set(body) == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId", "RoleArn"}
        assert body["AccessKeyId"] == "ASIAFAKE0001"
        assert (await get(running.ready_url))[0] == 200
        assert (await running.logged("credentials_served"))["access_key_id"] == "ASIAFAKE0001"
        assert await running.stop(signal_number) == 0
        assert len(sts.requests) == 1


async def test_early_request_waits_for_the_first_credentials(tmp_path: Path) -> None:
    slow = Reply(200, hour_long_reply().body, delay_seconds=0.3)
    async with (
        scripted_sts(slow) as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url), prelude=HOLDS_LONG) as running,
    ):
        assert (await get(running.url))[0] == 200
        assert len(sts.requests) == 1


async def test_run_retries_after_an_sts_error(tmp_path: Path) -> None:
    refused = error_reply(503, "ServiceUnavailable", "come back")
    async with (
        scripted_sts(refused, hour_long_reply()) as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url)) as running,
    ):
        failed = await running.logged("refresh_failed")
        assert failed["code"] == "ServiceUnavailable"
        assert failed["next_step"] == "retry"
        await running.logged("credentials_refreshed")
        assert (await get(running.url))[0] == 200


async def test_client_gets_the_code_and_text_of_an_sts_error(tmp_path: Path) -> None:
    denied = error_reply(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
    async with scripted_sts(denied) as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        await running.logged("refresh_failed")
        status, body = await get(running.url)
        assert status == 503
        assert "AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity" in body["message"]
        status, body = await get(running.ready_url)
        assert status == 503
        assert "AccessDenied" in body["text"]
        assert running.process.poll() is None


async def test_authorization_secret_is_created_and_required(tmp_path: Path) -> None:
    secret_file = tmp_path / "authorization"
    environment = {"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(secret_file)}
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url, **environment)) as running,
    ):
        await running.logged("credentials_refreshed")
        secret = secret_file.read_text()
        assert stat.S_IMODE(secret_file.stat().st_mode) == 0o640
        assert (await get(running.url))[0] == 401
        assert (await get(running.url, {"Authorization": secret + "x"}))[0] == 403
        assert (await get(running.url, {"Authorization": secret}))[0] == 200
        assert secret not in running.errors


async def test_token_that_appears_later_is_used(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    environment = pod_environment(token_file, "http://127.0.0.1:1/")
    token_file.unlink()
    async with scripted_sts() as sts, run_daemon(environment | {"AWS_ENDPOINT_URL_STS": sts.url}) as running:
        failed = await running.logged("refresh_failed")
        assert str(token_file) in failed["reason"]
        assert (await get(running.url))[0] == 503
        token_file.write_text(service_account_token(time.time()))
        await running.logged("credentials_refreshed")
        assert (await get(running.url))[0] == 200


async def test_no_secret_is_in_log_metrics_or_errors(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(token_file, sts.url), "--log-level", "debug") as running,
    ):
        await running.logged("credentials_refreshed")
        await get(running.url)
        shown = str(await get(running.ready_url.replace("readyz", "metrics")))
        shown += str(await get(running.url + "/nowhere"))
        await running.stop(signal.SIGTERM)
        shown += running.errors
    token = token_file.read_text()
    assert "credentials_refreshed" in shown
    for secret in ("/secret", "/session", token, token.rpartition(".")[2]):
        assert secret not in shown


async def test_unread_or_closed_stderr_does_not_stop_the_daemon(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1/credentials"
    flags = ["--listen", urlsplit(url).netloc, "--admin-listen", "off", "--log-format", "json"]
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        command = [sys.executable, "-m", "sidecar", "run", *flags]
        with full_pipe() as (reader, writer):
            process = await trio.lowlevel.open_process(command, env=environment, stderr=writer)
            writer.close()
            with trio.fail_after(GUARD_SECONDS):
                await until_served(url)
                reader.close()
                await until_served(url)
                process.terminate()
                assert await process.wait() == 0


@needs_linux
async def test_closed_stderr_gets_no_socket(tmp_path: Path) -> None:
    """Otherwise, a socket could get descriptor 2, and log lines would go to a client or to STS."""
    url, admin = f"http://127.0.0.1:{free_port()}/v1/credentials", f"127.0.0.1:{free_port()}"
    flags = ["--listen", urlsplit(url).netloc, "--admin-listen", admin, "--log-format", "json"]
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "sidecar", "run", *flags]
        process = await trio.lowlevel.open_process(command, env=environment)
        with trio.fail_after(GUARD_SECONDS):
            await until_served(url)
            opened = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
            metrics = (await until_served(f"http://{admin}/metrics"))["text"]
            process.terminate()
            assert await process.wait() == 0
    assert opened == ["/dev/null"] * 3
    assert "\nirsa_sidecar_log_lines_dropped_total 0\n" not in metrics


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"AWS_ROLE_ARN": ""}, ["AWS_ROLE_ARN", "not set"]),
        ({"AWS_ROLE_ARN": "app"}, ["AWS_ROLE_ARN", "'app'", "arn:aws:iam::"]),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": ""}, ["AWS_WEB_IDENTITY_TOKEN_FILE", "not set"]),
        ({"AWS_REGION": "", "AWS_ENDPOINT_URL_STS": ""}, ["AWS_REGION"]),
        ({"AWS_REGION": "us east 1", "AWS_ENDPOINT_URL_STS": ""}, ["AWS_REGION", "us east 1"]),
        ({"AWS_ENDPOINT_URL_STS": "ftp://x"}, ["AWS_ENDPOINT_URL_STS", "ftp://x"]),
        ({"AWS_ROLE_SESSION_NAME": "my session"}, ["AWS_ROLE_SESSION_NAME", "my session"]),
        ({"AWS_CA_BUNDLE": "/nowhere.pem", "AWS_ENDPOINT_URL_STS": "https://127.0.0.1:1"}, ["AWS_CA_BUNDLE"]),
        ({"IRSA_SIDECAR_DURATION": "10"}, ["IRSA_SIDECAR_DURATION", "'10'", "900"]),
        ({"IRSA_SIDECAR_STS_FALLBACK_REGIONS": "eu-central-1"}, ["STS_FALLBACK_REGIONS", "AWS_ENDPOINT_URL_STS"]),
        (
            {"IRSA_SIDECAR_STS_FALLBACK_REGIONS": "cn-north-1", "AWS_ENDPOINT_URL_STS": ""},
            ["IRSA_SIDECAR_STS_FALLBACK_REGIONS", "'cn-north-1'", "partition aws"],
        ),
        ({"IRSA_SIDECAR_LISTEN": "0.0.0.0:80"}, ["IRSA_SIDECAR_LISTEN", "loopback"]),
        ({"IRSA_SIDECAR_LOG_LEVEL": "inof"}, ["IRSA_SIDECAR_LOG_LEVEL", "did you mean info"]),
        (
            {"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": "/nowhere/x"},
            ["IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE", "/nowhere/x"],
        ),
    ],
)
def test_invalid_setting_exits_with_status_two_and_a_fix(
    tmp_path: Path, changes: dict[str, str], words: list[str]
) -> None:
    status, message = run_to_its_end(pod_environment(tmp_path / "token", "http://127.0.0.1:1/", **changes))
    assert status == 2
    assert message.startswith("irsa-sidecar: ")
    assert "Traceback" not in message
    for word in words:
        assert word in message


def test_wrong_usage_exits_with_status_two() -> None:
    for arguments in (["run", "--lisen", "x"], ["rnu"]):
        done = subprocess.run(
            [sys.executable, "-m", "sidecar", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "usage" in done.stderr


@pytest.mark.parametrize("command", ["run", "local", "exec", "credentials", "token", "probe"])
def test_help_of_a_command_has_an_example(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", command, "--help"], capture_output=True, text=True, check=True
    )
    assert "example" in done.stdout


PRINT_MODULES = """
import atexit, sys
def tell():
    print("MODULES", *[name for name, module in sys.modules.items() if module is not None], file=sys.stderr)
atexit.register(tell)
"""


@pytest.mark.skipif(bool(unchecked_importers()), reason="the stubs need the package versions that were checked")
async def test_run_imports_only_modules_within_its_budget(tmp_path: Path) -> None:
    environment = pod_environment(tmp_path / "token", "")
    for name in [name for name in environment if name.startswith("COVERAGE_")]:
        del environment[name]  # a coverage measurement imports more modules
    async with scripted_sts() as sts:
        environment["AWS_ENDPOINT_URL_STS"] = sts.url
        async with run_daemon(environment, prelude=PRINT_MODULES) as running:
            await running.logged("credentials_refreshed")
            await get(running.url)
            await get(running.ready_url.replace("readyz", "metrics"))
            await running.stop(signal.SIGTERM)
            imported = set((await running.line_of("MODULES")).split())
    assert {"trio", "httpx", "sidecar.serving.server"} <= imported
    assert not {name for name in imported if any(f"{name}.".startswith(f"{costly}.") for costly in COSTLY)}
    assert len({name for name in imported if name.startswith("sidecar.")}) <= MAX_OWN_MODULES


async def test_probe_succeeds_if_ready_and_otherwise_prints_the_reason(tmp_path: Path) -> None:
    denied = error_reply(403, "AccessDenied", "no")
    async with scripted_sts(denied) as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        await running.logged("refresh_failed")
        port = running.ready_url.split(":")[2].split("/")[0]
        command = [sys.executable, "-m", "sidecar", "probe", "--admin-listen", f"127.0.0.1:{port}"]
        done = await trio.run_process(command, capture_stderr=True, check=False)
        assert done.returncode == 1
        assert b"AccessDenied" in done.stderr
        async with trio.open_nursery() as nursery:
            waiting = await nursery.start(trio.run_process, [*command, "--wait", "3600"])
            sts.replies = [hour_long_reply()]
            await running.logged("credentials_refreshed")
        assert waiting.returncode == 0
        assert (await trio.run_process(command)).returncode == 0
    assert (await trio.run_process(command, capture_stderr=True, check=False)).returncode == 1


async def test_listener_on_all_interfaces_rejects_a_host_name(tmp_path: Path) -> None:
    environment = {"IRSA_SIDECAR_LISTEN": "0.0.0.0:0"}
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url, **environment), "--allow-non-loopback") as running,
    ):
        await running.logged("credentials_refreshed")
        url = running.url.replace("0.0.0.0", "127.0.0.1")
        assert (await get(url, host="10.1.2.3:4772"))[0] == 200
        assert (await get(url, host="rebound.example"))[0] == 403


# Tests of the secret's file and the listening port


@pytest.mark.parametrize("form", ["one role", "several roles", "an older secret of ours"])
async def test_secret_file_exists_before_the_port_responds(tmp_path: Path, form: str) -> None:
    """Check that a client that can connect can also read the file, and that the file contains the secret in use."""
    port, secrets, environment = free_port(), {"": tmp_path / "secret-default"}, {}
    if form == "several roles":
        secrets |= {"/reporting": tmp_path / "secret-reporting"}
        roles = [f"{{name: {name}, role_arn: '{ROLE_ARN}'}}" for name in ("default", "reporting")]
        (tmp_path / "roles.yaml").write_text(f"roles: [{', '.join(roles)}]")
        environment["IRSA_SIDECAR_CONFIG"] = str(tmp_path / "roles.yaml")
    old = new_secret()
    if form == "an older secret of ours":
        secrets[""].write_text(old)
    async with scripted_sts() as sts:
        environment |= pod_environment(
            tmp_path / "token",
            sts.url,
            IRSA_SIDECAR_LISTEN=f"127.0.0.1:{port}",
            IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE=f"{tmp_path}/secret-{{role}}",
        )
        async with started([*our_program(HOLDS_LONG), "run"], environment):
            with trio.fail_after(GUARD_SECONDS):
                while not _is_open(port):
                    await trio.lowlevel.checkpoint()
            found = {path: file.read_text() for path, file in secrets.items()}
            assert old not in found.values()
            for path, secret in found.items():
                url = f"http://127.0.0.1:{port}/v1/credentials{path}"
                assert (await get(url, {"Authorization": secret}))[0] == 200


def _is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


async def test_secret_of_an_earlier_process_is_rejected(tmp_path: Path) -> None:
    """The daemon replaces its own secret, because another process on the port may have received the old secret."""
    secret, kept = tmp_path / "secret", tmp_path / "kept"
    kept.write_text("chosen-by-hand")
    other = f"{{name: b, role_arn: '{ROLE_ARN}', authorization_token_file: '{kept}'}}"
    (tmp_path / "roles.yaml").write_text(f"roles: [{{name: default, role_arn: '{ROLE_ARN}'}}, {other}]")
    async with scripted_sts() as sts:
        environment = pod_environment(
            tmp_path / "token",
            sts.url,
            IRSA_SIDECAR_CONFIG=str(tmp_path / "roles.yaml"),
            IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE=str(secret),
        )
        async with run_daemon(environment, prelude=HOLDS_LONG) as running:
            stolen = secret.read_text()
            assert (await get(running.url, {"Authorization": stolen}))[0] == 200
            running.process.kill()
        async with run_daemon(environment, prelude=HOLDS_LONG) as running:
            assert (await get(running.url, {"Authorization": stolen}))[0] == 403
            assert (await get(running.url, {"Authorization": secret.read_text()}))[0] == 200
            assert (await get(f"{running.url}/b", {"Authorization": "chosen-by-hand"}))[0] == 200
