"""Test that session tokens of any size are served whole in every format, and that metrics show their size."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from botocore.credentials import SharedCredentialProvider

from sidecar.client.request import MAX_RESPONSE_BYTES, get
from tests.support.fakes.scripted_sts import Reply
from tests.support.processes import GUARD_SECONDS, Running, hour_long_reply, pod_environment, run_daemon, scripted_sts
from tests.support.processes import get as http_get
from tests.support.users import needs_linux

SIZES = [1, 356, 2048, 4096, 4097, 16_384, 65_536, 200_000]
"""
The sizes of session tokens in bytes.

STS's limit is 4,096 since September 2026. AWS advises clients not to rely on a limit.
"""


def reply_with(token: str, numbers: str = "") -> Reply:
    body = hour_long_reply().body.decode()
    before, tag, rest = body.partition("<SessionToken>")
    body = before + tag + token + "</SessionToken>" + rest.partition("</SessionToken>")[2]
    return Reply(200, body.replace("</Credentials>", f"</Credentials>{numbers}").encode())


async def metrics_of(running: Running) -> str:
    _, found = await http_get(running.ready_url.replace("readyz", "metrics"))
    return str(found["text"])


@needs_linux
@pytest.mark.parametrize("size", SIZES)
async def test_session_token_of_any_size_is_served_in_every_format(tmp_path: Path, size: int) -> None:
    token = ("IQoJb3JpZ2luX2Vj+/=" * (size // 19 + 1))[:size]
    environment = {
        "IRSA_SIDECAR_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "IRSA_SIDECAR_STATE_DIR": str(tmp_path / "state"),
        "IRSA_SIDECAR_STATE_ALLOW_DISK": "true",
        "IRSA_SIDECAR_LOG_LEVEL": "debug",
    }
    async with scripted_sts(reply_with(token)) as sts:
        environment = pod_environment(tmp_path / "token", sts.url, **environment)
        async with run_daemon(environment) as running:
            await running.logged("credentials_file_written", profiles=["default"])
            assert (await http_get(running.url))[1]["Token"] == token
            reply = await trio.to_thread.run_sync(get, running.address, "/v1/credentials", GUARD_SECONDS)
            assert json.loads(reply.body)["Token"] == token
            assert await token_by_command(running, environment) == token
            loaded = SharedCredentialProvider(
                creds_filename=str(tmp_path / "credentials"), profile_name="default"
            ).load()
            assert loaded is not None
            assert loaded.token == token
            metrics = await metrics_of(running)
            assert f'irsa_sidecar_session_token_bytes{{role="default"}} {size}\n' in metrics
            assert "irsa_sidecar_session_token_utilization_ratio" not in metrics
            await running.logged("credentials_saved")
        assert token[:40] not in running.errors or size < 40
        async with run_daemon(environment) as running:
            assert (await http_get(running.url))[1]["Token"] == token
            assert "credentials_restored" in running.errors
        assert len(sts.requests) == 1


async def token_by_command(running: Running, environment: dict[str, str]) -> str:
    """Return the session token that `irsa-sidecar credentials` prints for `credential_process`."""
    listen = f"{running.address[0]}:{running.address[1]}"
    command = [sys.executable, "-m", "sidecar", "credentials"]
    with trio.fail_after(GUARD_SECONDS):
        done = await trio.run_process(
            command, env={**environment, "IRSA_SIDECAR_LISTEN": listen}, capture_stdout=True, capture_stderr=True
        )
    return str(json.loads(done.stdout)["SessionToken"])


async def test_size_and_utilization_that_sts_reports_are_gauges(tmp_path: Path) -> None:
    numbers = "<SessionTokenSize>3277</SessionTokenSize><SessionTokenUtilization>80</SessionTokenUtilization>"
    async with (
        scripted_sts(reply_with("x" * 3000, numbers)) as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url)) as running,
    ):
        await running.logged("credentials_refreshed")
        metrics = await metrics_of(running)
    assert 'irsa_sidecar_session_token_bytes{role="default"} 3277\n' in metrics
    assert 'irsa_sidecar_session_token_utilization_ratio{role="default"} 0.8\n' in metrics


async def test_endless_response_is_rejected() -> None:
    async def flood(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    await stream.send_all(b"x" * 65_536)
            except trio.BrokenResourceError:
                pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, flood, 0, host="127.0.0.1"))
        address = listeners[0].socket.getsockname()[:2]
        with pytest.raises(ConnectionError, match=f"more than {MAX_RESPONSE_BYTES} bytes"):
            await trio.to_thread.run_sync(get, address, "/", GUARD_SECONDS)
        nursery.cancel_scope.cancel()
