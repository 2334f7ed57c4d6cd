"""Test the flags and the exit status of the command `irsa-sidecar webhook`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import cli
from sidecar.errors import ConfigurationError
from sidecar.webhook.certificate.mounted import MountedCertificate
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.tls import Tls
from tests.unit.webhook.cluster import (
    Events,
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--image", "a b"], "--image is 'a b'"),
        (["--image", "x"], "Neither --region nor AWS_REGION is set"),
        (["--image", "x", "--region", "eu-west-1", "--env", "AWS_REGION=x"], "--env sets AWS_REGION"),
        (["--image", "x", "--region", "eu-west-1", "--key-file", "k"], "must be set together"),
        (["--image", "x", "--region", "eu-west-1", "--drain-seconds", "-1"], "--drain-seconds is '-1'"),
        (["--image", "x", "--region", "eu-west-1", "--listen", "x"], "--listen is 'x'"),
        (["--image", "x", "--region", "eu-west-1", "--sidecar-resources", "[]"], "--sidecar-resources is '[]'"),
    ],
)
def test_wrong_flag_exits_with_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["webhook", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_missing_or_empty_mounted_certificate_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, words in (("none", "cannot be read"), ("empty", "not a file with a certificate")):
        path = str(tmp_path / name)
        with pytest.raises(ConfigurationError, match=words):
            MountedCertificate(path, path, Tls(), Events().log, WebhookMetrics())


def as_a_process(prelude: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with correct arguments, and return the result. `prelude` is Python code that runs first."""
    ending = "sys.exit(cli.main(['webhook', '--image', 'x', '--region', 'eu-west-1']))"
    command = [sys.executable, "-c", f"import sys; from sidecar import cli; {prelude}; {ending}"]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_error_names_a_missing_kubeconfig(tmp_path: Path) -> None:
    done = as_a_process("pass", KUBECONFIG=str(tmp_path / "none"))
    assert done.returncode == 2
    assert "There is no kubeconfig" in done.stderr


def test_error_names_a_missing_package_and_its_extra() -> None:
    done = as_a_process("sys.modules['lightkube'] = None")
    assert done.returncode == 2
    assert "needs the package lightkube, of the extra webhook. Run `make tools`" in done.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_early_signal_exits_with_0(name: str) -> None:
    done = as_a_process(f"import signal, trio; trio.run = lambda *_: signal.raise_signal(signal.{name})")
    assert (done.returncode, done.stderr) == (0, "")
