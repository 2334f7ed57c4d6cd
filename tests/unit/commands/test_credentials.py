"""`irsa-sidecar credentials`: whom it asks, what it believes, and what it says of the rest."""

import itertools
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar import cli, file_thread
from sidecar.client import exchange
from sidecar.client.request import get
from sidecar.commands import credentials as command
from sidecar.serving import http
from sidecar.serving.container_credentials import credentials_response, respond
from sidecar.serving.hosts import LOOPBACK
from sidecar.serving.http import Request
from tests.support.fakes.hanging_volume import hanging_volume
from tests.support.processes import GUARD_SECONDS, pod_environment, run_daemon, scripted_sts
from tests.unit.serving.test_container_credentials import CREDENTIALS, NOW, SECRET, SNAPSHOT, Role, no_lookup

REPORTING = replace(CREDENTIALS, access_key_id="ASIAREPORTING", role_arn="arn:aws:iam::111122223333:role/reporting")
OPEN = Role(authorization=None)
PATHS = {
    b"/v1/credentials": OPEN,
    b"/v1/credentials/reporting": Role(
        "reporting",
        replace(SNAPSHOT, credentials=REPORTING, response=credentials_response(REPORTING)),
        authorization=None,
    ),
}


class Answering:
    """A daemon that is the endpoint's own answers on a socket, or `raw` in their place. `requests` is what came."""

    def __init__(self, routes: Mapping[bytes, Role] = PATHS, raw: bytes | None = None) -> None:
        self.routes = dict(routes)
        self.raw = raw
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self.requests.append(client.recv(65_536))
                client.sendall(self._answer(self.requests[-1]) if self.raw is None else self.raw)

    def _answer(self, data: bytes) -> bytes:
        request = http.parse(data)
        assert isinstance(request, Request)
        return respond(request, self.routes, LOOPBACK, NOW, no_lookup).content

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def answering(routes: Mapping[bytes, Role] = PATHS, raw: bytes | None = None) -> Iterator[Answering]:
    daemon = Answering(routes, raw)
    thread = threading.Thread(target=daemon.serve)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.close()
        thread.join()


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The process's environment for the command, which a test fills."""
    made: dict[str, str] = {}
    monkeypatch.setattr("os.environ", made)
    monkeypatch.setattr(command, "EMPTY_DAEMON_SECONDS", 0.0)
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr, which is one message if there is any: one line, or a line for each setting."""
    status = cli.main(["credentials", *arguments])
    shown = capsys.readouterr()
    assert shown.err.count("irsa-sidecar: ") == (status != 0)
    assert shown.err.count("\n") == (status != 0) or "settings are missing or wrong:\n" in shown.err
    return status, shown.out, shown.err


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def nobody() -> str:
    """An address that nobody listens on."""
    return "127.0.0.1:1"


# The daemon's answer


def test_the_daemons_credentials_are_printed_whole(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as daemon:
        environ["IRSA_SIDECAR_LISTEN"] = daemon.address
        assert printed(capsys) == {
            "Version": 1,
            "AccessKeyId": "ASIAEXAMPLE",
            "SecretAccessKey": "wJalr/secret+key",
            "SessionToken": "IQoJb3JpZ2luX2Vj=",
            "Expiration": "2026-01-02T03:04:05Z",
            "AccountId": "111122223333",
        }


def test_a_role_is_asked_for_by_its_name(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as daemon:
        environ |= {"IRSA_SIDECAR_LISTEN": daemon.address, "AWS_ROLE_ARN": CREDENTIALS.role_arn}
        assert printed(capsys, "--role", "reporting")["AccessKeyId"] == "ASIAREPORTING"
        assert printed(capsys, "--role", "default")["AccessKeyId"] == "ASIAEXAMPLE"


def test_what_the_sdks_are_told_comes_first_if_it_is_on_this_machine(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with answering() as daemon:
        port = daemon.address.rpartition(":")[2]
        for uri in (
            f"http://{daemon.address}/v1/credentials/reporting?x=%2F",
            f"http://localhost:{port}/v1/credentials",
            f"http://{daemon.address}",
        ):
            environ |= {"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri, "IRSA_SIDECAR_LISTEN": nobody()}
            run(capsys)
        asked = [request.split(b" ")[1] for request in daemon.requests]
    assert asked == [b"/v1/credentials/reporting?x=%2F", b"/v1/credentials", b"/"]


@pytest.mark.parametrize(
    "uri",
    ["http://169.254.170.23/v1/credentials", "https://127.0.0.1/", "http://sidecar:4772/v1/credentials", "/v2/x",
     "http://127.0.0.1:99999/", "http://127.0.0.1 /", "http://user@127.0.0.1/", "http://[::1/", "http://127.0.0.1/#x"],
)  # fmt: skip
def test_another_agents_uri_is_passed_over_and_its_token_is_told_to_nobody(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path, uri: str
) -> None:
    (tmp_path / "token").write_text("of-another-agent")
    with answering() as daemon:
        environ |= {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": uri,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "of-another-agent",
            "IRSA_SIDECAR_LISTEN": daemon.address,
        }
        assert printed(capsys)["AccessKeyId"] == "ASIAEXAMPLE"
        assert b"of-another-agent" not in daemon.requests[0]


def test_an_address_of_every_interface_is_asked_on_loopback(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with answering() as daemon:
        environ["IRSA_SIDECAR_LISTEN"] = daemon.address.replace("127.0.0.1", "0.0.0.0")
        assert printed(capsys)["AccessKeyId"] == "ASIAEXAMPLE"


# Its secret


@pytest.mark.parametrize("ending", ["", "\n"])
def test_the_secret_is_sent_as_the_settings_for_that_address_have_it(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path, ending: str
) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(SECRET.decode() + ending)
    wrong.write_text("wrong")
    with answering({b"/v1/credentials": Role()}) as daemon:
        environ |= {"IRSA_SIDECAR_LISTEN": daemon.address, "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(right)}
        assert printed(capsys)
        environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://{daemon.address}/v1/credentials"
        assert printed(capsys)
        environ |= {"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(wrong)}
        environ |= {"AWS_CONTAINER_AUTHORIZATION_TOKEN": SECRET.decode()}
        assert printed(capsys)
        environ |= {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "wrong", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(right)}
        assert printed(capsys)


def test_a_missing_a_wrong_and_an_unreadable_secret_say_what_to_fix(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    secret_file = tmp_path / "secret"
    with answering({b"/v1/credentials": Role()}) as daemon:
        environ |= {"IRSA_SIDECAR_LISTEN": daemon.address, "AWS_ROLE_ARN": CREDENTIALS.role_arn}
        environ["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/nowhere"
        status, out, err = run(capsys)
        assert (status, out) == (2, "")
        assert "Set IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE to the file with it" in err
        environ["IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE"] = str(secret_file)
        assert f"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE is {secret_file}, which cannot be read" in run(capsys)[2]
        for content in ("a\nb", "\x7f", "", "x" * 5000):
            secret_file.write_text(content)
            assert "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE holds a secret that cannot be sent" in run(capsys)[2]
        secret_file.write_text("wrong-secret")
        status, out, err = run(capsys)
        assert (status, out) == (2, "")
        assert (
            "told the secret of IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE, refuses: The Authorization header is wrong"
            in err
        )
        assert "wrong-secret" not in err


# Roles that must not be mixed up


def test_a_daemon_that_serves_another_role_than_this_environment_names_is_not_believed(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with answering() as daemon:
        environ |= {"IRSA_SIDECAR_LISTEN": daemon.address, "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/other"}
        status, out, err = run(capsys)
        assert (status, out) == (2, "")
        assert "AWS_ROLE_ARN is arn:aws:iam::111122223333:role/other" in err
        assert CREDENTIALS.role_arn in err
        environ["AWS_ROLE_ARN"] = CREDENTIALS.role_arn
        assert printed(capsys)


@pytest.mark.parametrize("role", ["", "a b", "a/b", "../x", "a\r\nX: y", "é", "-x"])
def test_what_is_no_name_of_a_role_is_asked_of_nobody(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], role: str
) -> None:
    with answering() as daemon:
        environ["IRSA_SIDECAR_LISTEN"] = daemon.address
        status, _, err = run(capsys, f"--role={role}")
        assert status == 2
        assert repr(role) in err
        assert daemon.requests == []


def test_a_role_that_the_daemon_does_not_serve_is_named(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with answering() as daemon:
        environ["IRSA_SIDECAR_LISTEN"] = daemon.address
        status, _, err = run(capsys, "--role", "archive")
        assert (status, "has no role 'archive'" in err) == (2, True)
        environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://{daemon.address}/elsewhere"
        status, _, err = run(capsys)
        assert (status, "Check AWS_CONTAINER_CREDENTIALS_FULL_URI" in err) == (2, True)


# A daemon without credentials, and none at all


def test_a_daemon_without_credentials_is_asked_again_and_its_reason_told_in_the_end(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            daemon.routes[b"/v1/credentials"] = OPEN

    waiting = Role(snapshot=None, authorization=None, last_error="AccessDenied: Not authorized")
    with answering({b"/v1/credentials": waiting}) as daemon:
        environ |= {"IRSA_SIDECAR_LISTEN": daemon.address, "AWS_ROLE_ARN": CREDENTIALS.role_arn}
        environ["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/nowhere"
        status, out, err = run(capsys)
        assert (status, out) == (1, "")
        assert "AccessDenied: Not authorized" in err
        assert len(daemon.requests) == 1
        monkeypatch.setattr(command, "EMPTY_DAEMON_SECONDS", 60.0)
        monkeypatch.setattr("time.sleep", pause)
        assert printed(capsys)["AccessKeyId"] == "ASIAEXAMPLE"
        assert pauses == [1.0, 1.0]


@pytest.mark.parametrize(
    ("more", "arguments"),
    [
        ({}, []),
        ({"AWS_ROLE_ARN": CREDENTIALS.role_arn, "AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}, ["--role", "reporting"]),
        ({"AWS_ROLE_ARN": CREDENTIALS.role_arn, "AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "IRSA_SIDECAR_CONFIG": "/c"}, []),
    ],
    ids=["nothing for STS", "a role by its name", "roles in a file"],
)
def test_without_a_daemon_what_only_it_knows_is_not_to_be_had(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], more: dict[str, str], arguments: list[str]
) -> None:
    environ |= {"IRSA_SIDECAR_LISTEN": nobody(), **more}
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert f"the daemon on {nobody()} does not answer" in err


@pytest.mark.parametrize(
    ("arguments", "changes", "word"),
    [
        (["--no-daemon", "--role", "x"], {}, "--no-daemon"),
        (["--no-daemon"], {}, "AWS_ROLE_ARN is not set"),
        ([], {"AWS_ROLE_ARN": CREDENTIALS.role_arn}, "AWS_WEB_IDENTITY_TOKEN_FILE is not set"),
        ([], {"IRSA_SIDECAR_LISTEN": "sidecar:1"}, "IRSA_SIDECAR_LISTEN is 'sidecar:1'"),
    ],
)
def test_settings_that_cannot_work_end_with_two(
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    changes: dict[str, str],
    word: str,
) -> None:
    environ |= {"IRSA_SIDECAR_LISTEN": nobody(), **changes}
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert word in err


CREDENTIAL_NAMES = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId", "RoleArn")
NO_CREDENTIALS = http.response(200, json.dumps({"AccessKeyId": "A", "SecretAccessKey": "B", "Token": ""}).encode())
STRANGERS = {
    "a page": (http.response(200, b"<html>", content_type="text/html"), "something else than credentials"),
    "half of a set": (NO_CREDENTIALS, "something else than credentials"),
    "a value with an escape": (
        http.response(200, json.dumps(dict.fromkeys(CREDENTIAL_NAMES, "a\x1b[31m")).encode()),
        "something else than credentials",
    ),
    "a list": (http.response(200, b"[1]"), "something else than credentials"),
    "an error without words": (http.response(500, b""), "status 500"),
    "an error of the daemon": (http.error_response(500, "A fault of the sidecar itself"), "A fault of the sidecar"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "does not answer"),
    "nothing": (b"", "does not answer"),
    "deep nesting": (http.response(200, b"[" * 200_000), "something else than credentials"),
}


@pytest.mark.parametrize("what", STRANGERS)
def test_what_is_no_answer_of_ours_is_not_believed(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], what: str
) -> None:
    raw, words = STRANGERS[what]
    with answering(raw=raw) as daemon:
        environ["IRSA_SIDECAR_LISTEN"] = daemon.address
        status, out, err = run(capsys)
    assert (status, out) == (1, "")
    assert words in err


def test_a_daemon_that_says_nothing_has_its_time_and_no_more(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SILENT_DAEMON_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ["IRSA_SIDECAR_LISTEN"] = f"127.0.0.1:{silent.getsockname()[1]}"
        assert "does not answer" in run(capsys)[2]


def test_a_daemon_that_drips_has_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is a second later."""
    with answering(raw=b"HTTP/1.1 200 OK\r\n\r\n") as daemon, monkeypatch.context() as patch:
        host, _, port = daemon.address.rpartition(":")
        patch.setattr("time.monotonic", itertools.count().__next__)
        assert get((host, int(port)), "/", 3).status == 200
        with pytest.raises(TimeoutError):
            get((host, int(port)), "/", 1)


