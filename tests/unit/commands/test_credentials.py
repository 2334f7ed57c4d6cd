"""Test `irsa-sidecar credentials`: its sources of credentials, the accepted responses, and the errors."""

import itertools
import json
import socket
from pathlib import Path

import pytest

from sidecar import file_thread
from sidecar.client import exchange
from sidecar.client.request import get
from sidecar.commands import credentials as command
from sidecar.serving import http
from tests.support.fakes.hanging_volume import hanging_volume
from tests.support.processes import pod_environment
from tests.unit.commands.fake_daemon import (
    OPEN,
    printed,
    run,
    running_daemon,
    unused_address,
)
from tests.unit.serving.test_container_credentials import CREDENTIALS, SECRET, Role

# The response of the daemon


def test_credentials_of_the_daemon_are_printed_completely(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with running_daemon() as daemon:
        environ["IRSA_SIDECAR_LISTEN"] = daemon.address
        assert printed(capsys) == {
            "Version": 1,
            "AccessKeyId": "ASIAEXAMPLE",
            "SecretAccessKey": "wJalr/secret+key",
            "SessionToken": "IQoJb3JpZ2luX2Vj=",
            "Expiration": "2026-01-02T03:04:05Z",
            "AccountId": "111122223333",
        }


def test_role_flag_selects_the_role_at_the_daemon(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with running_daemon() as daemon:
        environ |= {"IRSA_SIDECAR_LISTEN": daemon.address, "AWS_ROLE_ARN": CREDENTIALS.role_arn}
        assert printed(capsys, "--role", "reporting")["AccessKeyId"] == "ASIAREPORTING"
        assert printed(capsys, "--role", "default")["AccessKeyId"] == "ASIAEXAMPLE"


def test_loopback_uri_in_the_variable_of_sdks_has_priority(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with running_daemon() as daemon:
        port = daemon.address.rpartition(":")[2]
        for uri in (
            f"http://{daemon.address}/v1/credentials/reporting?x=%2F",
            f"http://localhost:{port}/v1/credentials",
            f"http://{daemon.address}",
        ):
            environ |= {"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri, "IRSA_SIDECAR_LISTEN": unused_address()}
            run(capsys)
        paths = [request.split(b" ")[1] for request in daemon.requests]
    assert paths == [b"/v1/credentials/reporting?x=%2F", b"/v1/credentials", b"/"]


@pytest.mark.parametrize(
    "uri",
    ["http://169.254.170.23/v1/credentials", "https://127.0.0.1/", "http://sidecar:4772/v1/credentials", "/v2/x",
     "http://127.0.0.1:99999/", "http://127.0.0.1 /", "http://user@127.0.0.1/", "http://[::1/", "http://127.0.0.1/#x"],
)  # fmt: skip
def test_uri_and_token_of_another_agent_are_ignored(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path, uri: str
) -> None:
    (tmp_path / "token").write_text("of-another-agent")
    with running_daemon() as daemon:
        environ |= {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": uri,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "of-another-agent",
            "IRSA_SIDECAR_LISTEN": daemon.address,
        }
        assert printed(capsys)["AccessKeyId"] == "ASIAEXAMPLE"
        assert b"of-another-agent" not in daemon.requests[0]


def test_wildcard_address_is_called_on_loopback(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with running_daemon() as daemon:
        environ["IRSA_SIDECAR_LISTEN"] = daemon.address.replace("127.0.0.1", "0.0.0.0")
        assert printed(capsys)["AccessKeyId"] == "ASIAEXAMPLE"


# The secret of the daemon


@pytest.mark.parametrize("ending", ["", "\n"])
def test_daemon_gets_the_secret_that_is_set_for_its_address(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path, ending: str
) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(SECRET.decode() + ending)
    wrong.write_text("wrong")
    with running_daemon({b"/v1/credentials": Role()}) as daemon:
        environ |= {"IRSA_SIDECAR_LISTEN": daemon.address, "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(right)}
        assert printed(capsys)
        environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://{daemon.address}/v1/credentials"
        assert printed(capsys)
        environ |= {"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(wrong)}
        environ |= {"AWS_CONTAINER_AUTHORIZATION_TOKEN": SECRET.decode()}
        assert printed(capsys)
        environ |= {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "wrong", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(right)}
        assert printed(capsys)


def test_error_about_the_secret_names_a_fix(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    secret_file = tmp_path / "secret"
    with running_daemon({b"/v1/credentials": Role()}) as daemon:
        environ |= {"IRSA_SIDECAR_LISTEN": daemon.address, "AWS_ROLE_ARN": CREDENTIALS.role_arn}
        environ["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/nowhere"
        status, out, err = run(capsys)
        assert (status, out) == (2, "")
        assert "Set IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE to the path of the file with the secret" in err
        environ["IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE"] = str(secret_file)
        assert f"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE is {secret_file}, which cannot be read" in run(capsys)[2]
        for content in ("a\nb", "\x7f", "", "x" * 5000):
            secret_file.write_text(content)
            assert "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE holds a secret that cannot be sent" in run(capsys)[2]
        secret_file.write_text("wrong-secret")
        status, out, err = run(capsys)
        assert (status, out) == (2, "")
        assert "to the secret of IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE: The Authorization header is wrong" in err
        assert "wrong-secret" not in err


# Credentials of the wrong role


def test_credentials_of_another_role_are_rejected(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with running_daemon() as daemon:
        environ |= {"IRSA_SIDECAR_LISTEN": daemon.address, "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/other"}
        status, out, err = run(capsys)
        assert (status, out) == (2, "")
        assert "AWS_ROLE_ARN is arn:aws:iam::111122223333:role/other" in err
        assert CREDENTIALS.role_arn in err
        environ["AWS_ROLE_ARN"] = CREDENTIALS.role_arn
        assert printed(capsys)


@pytest.mark.parametrize("role", ["", "a b", "a/b", "../x", "a\r\nX: y", "é", "-x"])
def test_invalid_role_name_is_not_requested(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], role: str
) -> None:
    with running_daemon() as daemon:
        environ["IRSA_SIDECAR_LISTEN"] = daemon.address
        status, _, err = run(capsys, f"--role={role}")
        assert status == 2
        assert repr(role) in err
        assert daemon.requests == []


def test_role_that_the_daemon_lacks_is_named_in_the_error(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with running_daemon() as daemon:
        environ["IRSA_SIDECAR_LISTEN"] = daemon.address
        status, _, err = run(capsys, "--role", "archive")
        assert (status, "has no role 'archive'" in err) == (2, True)
        environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://{daemon.address}/elsewhere"
        status, _, err = run(capsys)
        assert (status, "Check AWS_CONTAINER_CREDENTIALS_FULL_URI" in err) == (2, True)


# A daemon without credentials, and no daemon


def test_daemon_without_credentials_is_called_again(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            daemon.routes[b"/v1/credentials"] = OPEN

    waiting = Role(snapshot=None, authorization=None, last_error="AccessDenied: Not authorized")
    with running_daemon({b"/v1/credentials": waiting}) as daemon:
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
    ids=["no settings for STS", "role by name", "roles in a file"],
)
def test_missing_daemon_without_sts_settings_is_an_error(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], more: dict[str, str], arguments: list[str]
) -> None:
    environ |= {"IRSA_SIDECAR_LISTEN": unused_address(), **more}
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert f"the daemon on {unused_address()}" in err


@pytest.mark.parametrize(
    ("arguments", "changes", "word"),
    [
        (["--no-daemon", "--role", "x"], {}, "--no-daemon"),
        (["--no-daemon"], {}, "AWS_ROLE_ARN is not set"),
        ([], {"AWS_ROLE_ARN": CREDENTIALS.role_arn}, "AWS_WEB_IDENTITY_TOKEN_FILE is not set"),
        ([], {"IRSA_SIDECAR_LISTEN": "sidecar:1"}, "IRSA_SIDECAR_LISTEN is 'sidecar:1'"),
    ],
)
def test_invalid_settings_exit_with_status_two(
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    changes: dict[str, str],
    word: str,
) -> None:
    environ |= {"IRSA_SIDECAR_LISTEN": unused_address(), **changes}
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert word in err


CREDENTIAL_NAMES = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId", "RoleArn")
NO_CREDENTIALS = http.response(200, json.dumps({"AccessKeyId": "A", "SecretAccessKey": "B", "Token": ""}).encode())
OTHER_RESPONSES = {
    "a page": (http.response(200, b"<html>", content_type="text/html"), "something other than credentials"),
    "incomplete credentials": (NO_CREDENTIALS, "something other than credentials"),
    "a value with an escape": (
        http.response(200, json.dumps(dict.fromkeys(CREDENTIAL_NAMES, "a\x1b[31m")).encode()),
        "something other than credentials",
    ),
    "a list": (http.response(200, b"[1]"), "something other than credentials"),
    "an error without a body": (http.response(500, b""), "status 500"),
    "an error of the daemon": (http.error_response(500, "A fault of the sidecar itself"), "A fault of the sidecar"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "does not respond"),
    "nothing": (b"", "does not respond"),
    "deep nesting": (http.response(200, b"[" * 200_000), "something other than credentials"),
}


@pytest.mark.parametrize("case", OTHER_RESPONSES)
def test_response_of_another_program_is_rejected(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], case: str
) -> None:
    raw, words = OTHER_RESPONSES[case]
    with running_daemon(raw=raw) as daemon:
        environ["IRSA_SIDECAR_LISTEN"] = daemon.address
        status, out, err = run(capsys)
    assert (status, out) == (1, "")
    assert words in err


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_error_that_repeats_the_secret_does_not_show_it(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path, status: int
) -> None:
    (tmp_path / "secret").write_text("my-own-secret")
    with running_daemon(raw=http.error_response(status, "not my-own-secret but another")) as daemon:
        environ |= {
            "IRSA_SIDECAR_LISTEN": daemon.address,
            "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "secret"),
        }
        _, out, err = run(capsys)
    assert "not *** but another" in err
    assert "my-own-secret" not in out + err


def test_request_to_a_silent_daemon_times_out(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SILENT_DAEMON_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ["IRSA_SIDECAR_LISTEN"] = f"127.0.0.1:{silent.getsockname()[1]}"
        assert "does not respond" in run(capsys)[2]


def test_request_to_a_slow_daemon_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a clock that advances by one second with each call."""
    with running_daemon(raw=b"HTTP/1.1 200 OK\r\n\r\n") as daemon, monkeypatch.context() as patch:
        host, _, port = daemon.address.rpartition(":")
        patch.setattr("time.monotonic", itertools.count().__next__)
        assert get((host, int(port)), "/", 3).status == 200
        with pytest.raises(TimeoutError):
            get((host, int(port)), "/", 1)


def test_call_to_a_slow_sts_times_out(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "TOTAL_SECONDS", 0.0)
    environ |= pod_environment(tmp_path / "token", "http://127.0.0.1:1/")
    status, out, err = run(capsys)
    assert (status, out) == (1, "")
    assert "no credentials within 0 s" in err


def test_read_of_a_token_on_a_hung_volume_times_out(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Check the deadline, because SDKs wait for a credential_process for a minute or without a limit."""
    monkeypatch.setattr(file_thread, "DEADLINE_SECONDS", 0.0)
    environ |= pod_environment(tmp_path / "token", "http://127.0.0.1:1/")
    with hanging_volume() as volume:
        monkeypatch.setattr(exchange, "read_token", lambda _path: volume.read())
        status, out, err = run(capsys)
    assert (status, out) == (1, "")
    assert "its volume hangs" in err
