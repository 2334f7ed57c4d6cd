"""Test `irsa-sidecar exec` with real commands: environment, exit status and signals."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.client.application import keep_secret, private_directory, run_application, until_signalled, with_daemon
from sidecar.client.environment import Offer
from sidecar.commands.exec import command_config
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.log import make_logger
from sidecar.serving.listen import listen
from tests.support.processes import GUARD_SECONDS, hour_long_reply, pod_environment, scripted_sts, started

TELL_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


async def run_exec(
    environment: dict[str, str], *command: str, flags: Sequence[str] = ()
) -> "subprocess.CompletedProcess[bytes]":
    with trio.fail_after(GUARD_SECONDS):
        return await trio.run_process(
            [sys.executable, "-m", "sidecar", "exec", *flags, "--", *command],
            env=environment,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


async def test_command_has_only_our_credential_variables(tmp_path: Path) -> None:
    shadows = {"AWS_PROFILE": "x", "AWS_ACCESS_KEY_ID": "AKIA", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url, **shadows)
        done = await run_exec(environment, sys.executable, "-c", TELL_ENVIRONMENT)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["AWS_CONTAINER_CREDENTIALS_FULL_URI"].startswith("http://127.0.0.1:")
    assert found["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    assert found["AWS_REGION"] == "eu-west-1"
    gone = {"AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"}
    assert not gone & set(found)
    assert not any(name.startswith("IRSA_SIDECAR_") for name in found)


async def test_boto3_in_the_command_gets_the_credentials(tmp_path: Path) -> None:
    program = "import boto3; print(boto3.Session().get_credentials().access_key)"
    async with scripted_sts(hour_long_reply("ASIAEXEC")) as sts:
        done = await run_exec(pod_environment(tmp_path / "token", sts.url), sys.executable, "-c", program)
    assert done.stdout.strip() == b"ASIAEXEC"


@pytest.mark.parametrize(
    ("program", "status"),
    [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137), ("pass", 0)],
)
async def test_exec_returns_the_exit_status_of_the_command(tmp_path: Path, program: str, status: int) -> None:
    async with scripted_sts() as sts:
        done = await run_exec(pod_environment(tmp_path / "token", sts.url), sys.executable, "-c", program)
    assert done.returncode == status


@pytest.mark.parametrize(("command", "status"), [("no-such-command", 127), ("", 127), (os.devnull, 126)])
async def test_error_shows_the_command_that_cannot_start(tmp_path: Path, command: str, status: int) -> None:
    async with scripted_sts() as sts:
        done = await run_exec(pod_environment(tmp_path / "token", sts.url), command)
    assert done.returncode == status
    assert f"cannot start {command!r}" in done.stderr.decode()


async def test_sigterm_is_forwarded_to_the_command(tmp_path: Path) -> None:
    # The program uses `sigwait`. A handler with `pause` would miss a signal between Python's last check and the call.
    program = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "print('ready', flush=True)\n"
        "raise SystemExit(42 if signal.sigwait([signal.SIGTERM]) else 0)"
    )
    async with scripted_sts() as sts, trio.open_nursery() as nursery:
        command = [sys.executable, "-m", "sidecar", "exec", "--", sys.executable, "-c", program]
        process = await nursery.start(
            partial(
                trio.run_process,
                command,
                env=pod_environment(tmp_path / "token", sts.url),
                stdout=subprocess.PIPE,
                check=False,
            )
        )
        with trio.fail_after(GUARD_SECONDS):
            assert (await process.stdout.receive_some()).startswith(b"ready")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 42
        await process.stdout.aclose()


async def test_signal_before_the_first_credentials_stops_exec(tmp_path: Path) -> None:
    places = tmp_path / "temporary"
    places.mkdir()
    environment = pod_environment(
        tmp_path / "token", "http://127.0.0.1:1/", TMPDIR=str(places), IRSA_SIDECAR_LOG_FORMAT="json"
    )
    command = [sys.executable, "-m", "sidecar", "exec", "--", "true"]
    async with started(command, environment) as running:
        await running.logged("refresh_failed")
        assert len(list(places.iterdir())) == 1
        assert await running.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert list(places.iterdir()) == []


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
async def test_signal_runs_cleanup_and_sets_the_exit_status(tmp_path: Path, signal_number: int) -> None:
    async def body() -> int:
        try:
            os.kill(os.getpid(), signal_number)
            await trio.sleep_forever()
        finally:
            (tmp_path / "ended").touch()

    with trio.fail_after(GUARD_SECONDS):
        assert await until_signalled(body) == 128 + signal_number
    assert (tmp_path / "ended").exists()


def test_error_for_a_missing_secret_directory_shows_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/proc/none")
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")  # `tempfile` then searches no other directory
    with pytest.raises(ConfigurationError, match=r"TMPDIR is /proc/none: .* Set TMPDIR"), private_directory():
        pass


def test_error_for_an_unwritable_secret_file_shows_the_setting(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match="Set TMPDIR"):
        keep_secret(None, gone)
    with pytest.raises(ConfigurationError, match=f"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE is {gone}/secret"):
        keep_secret(f"{gone}/secret", str(tmp_path))


async def test_secret_is_in_a_private_file_that_exec_removes(tmp_path: Path) -> None:
    async with scripted_sts() as sts:
        done = await run_exec(pod_environment(tmp_path / "token", sts.url), sys.executable, "-c", TELL_SECRET)
    output = json.loads(done.stdout)
    assert output["in_file"] == output["in_variable"]
    assert output["directory_mode"] == 0o700
    assert not Path(output["path"]).exists()


TELL_SECRET = """
import json, os
path = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
print(json.dumps({
    "path": path,
    "in_file": open(path).read(),
    "in_variable": os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"],
    "directory_mode": os.stat(os.path.dirname(path)).st_mode & 0o777,
}))
"""


def test_settings_of_a_daemon_in_the_same_pod_are_ignored(tmp_path: Path) -> None:
    for_pods = {"IRSA_SIDECAR_LISTEN": "no", "IRSA_SIDECAR_IMDS_LISTEN": "no", "IRSA_SIDECAR_CREDENTIALS_FILE": "/no"}
    for_pods["IRSA_SIDECAR_STATE_DIR"] = "/no"
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:1/", IRSA_SIDECAR_DURATION="900", **for_pods)
    config = command_config(environment, "error")
    assert (config.listen, config.imds_listen, config.credentials_file) == (("127.0.0.1", 0), None, None)
    assert config.state_dir is None
    assert config.role.duration_seconds == 900


def test_command_without_credentials_is_not_started(tmp_path: Path) -> None:
    started = []

    async def body(_offer: Offer) -> int:
        started.append(True)
        return 0

    config = command_config(pod_environment(tmp_path / "token", "http://127.0.0.1:1/"), "error")
    log, _ = make_logger("json", "error")
    with pytest.RaisesGroup(SidecarError, allow_unwrapped=True) as caught:
        trio.run(with_daemon, config, body, log, clock=MockClock(autojump_threshold=0))
    assert "no credentials within 15 s" in str(caught.value)
    assert not started


def test_secret_file_exists_before_the_port_responds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the daemon of `exec` and `local`. A client that can connect must be able to read the file."""
    secret, seen = tmp_path / "secret", []

    def observed(setting: str, address: tuple[str, int]) -> list[socket.socket]:
        seen.append(secret.exists())
        return listen(setting, address)

    async def body(_offer: Offer) -> int:
        return 0

    monkeypatch.setattr("sidecar.client.application.listen", observed)
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:1/")
    config = command_config(environment, "error")._replace(authorization_token_file=str(secret))
    log, _ = make_logger("json", "error")
    with pytest.RaisesGroup(SidecarError, allow_unwrapped=True):
        trio.run(with_daemon, config, body, log, clock=MockClock(autojump_threshold=0))
    assert seen == [True, True]


async def test_run_application_returns_the_exit_status() -> None:
    offer = Offer("http://127.0.0.1:1/v1/credentials", "secret", "/nowhere", None)
    assert await run_application([sys.executable, "-c", "raise SystemExit(3)"], offer) == 3
