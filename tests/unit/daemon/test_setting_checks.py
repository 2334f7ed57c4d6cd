"""Test that all missing and wrong settings are reported at once, by every command that reads them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.commands.exec import command_config
from sidecar.config.settings import SETTINGS, read_config
from sidecar.daemon.setting_checks import all_reported, every_problem
from sidecar.errors import ConfigurationError
from sidecar.sts.request import endpoint_of
from tests.unit.config.test_roles_file import one

RIGHT = {
    "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/app",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/token",
    "AWS_REGION": "eu-west-1",
}


def problems(environ: dict[str, str], flags: dict[str, str | None] | None = None) -> list[str]:
    """Return the settings in a report, which are the first words of its lines."""
    error = every_problem(ConfigurationError("FIRST is wrong."), environ, flags)
    lines = str(error).splitlines()
    assert lines[0] == (f"{len(lines) - 1} settings are missing or wrong:" if len(lines) > 1 else "FIRST is wrong.")
    return [line.split(" ")[0] for line in lines[2:]]


def test_single_error_is_reported_without_a_list() -> None:
    error = ConfigurationError("the port is taken.")
    assert every_problem(error, RIGHT, {}) is error


@pytest.mark.parametrize("missing", [list(RIGHT), list(RIGHT)[:2], list(RIGHT)[1:], list(RIGHT)[2:]], ids="+".join)
def test_missing_settings_are_listed(missing: list[str]) -> None:
    environ = {name: value for name, value in RIGHT.items() if name not in missing}
    empty = environ | dict.fromkeys(missing, "")
    assert problems(environ) == problems(environ, {}) == problems(empty) == problems(empty, {}) == missing


WRONG = {
    "AWS_ROLE_ARN": "app",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "a\0b",
    "AWS_ROLE_SESSION_NAME": "a b",
    "AWS_USE_FIPS_ENDPOINT": "yes",
    "AWS_USE_DUALSTACK_ENDPOINT": "1",
    "AWS_REGION": "mars/venus",
    "IRSA_SIDECAR_LISTEN": "localhost",
    "IRSA_SIDECAR_ADMIN_LISTEN": "nowhere",
    "IRSA_SIDECAR_DURATION": "1h",
    "IRSA_SIDECAR_DRAIN_SECONDS": "-1",
    "IRSA_SIDECAR_LOG_LEVEL": "loud",
}


def test_wrong_and_missing_settings_are_listed_together() -> None:
    assert set(problems(WRONG, {})) == set(WRONG)
    assert set(problems(WRONG)) == {name for name in WRONG if name.startswith("AWS_")}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_setting_does_not_hide_a_missing_setting(name: str) -> None:
    expected = [missing for missing in RIGHT if missing != name]
    assert set(problems({name: WRONG[name]}, {})) == {name, *expected}


HOSTILE = (
    "\udcff",
    "\x1b[31m",
    "a\nb",
    "x" * 10_000,
    "9" * 5_000,
    "\u0661\u0662",
    "1e400",
    "{",
    "/a\0b",
    "[::1",
    "127.0.0.1:\u0661",
    "https://[::1",
    "https://[x]",
    "https://h]:1/",
    "https://h:99999999",
    "https://\u2100.com",
    "https://user:hunter2@h]/",
    "https://user:[hunter2@h/",
)
"""Values for which urlsplit, int, os and other parts of Python raise exceptions of their own."""

READ = (
    *RIGHT,
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_STS",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_CA_BUNDLE",
    "AWS_SDK_UA_APP_ID",
    *(f"IRSA_SIDECAR_{setting.variable}" for setting in SETTINGS),
)


@pytest.mark.parametrize("name", READ)
def test_hostile_value_is_accepted_or_reported_without_secrets(name: str) -> None:
    reports = [report_of({**RIGHT, name: value}) for value in HOSTILE]
    assert len(reports) == len(HOSTILE)
    assert not [report for report in reports if "hunter2" in report]


def report_of(environ: dict[str, str]) -> str:
    """Return the error that a command prints, or an empty text."""
    try:
        with all_reported(environ, {}):
            endpoint_of(read_config(environ, {}).sts)
    except ConfigurationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("url", ["https://[::1", "https://\u2100.com", "https://user:hunter2@h]/", "nonsense"])
def test_wrong_endpoint_does_not_hide_a_wrong_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pa#ss@proxy:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert problems({**RIGHT, "AWS_ENDPOINT_URL_STS": url}) == ["AWS_ENDPOINT_URL_STS", "HTTPS_PROXY's"]


def test_files_and_addresses_that_cannot_be_used_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the list, each of these errors would need another start."""
    (tmp_path / "mine").write_text("[default]\n")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pa#ss@proxy:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    wrong = {
        "AWS_CA_BUNDLE": str(tmp_path / "missing.pem"),
        "IRSA_SIDECAR_LISTEN": "0.0.0.0:4772",
        "IRSA_SIDECAR_IMDS_LISTEN": "192.0.2.1:80",
        "IRSA_SIDECAR_CREDENTIALS_FILE": str(tmp_path / "mine"),
        "IRSA_SIDECAR_STATE_DIR": str(tmp_path / "no" / "directory"),
        "IRSA_SIDECAR_LOG_LEVEL": "loud",
    }
    assert set(problems(RIGHT | wrong, {})) == {*wrong, "HTTPS_PROXY's"}
    del wrong["IRSA_SIDECAR_LOG_LEVEL"]
    assert set(problems(RIGHT | wrong, {})) == {*wrong, "HTTPS_PROXY's"}