def test_an_sts_that_takes_too_long_is_not_waited_for(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "TOTAL_SECONDS", 0.0)
    environ |= pod_environment(tmp_path / "token", "http://127.0.0.1:1/")
    assert run(capsys) == (1, "", "irsa-sidecar: error: no credentials within 0 s.\n")


def test_token_on_a_volume_that_hangs_has_a_deadline(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SDKs wait for a credential_process for a minute or for ever."""
    monkeypatch.setattr(file_thread, "DEADLINE_SECONDS", 0.0)
    environ |= pod_environment(tmp_path / "token", "http://127.0.0.1:1/")
    with hanging_volume() as volume:
        monkeypatch.setattr(exchange, "read_token", lambda _path: volume.read())
        status, out, err = run(capsys)
    assert (status, out) == (1, "")
    assert "its volume hangs" in err


# As a process


TELL_MODULES = """
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


async def test_boto3_gets_the_daemons_credentials_by_a_profile_and_sts_ones_where_there_is_no_daemon(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} -m sidecar credentials\n")
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        client = environment | {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
        del client["AWS_ROLE_ARN"], client["AWS_WEB_IDENTITY_TOKEN_FILE"]  # with which boto3 would ask STS itself
        async with run_daemon(environment) as running:
            await running.logged("credentials_refreshed")
            listen = "{}:{}".format(*running.address)
            done = await run_process(client | {"IRSA_SIDECAR_LISTEN": listen}, "-c", BOTO3)
            assert done.stdout == b"ASIAFAKE0001\n", done.stderr.decode()
            handed_out = await running.logged("credentials_served")
            assert handed_out["access_key_id"] == "ASIAFAKE0001"
        assert len(sts.requests) == 1
        direct = environment | {"IRSA_SIDECAR_LISTEN": listen}
        done = await run_process(direct, "-m", "sidecar", "credentials")
        assert json.loads(done.stdout)["AccessKeyId"] == "ASIAFAKE0001"
        assert len(sts.requests) == 2


async def test_no_library_is_loaded_where_a_daemon_answers(tmp_path: Path) -> None:
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        async with run_daemon(environment) as running:
            await running.logged("credentials_refreshed")
            unmeasured = {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
            done = await run_process(
                unmeasured | {"IRSA_SIDECAR_LISTEN": "{}:{}".format(*running.address)}, "-c", TELL_MODULES
            )
    assert json.loads(done.stdout)["AccessKeyId"] == "ASIAFAKE0001"
    loaded = set(done.stderr.decode().split())
    assert "sidecar.commands.credentials" in loaded
    assert not {"trio", "httpx", "jwt", "structlog", "ssl", "dataclasses", "http.client", "sidecar.sts.client"} & loaded
