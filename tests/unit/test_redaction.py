"""Test that no message, log line or finding shows a token, or the password in a URL of any setting."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sidecar import cli
from sidecar.config.settings import read_config
from sidecar.console import remark
from sidecar.doctor.finding import Check, Finding, Status, skipped
from sidecar.doctor.report import rows
from sidecar.errors import ConfigurationError, ExchangeError, KubernetesError, NextStep, SidecarError, TokenError
from sidecar.log import make_logger
from sidecar.oidc.verified_token import NotVerifiedError
from sidecar.redaction import holds_token, without_secrets
from sidecar.role import parse_token_file
from sidecar.sts.request import endpoint_of
from sidecar.sts.settings import read_sts_settings
from tests.support.fakes.tokens import service_account_token

PASSWORD = "hunter2"

URLS = {
    "https": "https://user:hunter2@sts.example.com",
    "http": "http://user:hunter2@sts.example.com",
    "a port": "https://user:hunter2@sts.example.com:8443/path",
    "no password": "https://hunter2@sts.example.com",
    "a slash": "https://user:a/hunter2@sts.example.com",
    "a hash": "https://user:a#hunter2@sts.example.com",
    "a question mark": "https://user:a?hunter2@sts.example.com",
    "two at signs": "https://user:hunter2@hunter2@sts.example.com",
    "a space": "https://user:a hunter2@sts.example.com",
    "a bracket": "https://user:[hunter2@sts.example.com",
    "letters beyond ASCII": "https://user:é-hunter2@sts.example.com",
    "no host": "https://user:hunter2@",
    "another scheme": "ftp://user:hunter2@sts.example.com",
    "no scheme": "user:hunter2@sts.example.com",
    "an encoded at sign": "https://user:hunter2%40sts.example.com",
    "a full-width at sign": "https://user:hunter2\uff20sts.example.com",
    "a query with an at sign": "https://sts.example.com/?password=a@hunter2",
}

FLAGS: dict[str, dict[str, str]] = {
    "alone": {},
    "FIPS": {"AWS_USE_FIPS_ENDPOINT": "true"},
    "dual-stack": {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
    "fallbacks": {"IRSA_SIDECAR_STS_FALLBACK_REGIONS": "eu-central-1"},
    "no region": {"AWS_REGION": ""},
}


def environment(**more: str) -> dict[str, str]:
    return {
        "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/app",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/token",
        "AWS_REGION": "eu-west-1",
    } | more


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
@pytest.mark.parametrize("setting", ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"])
def test_rejected_url_with_a_user_is_not_shown(url: str, flags: dict[str, str], setting: str) -> None:
    environ = environment(**flags, **{setting: url})
    with pytest.raises(ConfigurationError) as caught:
        read_config(environ, {})
    assert PASSWORD not in str(caught.value)
    assert setting in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        read_sts_settings(environ)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_error_of_an_endpoint_does_not_show_a_password(url: str) -> None:
    settings = read_sts_settings(environment())._replace(endpoint_url=url, use_fips=True)
    with pytest.raises(ConfigurationError) as caught:
        endpoint_of(settings)
    assert PASSWORD not in str(caught.value)


SHOWN = [text for name, text in URLS.items() if name not in {"a space", "no scheme", "a query with an at sign"}]


@pytest.mark.parametrize("url", SHOWN)
def test_no_error_shows_a_password(url: str) -> None:
    text = f"{url!r} cannot be used, nor can <{url}>."
    for error in (
        SidecarError(text),
        ConfigurationError(text),
        ConfigurationError(text, fix=text),
        KubernetesError(text, fix=text, reason=text),
        NotVerifiedError(text, fix=text),
        TokenError("missing", text, text),
        ExchangeError("Unreachable", text, NextStep.RETRY),
        ExchangeError("Unreachable", text, NextStep.RETRY).in_step(1, text),
    ):
        assert PASSWORD not in str(error)
        assert not any(PASSWORD in str(value) for value in vars(error).values())


@pytest.mark.parametrize("url", SHOWN)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_log_line_shows_a_password(url: str, log_format: str) -> None:
    read, write = os.pipe()
    log, _ = make_logger(log_format, "info", fd=write)
    log.warning("refresh_failed", reason=f"Could not connect to {url}", url=url)
    os.close(write)
    with os.fdopen(read) as lines:
        line = lines.read()
    assert PASSWORD not in line
    assert "***@" in line or "***%40" in line


@pytest.mark.parametrize("url", SHOWN)
def test_no_remark_or_finding_shows_a_password(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    remark(f"{url} is wrong")
    assert PASSWORD not in capsys.readouterr().err
    check: Check[Any] = Check("id", "question", lambda _facts: Finding(Status.FAILED, f"at {url}", f"correct {url}"))
    assert PASSWORD not in str(list(rows("group", [check], {})))
    assert PASSWORD not in str(list(rows("group", [check], None, skipped(f"at {url}", url))))


@pytest.mark.parametrize("text", ["", "user@example.com", "https://example.com/path", "a: b@c", "key://"])
def test_text_without_password_is_unchanged(text: str) -> None:
    assert without_secrets(text) == text


TOKENS = {
    "alone": "{}",
    "after a scheme": "Bearer {}",
    "in quotes": "'{}'",
    "after a name": "TOKEN={}",
    "in a path": "/var/run/{}/token",
    "before another line": "{}\nnext",
}
"""Texts with a token that a person can give instead of a path or a name."""


@pytest.mark.parametrize("text", TOKENS.values(), ids=TOKENS)
def test_no_output_shows_a_token(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    token = service_account_token(1_800_000_000)
    parts = [part for part in token.split(".") if part]
    shown = text.format(token)
    remark(shown)
    error = TokenError("missing", f"{shown} does not exist", f"Correct {shown}")
    outputs = [str(error), *map(str, vars(error).values()), capsys.readouterr().err, without_secrets(shown[:150])]
    assert not [part for part in parts for output in outputs if part in output]
    with pytest.raises(ConfigurationError, match=r"FILE is a token \(not shown here\)"):
        parse_token_file("FILE", shown)


@pytest.mark.parametrize("text", ["eyJ", "eyJ.a.b", "/home/eyewitness/a.b", "theyJustLongEnough.a.b", "arn:aws:iam::1"])
def test_text_without_token_is_unchanged(text: str) -> None:
    assert without_secrets(text) == text
    assert not holds_token(text)


GIVEN_A_TOKEN = [
    ["token", "--file"],
    ["exec", "--log-level"],
    ["local", "--log-level"],
    ["setup", "role", "app", "--account-id", "111122223333", "--token-file"],
    ["who"],
]


@pytest.mark.parametrize("command", GIVEN_A_TOKEN, ids=lambda command: "_".join(command[:2]))
def test_no_command_shows_a_token_in_a_flag(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    token = service_account_token(1_800_000_000)
    with suppress(SystemExit):
        assert cli.main([*command, token]) == 2
    printed = "".join(capsys.readouterr())
    assert printed
    assert token.split(".")[1] not in printed


COMMANDS = [
    ["run"],
    ["exec", "--", "true"],
    ["credentials", "--no-daemon"],
    ["doctor"],
    ["doctor", "--json"],
    ["setup", "oidc-provider", "--issuer", URLS["https"], "--dry-run"],
    ["local", "--issuer", URLS["https"], "--", "true"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "_".join(command[:2]))
@pytest.mark.parametrize("flags", [FLAGS["alone"], FLAGS["FIPS"]], ids=["alone", "FIPS"])
def test_no_command_shows_a_password(tmp_path: Path, command: list[str], flags: dict[str, str]) -> None:
    token = tmp_path / "token"
    token.write_text(service_account_token(1_800_000_000))
    environ = environment(**flags, AWS_ENDPOINT_URL_STS=URLS["http"], AWS_ENDPOINT_URL=URLS["https"])
    environ |= {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "HTTPS_PROXY": "http://user:hunter2#@127.0.0.1:1",
        "IRSA_SIDECAR_LISTEN": "127.0.0.1:0",
        "IRSA_SIDECAR_ADMIN_LISTEN": "127.0.0.1:0",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "AKIAFAKE",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_MAX_ATTEMPTS": "1",
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", *command], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode in {1, 2}
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