def test_flag_is_reported_by_its_own_name() -> None:
    assert problems(RIGHT, {"duration_seconds": "1h", "log_level": "loud"}) == ["--duration", "--log-level"]


def test_roles_file_is_read_despite_wrong_settings(tmp_path: Path) -> None:
    file = tmp_path / "roles.yaml"
    file.write_text(one(duration="1h"))
    environ = {"IRSA_SIDECAR_CONFIG": str(file), "IRSA_SIDECAR_LOG_LEVEL": "loud", "AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}
    assert problems(environ, {}) == ["AWS_REGION", "IRSA_SIDECAR_LOG_LEVEL", f"{file},"]


def test_problem_that_is_found_twice_is_listed_once() -> None:
    with pytest.raises(ConfigurationError) as caught, all_reported({}):
        raise ConfigurationError(str(every_problem(ConfigurationError("x"), {}, None)).splitlines()[2])
    assert [line.split(" ")[0] for line in str(caught.value).splitlines()[1:]] == list(RIGHT)


def test_exec_reports_all_wrong_settings() -> None:
    with pytest.raises(ConfigurationError, match="3 settings are missing or wrong"):
        command_config({}, "warning")
    with pytest.raises(ConfigurationError, match=r"(?s)5 settings are missing or wrong:.*--wait is 'x'.*--log-level"):
        command_config({}, "loud", "x")
    with pytest.raises(ConfigurationError, match=r"\AAWS_REGION is not set"):
        command_config({name: value for name, value in RIGHT.items() if name != "AWS_REGION"}, "warning")


@pytest.mark.parametrize(
    "command", [["run"], ["exec", "--", "true"], ["credentials", "--no-daemon"]], ids=lambda c: c[0]
)
def test_every_command_lists_missing_settings(command: list[str]) -> None:
    environ = {"PATH": os.environ["PATH"], "IRSA_SIDECAR_LISTEN": "127.0.0.1:0", "IRSA_SIDECAR_ADMIN_LISTEN": "off"}
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", *command], env=environ, capture_output=True, text=True, check=False
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert lines[0] == "irsa-sidecar: error: 3 settings are missing or wrong:"
    assert [line.split(" is not set")[0].strip() for line in lines[1:]] == list(RIGHT)
