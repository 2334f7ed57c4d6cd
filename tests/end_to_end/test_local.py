"""
Test `irsa-sidecar local -- CMD` with all parts of IRSA, and with real AWS SDKs in other processes.

The SDK gets its credentials only from the container endpoint. STS issues these credentials for a service account token
(AssumeRoleWithWebIdentity), and checks the signature that the SDK creates with the credentials.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.subjects import free_port
from tests.support.processes import GUARD_SECONDS

AWS = str(Path(sys.executable).parent / "aws")
WHO_AM_I = [AWS, "sts", "get-caller-identity", "--output", "json"]
BOTO3 = "import boto3, json; print(json.dumps(boto3.client('sts').get_caller_identity()['Arn']))"
TELL_OFFER = """
import os
print(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
"""

TRUST: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/{issuer}"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {
                    "{issuer}:aud": "sts.amazonaws.com",
                    "{issuer}:sub": "system:serviceaccount:default:app",
                }
            },
        }
    ],
}


def run_local(
    *command: str, config: Path | None = None, flags: Sequence[str] = (), **variables: str
) -> "subprocess.CompletedProcess[str]":
    if config:
        flags = ["--config", str(config)]
    return subprocess.run(
        [sys.executable, "-m", "sidecar", "local", *flags, "--", *command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=GUARD_SECONDS,
    )


def config_file(tmp_path: Path, **settings: Any) -> Path:
    path = tmp_path / "local.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_aws_cli_has_the_identity_of_the_role() -> None:
    done = run_local(*WHO_AM_I)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Arn"] == "arn:aws:sts::111122223333:assumed-role/app/default.app-0"
    for event in ("token_renewed", "exchange_granted", "credentials_served", "caller_identity_returned"):
        assert event in done.stderr


def test_boto3_has_the_identity_of_the_role() -> None:
    done = run_local(sys.executable, "-c", BOTO3)
    assert json.loads(done.stdout) == "arn:aws:sts::111122223333:assumed-role/app/default.app-0"


@pytest.mark.parametrize("client", [WHO_AM_I, [sys.executable, "-c", BOTO3]])
def test_sdk_shows_the_sts_error_for_another_service_account(tmp_path: Path, client: list[str]) -> None:
    other = json.loads(json.dumps(TRUST).replace("default:app", "default:other"))
    done = run_local(*client, config=config_file(tmp_path, roles=[{"name": "app", "trust_policy": other}]))
    assert done.returncode != 0
    assert "AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity" in done.stderr


def test_token_for_another_audience_shows_the_sts_error(tmp_path: Path) -> None:
    trust = json.loads(json.dumps(TRUST).replace('"sts.amazonaws.com"', '"vault"'))
    config = config_file(tmp_path, audience="vault", roles=[{"name": "app", "trust_policy": trust}])
    assert run_local(*WHO_AM_I, config=config).returncode == 0
    trust = TRUST
    config = config_file(tmp_path, audience="vault", roles=[{"name": "app", "trust_policy": trust}])
    done = run_local(*WHO_AM_I, config=config)
    assert "AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity" in done.stderr


def test_unknown_policy_operator_ends_local_with_status_two(tmp_path: Path) -> None:
    trust = json.loads(json.dumps(TRUST).replace("StringEquals", "StringEqual"))
    done = run_local(*WHO_AM_I, config=config_file(tmp_path, roles=[{"name": "app", "trust_policy": trust}]))
    assert done.returncode == 2
    assert "StringEqual" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_configuration_key_suggests_a_similar_key(tmp_path: Path) -> None:
    done = run_local(*WHO_AM_I, config=config_file(tmp_path, acount_id="111122223333"))
    assert done.returncode == 2
    assert "account_id" in done.stderr


def test_jwks_without_issuer_ends_local_with_status_two() -> None:
    done = run_local(*WHO_AM_I, flags=["--jwks-file=keys.json"])
    assert done.returncode == 2
    assert "--jwks-file is keys.json, but --issuer is not set" in done.stderr


@pytest.mark.parametrize("flags", [["--open", "--no-page"], ["--page-port=x"], ["--page-port=70000"]])
def test_wrong_flags_of_the_page_end_local_with_status_two(flags: list[str]) -> None:
    done = run_local(*WHO_AM_I, flags=flags)
    assert done.returncode == 2
    assert flags[0].partition("=")[0] in done.stderr
    assert "Traceback" not in done.stderr


READ_PAGE = """
import json, os, subprocess, sys, urllib.request
url = sys.argv[1]
with urllib.request.urlopen(url) as page:
    print(page.status)
with urllib.request.urlopen(url + "events") as stream:
    print(stream.readline().decode().removeprefix("data: "))
"""


def test_explained_log_shows_the_exchange_and_opens_the_page(tmp_path: Path) -> None:
    """Let a program that stands in for the browser write the address that it gets."""
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >{opened}\n')
    browser.chmod(0o755)
    wait = f"import os, time\nwhile not os.path.exists({str(opened)!r}): time.sleep(0.05)"
    flags = ["--log-format", "explained", "--open"]
    done = run_local(sys.executable, "-c", wait, flags=flags, BROWSER=str(browser))
    assert done.returncode == 0, done.stderr
    page = re.search(r"^ *page +(http://127\.0\.0\.1:\d+/)", done.stderr, re.MULTILINE)
    assert page is not None, done.stderr
    assert opened.read_text().startswith(page[1])
    assert "✓" in done.stderr


def test_page_shows_the_state_of_the_daemon(tmp_path: Path) -> None:
    """The command reads the page's address in the file that receives the log."""
    log = tmp_path / "log"
    find = f"import re; url = re.search(r'http://127\\.0\\.0\\.1:\\d+/[\\w-]+/', open({str(log)!r}).read())[0]"
    code = f"import sys; {find}; sys.argv = ['', url]; exec({READ_PAGE!r})"
    with log.open("w") as stderr:
        done = subprocess.run(
            [sys.executable, "-m", "sidecar", "local", "--", sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=False,
            timeout=GUARD_SECONDS,
        )
    assert done.returncode == 0, log.read_text()
    status, state = done.stdout.split("\n", 1)
    assert status == "200"
    assert json.loads(state)["is_serving"] is True


PRESS = """
import boto3, json, re, sys, urllib.request
page = re.search(r"http://127\\.0\\.0\\.1:\\d+/[\\w-]{32}/", open(sys.argv[1]).read())[0]
origin = page.rpartition("/")[0].rpartition("/")[0]
def press(control):
    request = urllib.request.Request(f"{page}controls/{control}/start", method="POST", headers={"Origin": origin})
    assert urllib.request.urlopen(request).status == 200
def key():
    return boto3.Session().get_credentials().get_frozen_credentials().access_key
def follow(is_enough):
    with urllib.request.urlopen(page + "events") as stream:
        for line in stream:
            if line.startswith(b"data: ") and is_enough(state := json.loads(line[6:])):
                return state
first = key()
press("refresh")
second = follow(lambda state: state["sessions"][0]["access_key_id"] != first)["sessions"][0]["access_key_id"]
press("sts-unavailable")
state = follow(lambda state: state["failures"] > 0)
keys = {key() for _ in range(20)}
print(json.dumps([keys == {second}, state["is_serving"], state["failed_at"] != [], first != second]))
"""


def test_sdk_is_served_while_the_page_stops_sts(tmp_path: Path) -> None:
    """Another process presses the buttons `Refresh now` and `STS out of service`, and calls 20 times."""
    log = tmp_path / "log"
    command = [sys.executable, "-m", "sidecar", "local", "--", sys.executable, "-c", PRESS, str(log)]
    with log.open("w") as stderr:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False, timeout=GUARD_SECONDS
        )
    assert done.returncode == 0, log.read_text()
    assert json.loads(done.stdout) == [True, True, True, True]


def test_local_returns_the_exit_status_of_the_command() -> None:
    assert run_local(sys.executable, "-c", "raise SystemExit(9)").returncode == 9


def test_local_uses_the_configured_address_and_secret(tmp_path: Path) -> None:
    """Set the address and the secret's file before the start, as compose.yaml does."""
    secret_file = tmp_path / "token"
    port = free_port()
    flags = [f"--listen=127.0.0.1:{port}", f"--authorization-token-file={secret_file}"]
    done = run_local(sys.executable, "-c", TELL_OFFER, flags=flags)
    assert done.stdout.split() == [f"http://127.0.0.1:{port}/v1/credentials", secret_file.read_text()]


def test_local_does_not_replace_a_users_file(tmp_path: Path) -> None:
    """With a wrong path, `local` must not destroy a user's file."""
    for content in ("-----BEGIN KEY-----\nline\n", ""):
        (tmp_path / "mine").write_text(content)
        done = run_local("true", flags=[f"--authorization-token-file={tmp_path / 'mine'}"])
        assert done.returncode == 2
        assert "must contain one line" in done.stderr
        assert (tmp_path / "mine").read_text() == content


def test_local_uses_and_keeps_an_existing_secret(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("my-own-secret\n")
    done = run_local(sys.executable, "-c", TELL_OFFER, flags=[f"--authorization-token-file={tmp_path / 'mine'}"])
    assert done.stdout.split()[1] == "my-own-secret"
    assert (tmp_path / "mine").read_text() == "my-own-secret\n"


def test_local_without_a_command_prints_variables_and_serves(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-m", "sidecar", "local"]
        serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            lines = _read_to_the_end(serving)
            script = f"{lines}\n{AWS} sts get-caller-identity --query Arn --output text"
            shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
            assert shell.stdout.strip() == "arn:aws:sts::111122223333:assumed-role/app/default.app-0"
            serving.send_signal(signal.SIGINT)
            assert serving.wait(GUARD_SECONDS) == 0
        finally:
            serving.kill()
            serving.wait()
    assert "caller_identity_returned" in (tmp_path / "log").read_text()


def _read_to_the_end(process: "subprocess.Popen[str]") -> str:
    """Read all of stdout. The daemon closes stdout after the last line and continues to run."""
    assert process.stdout is not None
    with process.stdout:
        return process.stdout.read()
