"""Test the commands that do one thing and exit, mostly in the test's process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar import cli
from sidecar.client.exchange import exchange_once
from sidecar.clock import Clock
from sidecar.errors import ConfigurationError, ExchangeError, NextStep
from sidecar.local.config import LocalConfig
from sidecar.local.issuer import generate_key
from sidecar.local.services import LocalServices, serve_local
from sidecar.role import Role
from sidecar.sts.request import endpoint_of, request_for
from sidecar.sts.settings import StsSettings
from sidecar.sts.warnings import warnings_about
from sidecar.token import decode_token
from tests.support.fakes.scripted_sts import error_reply
from tests.support.fakes.tokens import jwt_of, service_account_token
from tests.support.processes import ROLE_ARN, pod_environment, scripted_sts
from tests.support.users import in_namespaces, needs_linux

PRIVATE_KEY = generate_key()
PLAIN = StsSettings(region="eu-west-1", endpoint_url=None, use_fips=False, use_dualstack=False, ca_bundle=None)
ROLE = Role("default", ROLE_ARN, "/token", None, 3600)


def ignore_event(_event: str, /, **_fields: Any) -> None:
    """Ignore an event of the local services."""


@asynccontextmanager
async def local_services(directory: Path) -> AsyncIterator[LocalServices]:
    async with trio.open_nursery() as nursery:
        clock = Clock(time.time, trio.current_time)
        serve = partial(
            serve_local,
            LocalConfig(),
            directory,
            emit=ignore_event,
            clock=clock,
            generate=lambda: PRIVATE_KEY,
        )
        yield await nursery.start(serve)
        nursery.cancel_scope.cancel()


async def command(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return await trio.run_process(
        [sys.executable, "-m", "sidecar", *arguments],
        env=environment,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


async def test_credentials_command_prints_credential_process_json(tmp_path: Path) -> None:
    async with local_services(tmp_path) as services:
        environment = pod_environment(services.token_file, services.sts_url, AWS_ROLE_ARN=services.role_arn)
        printed = json.loads((await command(environment, "credentials")).stdout)
    assert printed["Version"] == 1
    assert set(printed) == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "AccountId"}
    assert printed["Expiration"].endswith("Z")


async def test_credentials_command_prints_lines_for_a_shell(tmp_path: Path) -> None:
    async with scripted_sts() as sts:
        done = await command(pod_environment(tmp_path / "token", sts.url), "credentials", "--format", "env")
    script = f'{done.stdout.decode()}\nprintf %s "$AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY"'
    shell = await trio.run_process(["sh", "-c", script], capture_stdout=True)
    assert shell.stdout == b"ASIAFAKE0001 ASIAFAKE0001/secret"


async def test_sts_error_is_printed_with_its_fix(tmp_path: Path) -> None:
    async with scripted_sts(error_reply(403, "AccessDenied", "Not authorized to perform x")) as sts:
        done = await command(pod_environment(tmp_path / "token", sts.url), "credentials")
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"AccessDenied: Not authorized to perform x. The role's trust policy" in done.stderr


def test_token_command_prints_claims_and_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "token"
    path.write_text(service_account_token(time.time(), aud=["vault"]))
    assert cli.main(["token", "--file", str(path)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["aud"] == ["vault"]
    assert "vault" in shown.err


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["token"], 2, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        (["token", "--file", "/nowhere"], 1, "/nowhere"),
        (["probe", "--admin-listen", "off"], 2, "off"),
        (["probe", "--admin-listen", "somewhere"], 2, "somewhere"),
        (["probe", "--wait", "a while"], 2, "--wait is 'a while'"),
        (["probe", "--admin-listen", "127.0.0.1:1"], 1, "127.0.0.1:1"),
    ],
)
def test_error_of_a_command_is_printed_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, word: str
) -> None:
    monkeypatch.delenv("AWS_WEB_IDENTITY_TOKEN_FILE", raising=False)
    assert cli.main(arguments) == status
    stderr = capsys.readouterr().err
    assert stderr.startswith("irsa-sidecar: ")
    assert stderr.count("\n") == 1
    assert word in stderr


def test_help_and_version_exit_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["--version"]):
        with pytest.raises(SystemExit) as exited:
            cli.main(arguments)
        assert exited.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)


class _Interrupting:
    """A command that raises the given exception when it runs."""

    EXAMPLE = ""

    def __init__(self, raised: BaseException) -> None:
        self._raised = raised

    def add_arguments(self, parser: Any) -> None:
        """Add no arguments."""

    def main(self, _args: Any) -> int:
        raise self._raised


@pytest.mark.parametrize(
    "raised",
    [
        KeyboardInterrupt(),
        BaseExceptionGroup("nursery", [KeyboardInterrupt()]),
        ExceptionGroup("nursery", [ExceptionGroup("inner", [ExchangeError("Code", "text", NextStep.WAIT)])]),
    ],
)
def test_interrupted_or_failed_command_prints_no_traceback(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    monkeypatch.setattr(cli, "import_module", lambda _name: _Interrupting(raised))
    assert cli.main(["probe"]) == 1


def test_interrupted_import_prints_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_module", import_module)
    assert cli.main(["doctor"]) == 1


AS_PROCESS_1 = """
import os, signal, sys
from sidecar import cli
def importing(name):
    os.kill(os.getpid(), signal.SIGTERM)
    print("went on", name)
cli.import_module = importing
cli.main(["exec"])
"""


@needs_linux
@pytest.mark.parametrize("flags", [["--user"], ["--user", "--pid", "--fork"]], ids=["any process", "process 1"])
def test_stop_signal_ends_the_import_of_a_command(flags: list[str]) -> None:
    done = subprocess.run([*in_namespaces(*flags), "-c", AS_PROCESS_1], capture_output=True, check=False)
    assert done.returncode in {-signal.SIGTERM, 128 + signal.SIGTERM}
    assert done.stdout == b""


PRINTING_PROGRAM = """
import types, trio
from sidecar import cli
async def print_in_a_nursery():
    async with trio.open_nursery():
        print("short", flush=True)
command = types.SimpleNamespace(EXAMPLE="", add_arguments=lambda _: None, main=lambda _: {} or 0)
cli.import_module = lambda _: command
raise SystemExit(cli.main(["token"]))
"""

ways_to_print = pytest.mark.parametrize(
    "statement", ["print('short')", "print('long' * 10_000)", "trio.run(print_in_a_nursery)"]
)


@ways_to_print
def test_full_disk_at_stdout_is_reported_on_one_line(statement: str) -> None:
    program = PRINTING_PROGRAM.format(statement)
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=-1, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "irsa-sidecar: error: stdout cannot be written (No space left on device). Redirect it to another place.\n"
    )


@ways_to_print
def test_closed_pipe_at_stdout_causes_no_message(statement: str) -> None:
    program = PRINTING_PROGRAM.format(statement)
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as unread:
        done = subprocess.run([sys.executable, "-c", program], stdout=unread, stderr=-1, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "import_module", lambda _name: _Interrupting(ExceptionGroup("nursery", [ValueError()])))
    with pytest.raises(ExceptionGroup):
        cli.main(["probe"])


def test_sts_endpoint_follows_the_region_unless_a_url_is_set() -> None:
    assert endpoint_of(PLAIN) == "https://sts.eu-west-1.amazonaws.com"
    assert endpoint_of(PLAIN._replace(endpoint_url="http://127.0.0.1:1")) == "http://127.0.0.1:1/"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"region": None}, "AWS_REGION"),
        ({"endpoint_url": "https://sts.example", "use_fips": True}, "AWS_USE_FIPS_ENDPOINT"),
        ({"endpoint_url": "https://sts.example", "use_dualstack": True}, "AWS_USE_DUALSTACK_ENDPOINT"),
    ],
)
def test_error_about_the_endpoint_names_the_setting(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        endpoint_of(PLAIN._replace(**changes))


def test_suspicious_settings_cause_warnings() -> None:
    assert warnings_about([ROLE], PLAIN) == []
    assert "cn-north-1" in warnings_about([ROLE], PLAIN._replace(region="cn-north-1"))[0].problem
    assert "unencrypted" in warnings_about([ROLE], PLAIN._replace(endpoint_url="http://sts.example"))[0].problem


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"sub": "repo:acme/shop:ref:refs/heads/main"}, "repo-acme-shop-ref-refs-heads-main"),
        ({}, "irsa-sidecar"),
    ],
)
def test_session_name_comes_from_the_subject_without_a_pod(claims: dict[str, Any], name: str) -> None:
    token = decode_token(jwt_of(claims).encode(), "/token")
    assert request_for(ROLE, token, 3600).session_name == name
    assert request_for(ROLE._replace(session_name="mine"), token, 3600).session_name == "mine"


async def test_exchange_needs_a_role_and_a_valid_session_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="AWS_ROLE_ARN"):
        await exchange_once({})
    with pytest.raises(ConfigurationError, match="AWS_ROLE_SESSION_NAME"):
        await exchange_once(pod_environment(tmp_path / "token", "http://127.0.0.1:1", AWS_ROLE_SESSION_NAME="a b"))
